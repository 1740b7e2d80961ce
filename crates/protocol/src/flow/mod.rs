//! One request, from its arrival to its answer, a step at a time.
//!
//! A [`Flow`] is a state machine: an event goes in, the next effect comes out, and whoever drives it performs
//! the effect and feeds back what became of it. A crash can therefore be placed between any two effects, and
//! "it was done, but the reply was lost" is an event like any other.
//!
//! ```text
//!            ┌──────────────────────── look ◄───────────────┐
//!  begin ──► recall ──► look ──► decide ─► wait ────────────┘
//!              │                   │ renew
//!              │                   ├─ login: secret ─┐
//!              ▼                   ▼                 ▼
//!            answer             acquire the lease (conditional write)
//!              ▲                   │
//!              │                   ├─ refresh ── refused ─► secret ─► ledger ─► login
//!              │                   └─ login: ledger (conditional write) ─► login
//!              │                                 │
//!              └──── answer or fail ◄── save what came of it (conditional write)
//! ```
//!
//! `look` reads and decides, `acquire` takes the lease, `granting` talks to the upstream, `paying`
//! keeps the ledger, `save` writes down what came of it, `orphan` revokes what somebody else overtook.
//! Under the same lease, `probe` verifies a report that a token was rejected, and `revoke` withdraws a pair.

mod acquire;
mod granting;
mod look;
mod orphan;
mod paying;
mod probe;
mod revoke;
mod save;
#[cfg(test)]
mod tests;

use super::{
    decide::{Ask, Done, ServedFrom},
    error::Failure,
    grant::{Call, Credentials, Reply},
    memory::Memory,
    policy::Policy,
    record::{Account, Generation, Holder, Lease, Ledger, Pair, Revocation, SecretVersion, Version},
    time::{Draw, Timestamp},
};

/// What the flow wants done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Read the account's record, strongly consistent. Answered by [`Event::Account`].
    ReadAccount,
    /// Write the account's record if the version still stands (zero: if there is none). [`Event::Written`].
    WriteAccount {
        /// The version that must still stand.
        expected: Version,
        /// What to write.
        next: Account,
    },
    /// Read the ledger, strongly consistent. [`Event::Ledger`].
    ReadLedger,
    /// Write the ledger if the version still stands (zero: if there is none). [`Event::Written`].
    WriteLedger {
        /// The version that must still stand.
        expected: Version,
        /// What to write.
        next: Ledger,
    },
    /// Read the account's secret. [`Event::Secret`].
    ReadSecret,
    /// Send a request upstream, unless its latest instant has passed when it is about to leave.
    /// [`Event::Replied`].
    Send {
        /// The request.
        call: Call,
        /// The latest instant at which it may leave.
        not_after: Timestamp,
    },
    /// Wait. [`Event::Resumed`].
    Pause {
        /// Until then.
        until: Timestamp,
    },
    /// The request is answered. Nothing follows.
    Done(Result<Done, Failure>),
}

/// What became of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The first event: the request's turn has come.
    Begin,
    /// The record; the empty one where there is none.
    Account(Result<Account, StoreProblem>),
    /// The ledger; the empty one where there is none.
    Ledger(Result<Ledger, StoreProblem>),
    /// What became of a conditional write.
    Written(Written),
    /// The secret.
    Secret(Result<Credentials, SecretProblem>),
    /// What became of a request upstream.
    Replied(Reply),
    /// The pause is over.
    Resumed,
}

/// Why something could not be read from the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreProblem {
    /// Out of reach, or it refused.
    Unreachable,
    /// The stored item is not in the form that the broker writes: names the attribute, never its value.
    Unreadable(String),
}

impl From<StoreProblem> for Failure {
    fn from(problem: StoreProblem) -> Self {
        match problem {
            StoreProblem::Unreachable => Self::StoreUnavailable,
            StoreProblem::Unreadable(what) => Self::UnreadableItem(what),
        }
    }
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// It was carried out.
    Done,
    /// The condition was not met: by somebody else's write, or by an earlier try of this very one.
    Conflict,
    /// No telling.
    Unknown,
}

/// Why a secret could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretProblem {
    /// There is none of that name.
    Missing,
    /// It is not what it should be: says what is missing.
    Bad(String),
    /// Secrets Manager is out of reach, or refused.
    Unreachable,
}

/// Something that happened on the way and is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The lease was taken; what follows runs under this fence.
    Acquired(Generation),
    /// Another attempt was faster.
    Outrun,
    /// An expiry was missing, unreadable or past, and one hour was assumed.
    ExpiryAssumed,
    /// The upstream refused the refresh token.
    RefreshRefused,
    /// A probe found the access token of this generation alive, though a caller says it was rejected.
    FoundAlive(Generation),
    /// A probe found the access token of this generation dead.
    FoundDead(Generation),
    /// The pair of this generation was withdrawn by an operator.
    Withdrawn(Generation),
    /// A pair was saved.
    Saved(Generation),
    /// A pair could not be saved yet; it is served from memory meanwhile.
    Unsaved(Generation),
    /// Somebody took over before this attempt had saved its pair.
    Overtaken(Generation),
    /// A pair that was never saved nor handed out is revoked.
    OrphanRevoked(Generation),
    /// The account rests until then.
    Resting(Timestamp),
    /// A secret version was parked.
    Parked(SecretVersion),
}

