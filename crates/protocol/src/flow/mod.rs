//! One request as a state machine, from its arrival to its answer.
//!
//! An event goes in, the next step comes out. What drives the flow performs the effect and feeds back what became
//! of it. A crash is a flow that is not stepped any more; "carried out, but the reply was lost" is an event like any
//! other. `docs/PROTOCOL.md` has the diagram, which a test generates from this code.
//!
//! [`Flow::step`] maps a state and an event to a handler. Handlers return where the flow goes [`Next`], and
//! [`Flow::enter`] maps that to the next state and effect. `write` dispatches the outcomes of conditional writes in the
//! same way:
//!
//! | module | contents |
//! | --- | --- |
//! | `look` | read the record, decide, wait, finish |
//! | `lease` | check the secret, take the lease |
//! | `write` | the conditional write: write, read back, back off |
//! | `permit` | acquire a login permit; block logins after a 429 |
//! | `renew` | refresh and login |
//! | `probe` | find out whether a reported token is dead |
//! | `revoke` | revoke withdrawn pairs; record orphans |
//! | `save` | end the lease by writing what came of it |

mod lease;
mod look;
mod permit;
mod probe;
mod renew;
mod revoke;
mod save;
#[cfg(test)]
mod tests;
mod write;

use crate::{
    Account, Cache, Call, Context, Credentials, Effect, Event, Failure, Generation, Holder, Lease, Notice,
    Outcome, Pair, Progress, Request, Revocation, SecretVersion, ServedFrom, Step, Timestamp,
};
use lease::Purpose;
use save::Ending;
use write::Attempt;

/// One request on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the request so far")]
pub struct Flow {
    request: Request,
    cache: Cache,
    progress: Progress,
    state: State,
    /// When the effect that is being performed was requested.
    requested_at: Timestamp,
    /// The draw has selected this request for early refresh.
    early_refresh: bool,
    /// The contention jitter is behind it.
    jittered: bool,
    /// Where `cache.record` came from: an earlier request, or this one's read of the table.
    source: ServedFrom,
    /// A pair that this flow obtained, and lost the lease before it was saved.
    orphan: Option<Pair>,
    /// Whether this flow has renewed the pair.
    renewed: bool,
    /// Reads of a record that was not usable yet. Pauses grow with them.
    polls: u32,
    /// When the first write of a lease failed, if none was applied since.
    lease_failed_since: Option<Timestamp>,
    /// The secret version whose login was answered with 401 in this flow, under whatever lease.
    rejected_version: Option<SecretVersion>,
    /// The permit that this flow acquires for its next login, until that was sent. A second login needs its own permit,
    /// even under the same lease.
    unsent_permit: Option<Holder>,
    /// A login of this flow did not leave in time.
    late_login: bool,
    notices: Vec<Notice>,
}

/// What a flow waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Start,
    ReadingRecord,
    Waiting,
    CheckingSecret,
    Writing(Attempt),
    ReadingBack(Attempt),
    BackingOff(Attempt),
    Refreshing(Held),
    RereadingSecret(Held),
    LoggingIn(Held, Credentials),
    Probing(Held),
    Revoking { held: Held, current: Revocation, failed: Vec<Revocation> },
    Done,
}

/// What the holder of a lease knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    /// The record as the lease-taking write left it. Its version is the fence.
    account: Account,
    lease: Lease,
    /// The secret version whose login was answered with 401 under this lease.
    rejected_version: Option<SecretVersion>,
}

impl Held {
    fn fence(&self) -> Generation {
        Generation(self.account.version.0)
    }
}

/// Where a flow goes next.
enum Next {
    /// Read the record, then decide.
    Look,
    /// Pause, then read the record.
    LookAt(Timestamp),
    /// Decide on the record as it was last read.
    Decide,
    /// Read the secret, then take the lease for a login.
    CheckSecret,
    Acquire(Purpose),
    RereadSecret(Held),
    AcquirePermit(Held, Credentials),
    RevokePending(Held, Vec<Revocation>),
    /// End the lease: write `held.account`.
    Save(Held, Ending),
    Write(Attempt, Effect),
    ReadBack(Attempt),
    BackOff(Attempt, Timestamp),
    /// Send a call, until this instant at the latest, and wait for the reply in this state.
    Send(State, Call, Timestamp),
    Done(Result<Outcome, Failure>),
}

impl Next {
    /// End the lease without a pair, for this reason.
    fn fail(held: Held, failure: Failure) -> Self {
        Self::Save(held, Ending::Failed(failure))
    }

    fn unexpected() -> Self {
        Self::Done(Err(Failure::Defect("an event came that does not answer the last effect")))
    }
}

impl Flow {
    /// A request, and what the instance knows of its account.
    pub fn new(request: Request, cache: Cache) -> Self {
        Self {
            request,
            cache,
            progress: Progress::default(),
            state: State::Start,
            requested_at: Timestamp::default(),
            early_refresh: false,
            jittered: false,
            source: ServedFrom::Memory,
            orphan: None,
            renewed: false,
            polls: 0,
            lease_failed_since: None,
            rejected_version: None,
            unsent_permit: None,
            late_login: false,
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
        let next = match (std::mem::replace(&mut self.state, State::Done), event) {
            (State::ReadingRecord, Event::Account(read)) => self.looked(cx, read),
            (State::Waiting, Event::Resumed) => Next::Look,
            (State::CheckingSecret, Event::Secret(read)) => self.checked_secret(cx, read),
            (State::Writing(write), Event::Written(outcome)) => self.written(cx, write, outcome),
            (State::ReadingBack(write), event) => self.read_back(cx, write, event),
            (State::BackingOff(write), Event::Resumed) => write.after_back_off(cx),
            (State::Refreshing(held), Event::Replied(reply)) => self.renewal_replied(cx, held, None, reply),
            (State::RereadingSecret(held), Event::Secret(read)) => self.reread_secret(cx, held, read),
            (State::LoggingIn(held, credentials), Event::Replied(reply)) => {
                self.renewal_replied(cx, held, Some(credentials), reply)
            }
            (State::Probing(held), Event::Replied(reply)) => self.probed(cx, held, &reply),
            (State::Revoking { held, current, failed }, Event::Replied(reply)) => {
                self.revoked(held, current, failed, &reply)
            }
            _ => Next::unexpected(),
        };
        self.enter(cx, next)
    }

    /// Goes where a handler said, until an effect has to be performed or the request has ended.
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
                Next::RereadSecret(held) => break (State::RereadingSecret(held), Effect::ReadSecret),
                Next::Send(state, call, not_after) => break (state, Effect::Send { call, not_after }),
                Next::Done(result) => return Step::Done(result),
                Next::Decide => self.decide(cx),
                Next::Acquire(purpose) => self.acquire(cx, purpose),
                Next::AcquirePermit(held, credentials) => self.acquire_permit(cx, held, credentials),
                Next::RevokePending(held, failed) => self.revoke_pending(cx, held, failed),
                Next::Save(held, ending) => self.save(cx, held, ending),
            };
        };
        (self.state, self.requested_at) = (state, cx.now);
        Step::Perform(effect)
    }
}
