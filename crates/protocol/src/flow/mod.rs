//! One request as a state machine, from its arrival to its answer.
//!
//! An event goes in, the next step comes out. The driver performs the effect and feeds back the result. A crash is a
//! flow that is no longer stepped; "carried out, but the reply was lost" is an event like any other.
//! `docs/protocol/state-machine.md` has the diagram, which a test generates from this code.
//!
//! [`Flow::step`] maps a state and an event to a handler. Handlers return where the flow goes [`Next`], and
//! [`Flow::enter`] maps that to the next state and effect. `write` dispatches the outcomes of conditional writes in the
//! same way. The names of the methods follow a rule:
//!
//! - A participle (`looked`, `checked_secret`, `written`, `renewal_replied`, `saved`) handles an event, and is called by
//!   `step` or by the dispatcher in `write`.
//! - An imperative that returns a `Next` (`acquire`, `acquire_permit`, `revoke_pending`, `save`) begins a stage, and is
//!   called by `enter`. No other call leads from one stage to the next.
//! - `finish` ends the request, with the last known token if it is usable. `Next::fail` ends the lease first.
//!
//! | module | contents |
//! | --- | --- |
//! | `state` | the shared types; it imports none of the others |
//! | `look` | read the record, decide, wait, finish |
//! | `lease` | check the secret, take the lease |
//! | `write` | the conditional write: write, read back, back off |
//! | `permit` | acquire a login permit; block logins after a 429 |
//! | `renew` | refresh and login |
//! | `grant` | renew a grant that only a person can renew |
//! | `probe` | find out whether a reported token is dead |
//! | `revoke` | revoke withdrawn pairs; record orphans |
//! | `save` | end the lease by writing its result |

mod grant;
mod lease;
mod look;
mod permit;
mod probe;
mod renew;
mod revoke;
mod save;
mod state;
#[cfg(test)]
mod tests;
mod write;

use crate::{
    Cache, Context, Effect, Event, Failure, Holder, Moment, Notice, Pair, Progress, Renewal, Request,
    SecretVersion, ServedFrom, ServiceRefusal, Step, Timestamp,
};
use state::{Next, State};

/// One request in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the request so far")]
pub struct Flow {
    request: Request,
    cache: Cache,
    progress: Progress,
    state: State,
    /// When the current effect was requested.
    requested_at: Moment,
    /// The draw has selected this request for early refresh.
    early_refresh: bool,
    /// Has already paused for contention jitter.
    jittered: bool,
    /// The source of `cache.record`: an earlier request, or this one's read of the table.
    source: ServedFrom,
    /// A pair that this flow obtained, but lost the lease before saving it.
    orphan: Option<Pair>,
    /// Whether this flow has renewed the pair.
    renewed: bool,
    /// Reads of a record that was not usable yet. Pauses grow with them.
    polls: u32,
    /// When the first write of a lease failed, if none was applied since.
    lease_failed_since: Option<Timestamp>,
    /// The secret version whose login got 401 in this flow. The record says so too, unless the lease was lost before it
    /// was saved.
    rejected_version: Option<SecretVersion>,
    /// The store refused the last write of this flow.
    refusal: Option<ServiceRefusal>,
    /// The permit that this flow acquires for its next login, until that is sent. A second login needs its own permit,
    /// even under the same lease.
    unsent_permit: Option<Holder>,
    /// A login of this flow did not leave in time.
    late_login: bool,
    /// The store was reread because the clock could not be trusted.
    looked_at_time_again: bool,
    /// A read of the record that ran out of time was repeated.
    read_again: bool,
    notices: Vec<Notice>,
}

impl Flow {
    /// A request, and what the instance knows about its account.
    pub fn new(request: Request, cache: Cache) -> Self {
        Self {
            request,
            cache,
            progress: Progress::default(),
            state: State::Start,
            requested_at: Moment::default(),
            early_refresh: false,
            jittered: false,
            source: ServedFrom::Memory,
            orphan: None,
            renewed: false,
            polls: 0,
            lease_failed_since: None,
            rejected_version: None,
            refusal: None,
            unsent_permit: None,
            late_login: false,
            looked_at_time_again: false,
            read_again: false,
            notices: Vec::new(),
        }
    }