/// One request on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    ask: Ask,
    memory: Memory,
    state: State,
    /// The draw has already fallen on this request.
    volunteered: bool,
    /// It has stood back once, for others to go first.
    stood_back: bool,
    /// Where `memory.copy` comes from: an earlier request, or this one's look at the table.
    source: ServedFrom,
    /// A pair of this flow that was overtaken before it was saved.
    orphan: Option<Pair>,
    /// Whether this flow has renewed the pair.
    renewed: bool,
    /// Looks at a record that could not be used yet; pauses grow with it.
    looks: u32,
    notices: Vec<Notice>,
}

/// Where a flow stands: what it has asked for last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Begun,
    Looking { asked_at: Timestamp },
    Waiting,
    CheckingSecret,
    Acquiring(acquire::Attempt),
    ConfirmingAcquire { attempt: acquire::Attempt, asked_at: Timestamp },
    Refreshing { held: Held, left_at: Timestamp },
    RereadingSecret(Held),
    ReadingLedger(paying::Payment),
    Debiting { payment: paying::Payment, next: Ledger },
    PausingLedger(paying::Payment),
    LoggingIn { held: Held, credentials: Credentials, left_at: Timestamp },
    ReadingLedgerToBlock(paying::Block),
    Blocking(paying::Block),
    Saving(save::Saving),
    ConfirmingSave { saving: save::Saving, asked_at: Timestamp },
    PausingSave(save::Saving),
    RevokingOrphan(Vec<Revocation>),
    Probing(Held),
    Revoking { held: Held, current: Revocation, failed: Vec<Revocation> },
    Done,
}

/// The right to renew, while this flow has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    /// The record as the acquiring write left it. Its version is the fence.
    account: Account,
    lease: Lease,
    /// The secret version that the upstream has refused under this lease.
    refused: Option<SecretVersion>,
}

impl Held {
    fn fence(&self) -> Generation {
        Generation(self.account.version.0)
    }
}

/// The surroundings of one step.
#[derive(Clone, Copy)]
struct Step<'a> {
    policy: &'a Policy,
    now: Timestamp,
    draw: Draw,
}

impl Step<'_> {
    /// A fresh name for an attempt.
    fn holder(self) -> Holder {
        Holder(self.draw.0)
    }
}

impl Flow {
    /// A request, and what the instance remembers of its account.
    pub fn new(ask: Ask, memory: Memory) -> Self {
        Self {
            ask,
            memory,
            state: State::Begun,
            volunteered: false,
            stood_back: false,
            source: ServedFrom::Memory,
            orphan: None,
            renewed: false,
            looks: 0,
            notices: Vec::new(),
        }
    }

    /// What the instance knows now. To be kept for the next request, after every step.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What has happened since the last call, for the log.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Takes an event, and says what to do next. Total: an event that nobody asked for ends the flow with a
    /// defect.
    pub fn step(&mut self, policy: &Policy, event: Event, now: Timestamp, draw: Draw) -> Effect {
        let step = Step { policy, now, draw };
        match (std::mem::replace(&mut self.state, State::Done), event) {
            (State::Begun, Event::Begin) => self.begin(step),
            (State::Looking { asked_at }, Event::Account(read)) => self.looked(step, asked_at, read),
            (State::Waiting, Event::Resumed) => self.look(step),
            (State::CheckingSecret, Event::Secret(read)) => self.checked_secret(step, read),
            (State::Acquiring(attempt), Event::Written(written)) => self.wrote_lease(step, attempt, written),
            (State::ConfirmingAcquire { attempt, asked_at }, Event::Account(read)) => {
                self.confirmed_lease(step, attempt, asked_at, read)
            }
            (State::Refreshing { held, left_at }, Event::Replied(reply)) => {
                self.refreshed(step, held, left_at, reply)
            }
            (State::RereadingSecret(held), Event::Secret(read)) => self.reread_secret(step, held, read),
            (State::ReadingLedger(payment), Event::Ledger(read)) => self.read_ledger(step, payment, read),
            (State::Debiting { payment, next }, Event::Written(written)) => {
                self.debited(step, payment, &next, written)
            }
            (State::PausingLedger(payment), Event::Resumed) => self.pay(payment),
            (State::LoggingIn { held, credentials, left_at }, Event::Replied(reply)) => {
                self.logged_in(step, held, credentials, left_at, reply)
            }
            (State::ReadingLedgerToBlock(block), Event::Ledger(read)) => {
                self.read_ledger_to_block(step, block, read)
            }
            (State::Blocking(block), Event::Written(written)) => self.blocked(step, block, written),
            (State::Saving(saving), Event::Written(written)) => self.wrote(step, saving, written),
            (State::ConfirmingSave { saving, asked_at }, Event::Account(read)) => {
                self.confirmed_save(step, saving, asked_at, read)
            }
            (State::PausingSave(saving), Event::Resumed) => self.write(step, saving),
            (State::RevokingOrphan(rest), Event::Replied(_)) => self.revoke_orphan(step, rest),
            (State::Probing(held), Event::Replied(reply)) => self.probed(step, held, &reply),
            (State::Revoking { held, current, mut failed }, Event::Replied(reply)) => {
                failed.extend(Some(current).filter(|_| reply != Reply::Revoked));
                self.revoke_pending(step, held, failed)
            }
            _ => Effect::Done(Err(Failure::Defect("an event came that nobody had asked for"))),
        }
    }
}
