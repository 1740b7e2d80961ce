//! One request, from its arrival to its answer, and its checks, whatever strategy runs on the instance.

use crate::{
    HOUR, SECOND, Strategy,
    faults::Fault,
    world::{Arrival, World},
};
use protocol::{Answer, Failure, Intent, Outcome, Request, millis};
use std::time::Duration;

/// Reserved for sending the answer. The function ends this long before its caller's deadline.
pub(crate) const ANSWER_RESERVE_MS: u64 = 300;
/// A request over HTTP has 28 s, because API Gateway ends it after 29 s, less the reserve.
pub(crate) const HTTP_TIME: Duration = Duration::from_millis(28_000 - ANSWER_RESERVE_MS);
/// A direct invocation has the function's timeout of 30 s, less the reserve.
pub(crate) const DIRECT_TIME: Duration = Duration::from_millis(30_000 - ANSWER_RESERVE_MS);

impl World {
    pub(crate) fn serve(&mut self, index: usize, arrival: Arrival) {
        let rejected = self.report(index, arrival.account);
        let intent = Intent::Token { min_ttl: arrival.min_ttl, rejected };
        match self.strategy {
            Strategy::Broker => self.serve_by_broker(index, arrival, intent),
            _ => self.serve_by_baseline(index, arrival, intent),
        }
    }

    /// Whether an instance that renews dies now.
    pub(crate) fn strikes_holder(&mut self, renews: bool) -> bool {
        let lately = self.now_ms < self.holder_died_ms + HOUR / 2;
        let dies = renews && !lately && self.faults.strikes(Fault::HoldersDie, 2, self.now_ms, &mut self.rng);
        if dies {
            self.holder_died_ms = self.now_ms;
        }
        dies
    }

    /// A request ends in time.
    pub(crate) fn request_ends(
        &mut self,
        account: usize,
        request: &Request,
        result: Result<Outcome, Failure>,
        arrived_ms: u64,
        warm: bool,
        stopped: bool,
    ) {
        if !stopped {
            let code = result.as_ref().err().map(|failure| failure.code().as_str());
            self.checks.waited(self.now_ms - arrived_ms, code);
            if let Ok(Outcome::Token(answer)) = &result
                && self.upstream.issued_at_ms(&answer.access_token) <= arrived_ms
            {
                self.checks.held_back(self.now_ms - arrived_ms);
            }
        }
        match result {
            Ok(Outcome::Token(answer)) => self.answered(account, request, &answer, arrived_ms),
            Ok(Outcome::Report { .. } | Outcome::Unblocked { .. }) => {
                panic!("a request for a token was answered with a report")
            }
            Err(failure) => self.failed(account, &failure, warm, arrived_ms),
        }
    }

    /// Checks I4, and I7 after the last fault.
    pub(crate) fn answered(&mut self, account: usize, request: &Request, answer: &Answer, arrived_ms: u64) {
        let Intent::Token { min_ttl, rejected } = request.intent else { return };
        let now_ms = self.now_ms;
        let kept_until_ms = now_ms + answer.expires_in_seconds * SECOND;
        let ends_ms = self.upstream.expires_at_ms(&answer.access_token);
        self.checks.hold("I4", answer.expires_in_seconds >= 1, || "less than one second is left".to_owned());
        self.checks.hold("I4", kept_until_ms <= ends_ms, || {
            format!("handed out at {now_ms} until {kept_until_ms}, but it ends at {ends_ms}")
        });
        let assumed_ms = if self.plan.varied_answers { 3_600 * SECOND } else { self.plan.token_life_ms };
        // Half of the lifetime, as the instance's own clock measures it.
        let half_ms = self.plan.token_life_ms.min(assumed_ms) / 2 - millis(self.policy.clock_margin);
        // Callers get the token of a grant until it expires.
        let wanted_ms = if self.plan.grace_ms.is_some() { SECOND } else { millis(min_ttl).min(half_ms) };
        self.checks.hold("I4", answer.expires_in_seconds >= wanted_ms / SECOND, || {
            format!("{} s, but {wanted_ms} ms were requested", answer.expires_in_seconds)
        });
        let alive = self.upstream.is_alive(&answer.access_token, now_ms);
        self.checks.tally.dead_tokens += u64::from(!alive);
        let unheard = rejected == Some(answer.generation) && !alive;
        self.checks.hold("I7", !unheard || arrived_ms < self.settled_ms, || {
            format!("a caller who reported a dead token at {now_ms} got the same token")
        });
        self.upstream.use_token(&answer.access_token, now_ms);
        self.load.handed_out[account] = Some((answer.generation, answer.access_token.clone()));
        let wait_ms = now_ms - arrived_ms;
        let age_ms = now_ms - self.upstream.issued_at_ms(&answer.access_token);
        self.checks.figures.answered(wait_ms, age_ms, now_ms);
        let longest_ms = millis(self.policy.lease + self.policy.upstream_timeout);
        self.checks.hold("I7", wait_ms <= longest_ms || arrived_ms < self.settled_ms, || {
            format!("an answer at {now_ms} took {wait_ms} ms")
        });
    }

    pub(crate) fn failed(&mut self, account: usize, failure: &Failure, warm: bool, arrived_ms: u64) {
        self.checks.hold("I7", arrived_ms < self.settled_ms, || {
            format!("a request failed at {}, after all faults: {failure}", self.now_ms)
        });
        self.checks.failed(account, failure.code().as_str());
        self.checks.tally.warm_failures += u64::from(warm);
    }
}