    /// What the instance knows now. Kept for the next request after every step.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What happened since the last call, for the log.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The first step. The draw is the one with which the cache was looked up: selection for early refresh happens
    /// once per request.
    pub fn begin(&mut self, cx: Context<'_>) -> Step {
        let next = match std::mem::replace(&mut self.state, State::Done) {
            State::Start => self.look_up(cx),
            _ => Next::Done(Err(Failure::Defect("a flow was begun twice"))),
        };
        self.enter(cx, next)
    }

    /// Takes an event and returns the next step. Total: an event that does not answer the last effect ends the flow
    /// with a defect.
    pub fn step(&mut self, cx: Context<'_>, event: Event) -> Step {
        let event = match event {
            Event::Replied(reply) => {
                let (reply, is_too_long) = reply.within_bounds();
                self.notices.extend(is_too_long.then_some(Notice::TokenTooLong));
                Event::Replied(reply)
            }
            event => event,
        };
        let next = match (std::mem::replace(&mut self.state, State::Done), event) {
            (State::ReadingRecord, Event::Account(read)) => self.looked(cx, read),
            (State::Waiting, Event::Resumed) => Next::Look,
            (State::CheckingSecret, Event::Secret(read)) => self.checked_secret(cx, read),
            (State::Writing(write), Event::Written(outcome)) => self.written(cx, write, outcome),
            (State::ReadingBack(write), event) => self.read_back(cx, write, event),
            (State::BackingOff(write), Event::Resumed) => write.after_back_off(cx),
            (State::Refreshing(held, secret), Event::Replied(reply)) => {
                self.renewal_replied(cx, held, Renewal::Refresh(secret), reply)
            }
            (State::RenewingGrant(held, marked), Event::Replied(reply)) => {
                self.grant_replied(cx, held, marked, reply)
            }
            (State::RereadingSecret(held), Event::Secret(read)) => self.reread_secret(cx, held, read),
            (State::LoggingIn(held, credentials), Event::Replied(reply)) => {
                self.renewal_replied(cx, held, Renewal::Login(credentials), reply)
            }
            (State::Probing(held), Event::Replied(reply)) => self.probed(cx, held, &reply),
            (State::ReadingClient(held), Event::Secret(read)) => {
                Next::RevokePending(held, read.ok(), Vec::new())
            }
            (State::Revoking { held, secret, current, failed }, Event::Replied(reply)) => {
                self.revoked(cx, held, secret, current, failed, &reply)
            }
            (State::ReadingLimiter, Event::Limiter(read)) => self.read_limiter(cx, read),
            _ => Next::unexpected(),
        };
        self.enter(cx, next)
    }

    /// Follows the handlers until an effect has to be performed or the request has ended.
    fn enter(&mut self, cx: Context<'_>, mut next: Next) -> Step {
        let (state, effect) = loop {
            next = match next {
                Next::Look => break (State::ReadingRecord, Effect::ReadAccount),
                Next::LookAt(until) => break (State::Waiting, Effect::Pause { until }),
                Next::CheckSecret => break (State::CheckingSecret, Effect::ReadSecret),
                Next::Write(write, effect) => break (State::Writing(write), effect),
                Next::ReadBack(write) => {
                    let effect = write.read_effect();
                    break (State::ReadingBack(write), effect);
                }
                Next::BackOff(write, until) => break (State::BackingOff(write), Effect::Pause { until }),
                Next::ReadClient(held) => break (State::ReadingClient(held), Effect::ReadSecret),
                Next::RereadSecret(held) => break (State::RereadingSecret(held), Effect::ReadSecret),
                Next::Send(state, call, not_after) => break (state, Effect::Send { call, not_after }),
                Next::ReadLimiter(name) => break (State::ReadingLimiter, Effect::ReadLimiter(name)),
                Next::Done(result) => return Step::Done(result),
                Next::Decide => self.decide(cx),
                Next::Acquire(purpose) => self.acquire(cx, purpose),
                Next::AcquirePermit(held, credentials) => self.acquire_permit(cx, held, credentials),
                Next::MarkGrant(held, secret, not_after) => self.mark_grant(cx, held, secret, not_after),
                Next::RevokePending(held, secret, failed) => self.revoke_pending(cx, held, secret, failed),
                Next::Save(held, ending) => self.save(cx, held, ending),
            };
        };
        (self.state, self.requested_at) = (state, cx.moment());
        Step::Perform(effect)
    }
}
