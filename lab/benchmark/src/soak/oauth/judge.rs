//! Judges a record: an independent copy of the broker's rules, as far as the wire shows whether they were kept.

use super::record::{Exchange, Observation, Record};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The settings of the brokers under test.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    pub(super) upstream_timeout: Duration,
    pub(super) clock_margin: Duration,
    /// After a request's arrival.
    pub(super) deadline: Duration,
}

/// What the rules need to know about an account.
#[derive(Clone, Copy)]
pub(super) struct GrantRules {
    /// Only a person can renew its grant.
    pub(super) by_person: bool,
    /// How long the server accepts a used refresh token again.
    pub(super) resend_within: Duration,
}

/// A request leaves at most this long before it arrives.
const TRANSIT: Duration = Duration::from_millis(250);
/// A call starts only if its request has this much time left after the call.
const COMMIT_RESERVE: Duration = Duration::from_secs(1);
/// The shortest life that is handed out.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// For this long after the secret got a new grant, an instance may still answer that the grant is lost.
const RECHECK: Duration = Duration::from_secs(30);
/// A reply is saved within this time, unless its process is disturbed.
const SAVING: Duration = Duration::from_secs(3);

/// What went well, and what broke a rule.
#[derive(Default)]
pub(super) struct Verdict {
    /// Refresh tokens that were sent again, by the reason that allows it.
    pub(super) resends: BTreeMap<&'static str, usize>,
    /// Grants that were lost because the server carried out a call whose reply was lost.
    pub(super) grants_lost: usize,
    /// Requests without a token while none was usable.
    pub(super) refused: usize,
    pub(super) broken: Vec<String>,
}

pub(super) fn judge(record: &Record, accounts: &BTreeMap<String, GrantRules>, timing: Timing) -> Verdict {
    let judge = Judge { record, timing };
    let mut verdict = Verdict::default();
    for (account, rules) in accounts {
        judge.resends(account, *rules, &mut verdict);
        judge.losses(account, *rules, &mut verdict);
        judge.answers(account, &mut verdict);
    }
    verdict
}

struct Judge<'a> {
    record: &'a Record,
    timing: Timing,
}

impl Judge<'_> {
    fn exchanges(&self, account: &str) -> impl Iterator<Item = &Exchange> {
        self.record.exchanges.iter().filter(move |exchange| exchange.account == account)
    }

    fn observations(&self, account: &str) -> impl Iterator<Item = &Observation> {
        self.record.observations.iter().filter(move |observation| observation.account == account)
    }

    /// No refresh token is sent again unless a rule allows it.
    fn resends(&self, account: &str, rules: GrantRules, verdict: &mut Verdict) {
        let mut sent: Vec<&Exchange> = Vec::new();
        for exchange in self.exchanges(account).filter(|exchange| exchange.token.is_some()) {
            let earlier: Vec<_> =
                sent.iter().copied().filter(|earlier| earlier.token == exchange.token).collect();
            if let Some(first) = earlier.first() {
                match self.allows(rules, &earlier, exchange) {
                    Ok(reason) => *verdict.resends.entry(reason).or_default() += 1,
                    Err(reason) => verdict.broken.push(format!(
                        "{account}: {:?} was sent again after {:.1} s, {reason}; before: {}",
                        exchange.token.expect("a token"),
                        (exchange.arrived_at - first.arrived_at).as_secs_f64(),
                        history(earlier.iter().copied())
                    )),
                }
            }
            sent.push(exchange);
        }
    }

    fn allows(
        &self,
        rules: GrantRules,
        earlier: &[&Exchange],
        resend: &Exchange,
    ) -> Result<&'static str, &'static str> {
        let (mut settled_at, mut reason) = (None, "(iii) the server kept it, or did nothing");
        for exchange in earlier {
            match self.outcome(exchange) {
                Outcome::Kept => {}
                Outcome::Dead if self.has_new_secret(exchange.arrived_at, resend) => {
                    reason = "(iv) a new secret";
                }
                Outcome::Dead => return Err("though the server had refused it"),
                Outcome::Unclear(settled) => settled_at = settled_at.max(Some(settled)),
            }
        }
        let (Some(settled_at), Some(first)) = (settled_at, earlier.first()) else { return Ok(reason) };
        if !rules.by_person {
            return Err("though a login repairs the grant");
        }
        if resend.arrived_at < settled_at {
            return Err("though an earlier call was not settled");
        }
        if resend.arrived_at < first.arrived_at + rules.resend_within {
            return Ok("(i) the provider's grace");
        }
        if self.has_nothing_to_lose(resend) {
            return Ok("(ii) the last resort");
        }
        Err("though the access token was alive and the provider gives no grace")
    }

    /// What the broker may conclude from a reply. It may have been killed before it did.
    fn outcome(&self, exchange: &Exchange) -> Outcome {
        let Timing { upstream_timeout, clock_margin, .. } = self.timing;
        let late_copy = upstream_timeout * 2 + clock_margin;
        let unclear = Outcome::Unclear(self.deadline(exchange) + late_copy + clock_margin);
        let Some((_, status)) = exchange.reply else { return unclear };
        let answer = exchange.carried_out.as_ref().filter(|answer| answer.status == status);
        let error = answer.and_then(|answer| answer.error.as_deref());
        match status {
            200 if answer
                .is_some_and(|answer| answer.refresh.is_none_or(|next| Some(next) == exchange.token)) =>
            {
                Outcome::Kept
            }
            429 | 403 => Outcome::Kept,
            // The verdict may not have been saved.
            400 | 401 if error == Some("invalid_grant") && self.may_be_unsaved(exchange, true) => unclear,
            400 | 401 if error == Some("invalid_grant") => Outcome::Dead,
            400 | 401 if error.is_some() => Outcome::Kept,
            500.. => Outcome::Unclear(exchange.arrived_at + late_copy.saturating_sub(TRANSIT)),
            // The successor may not have been saved.
            _ => unclear,
        }
    }

    /// The deadline of the request that sent the call: the earliest of those that may have.
    fn deadline(&self, exchange: &Exchange) -> Instant {
        let Timing { upstream_timeout, clock_margin, deadline } = self.timing;
        let longest_travel = upstream_timeout * 2 + clock_margin;
        let senders = self.record.requests.iter().filter(|(account, ran)| {
            let may_have_sent = ran.start..ran.end + longest_travel;
            *account == exchange.account && may_have_sent.contains(&exchange.arrived_at)
        });
        let in_time_for_the_call =
            exchange.arrived_at + (upstream_timeout + COMMIT_RESERVE).saturating_sub(TRANSIT);
        let deadlines = senders.map(|(_, ran)| ran.start + deadline);
        deadlines.min().map_or(in_time_for_the_call, |earliest| earliest.max(in_time_for_the_call))
    }

    fn has_new_secret(&self, since: Instant, resend: &Exchange) -> bool {
        let mut grants = self.record.grants.iter();
        grants.any(|(account, at)| *account == resend.account && (since..resend.arrived_at).contains(at))
    }

    /// Whether the access token that came with the refresh token is dead or has expired.
    fn has_nothing_to_lose(&self, resend: &Exchange) -> bool {
        let came_with = |exchange: &&Exchange| {
            exchange.carried_out.as_ref().is_some_and(|answer| answer.refresh == resend.token)
        };
        let Some(origin) = self.exchanges(&resend.account).filter(came_with).last() else { return true };
        let Some(answer) = &origin.carried_out else { return true };
        let is_dead = answer
            .access
            .and_then(|access| self.record.dead.get(&access))
            .is_some_and(|at| *at <= resend.arrived_at);
        is_dead
            || resend.arrived_at + TRANSIT >= origin.arrived_at + answer.expires_in + self.timing.clock_margin
    }

    /// A grant is lost only if the server carried out a call whose reply was lost, and gives no grace.
    fn losses(&self, account: &str, rules: GrantRules, verdict: &mut Verdict) {
        let grants = self.record.grants.iter().filter(|(name, _)| name == account).map(|(_, at)| *at);
        let grants: Vec<_> = grants.collect();
        for (number, begins_at) in grants.iter().enumerate() {
            let ends_at = grants.get(number + 1);
            let refused_at = self.record.refused_since(account, *begins_at);
            let lost = self.observations(account).find(|observation| {
                observation.sent_at > *begins_at
                    && ends_at.is_none_or(|ends_at| observation.sent_at < *ends_at)
                    && observation.answer.as_ref().is_err_and(|code| code == "grant_lost")
                    // Otherwise the error is about the previous grant.
                    && (refused_at.is_some_and(|at| at < observation.at) || observation.sent_at > *begins_at + RECHECK)
            });
            let Some(lost) = lost else { continue };
            let excuse = self.exchanges(account).find(|exchange| {
                (*begins_at..lost.at).contains(&exchange.arrived_at)
                    && exchange.arrived_at + rules.resend_within < lost.at
                    && self.may_have_cost_the_grant(exchange)
            });
            match excuse {
                Some(_) => verdict.grants_lost += 1,
                None => {
                    let since = self
                        .exchanges(account)
                        .filter(|exchange| (*begins_at..lost.at).contains(&exchange.arrived_at));
                    verdict.broken.push(format!(
                        "{account}: grant {number} was lost without need after {:.1} s; calls: {}",
                        (lost.at - *begins_at).as_secs_f64(),
                        history(since)
                    ));
                }
            }
        }
    }

    /// Whether the server replaced the token, and the reply may not have been saved.
    fn may_have_cost_the_grant(&self, exchange: &Exchange) -> bool {
        let answer = exchange.carried_out.as_ref().filter(|answer| answer.status == 200);
        answer.is_some_and(|answer| answer.refresh != exchange.token) && self.may_be_unsaved(exchange, false)
    }

    /// Whether the server's answer did not arrive in time, or the process may not have saved it. The broker retries
    /// until a pair is saved; a verdict may be forgotten if the table fails.
    fn may_be_unsaved(&self, exchange: &Exchange, is_verdict: bool) -> bool {
        let (Some(answer), Some((replied_at, status))) = (&exchange.carried_out, exchange.reply) else {
            return true;
        };
        let was_late = replied_at - exchange.arrived_at + TRANSIT > self.timing.upstream_timeout;
        let saving = exchange.arrived_at..replied_at + SAVING;
        let was_disturbed = self.record.disturbances.iter().any(|(account, lasted)| {
            account.as_ref().is_none_or(|account| *account == exchange.account)
                && *lasted.start() < saving.end
                && saving.start <= *lasted.end()
        });
        let table_failed = self.record.table_failures.iter().any(|at| saving.contains(at));
        status != answer.status || was_late || was_disturbed || (is_verdict && table_failed)
    }

    /// Callers get the token while it is usable, and none that has expired. Generations only grow.
    fn answers(&self, account: &str, verdict: &mut Verdict) {
        let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
        for observation in self.observations(account) {
            match &observation.answer {
                Ok(answer) => {
                    let last = newest.entry(observation.process).or_default();
                    if answer.generation < *last {
                        verdict
                            .broken
                            .push(format!("{account}: generation {} after {last}", answer.generation));
                    }
                    *last = answer.generation;
                    let issued = self.exchanges(account).filter_map(|exchange| exchange.carried_out.as_ref());
                    let issue = issued.filter(|issue| issue.access == Some(answer.token)).last();
                    if issue.is_none_or(|issue| {
                        observation.sent_at + answer.expires_in > issue.at + issue.expires_in
                    }) {
                        verdict
                            .broken
                            .push(format!("{account}: {:?} is said to live too long", answer.token));
                    }
                }
                Err(code) if code.is_empty() || code == "internal" => {
                    verdict.broken.push(format!("{account}: an error that is a defect: {code:?}"));
                }
                Err(code) => match self.usable_token(observation) {
                    None => verdict.refused += 1,
                    Some(token) => {
                        verdict.broken.push(format!("{account}: {code}, though {token}"));
                    }
                },
            }
        }
    }

    /// The newest token that callers knew, if it was usable until the request ended.
    fn usable_token(&self, refused: &Observation) -> Option<String> {
        let answers = self.observations(&refused.account).filter(|known| known.at < refused.sent_at);
        let answers = answers.filter_map(|known| Some((known, known.answer.as_ref().ok()?)));
        // Another pair may be in one process only.
        let answers = answers.filter(|(_, answer)| answer.from_table);
        let (known, answer) =
            answers.max_by_key(|(known, answer)| (answer.generation, known.sent_at + answer.expires_in))?;
        let is_dead = self.record.dead.get(&answer.token).is_some_and(|at| *at <= refused.at);
        let left = (known.sent_at + answer.expires_in).saturating_duration_since(refused.at);
        (!is_dead && left >= SHORTEST_TTL)
            .then(|| format!("{} was usable for {} s", answer.token, left.as_secs()))
    }
}

fn history<'a>(exchanges: impl Iterator<Item = &'a Exchange>) -> String {
    exchanges.map(Exchange::to_string).collect::<Vec<_>>().join(", ")
}

enum Outcome {
    /// The token is as good as before.
    Kept,
    /// The server refuses it.
    Dead,
    /// It may have been used. A copy of the call may arrive until then.
    Unclear(Instant),
}

#[cfg(test)]
mod tests;
