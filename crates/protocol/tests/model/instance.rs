//! One instance of the fleet, and the request that it performs.

use token_broker_protocol::{Cache, Effect, Flow, Generation, Intent, SecretVersion, StoreClock, Timestamp};

/// One process of the function. After a crash, another one takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) running: Option<Running>,
    /// What it knows about each account.
    pub(crate) caches: Vec<Cache>,
    /// Requests that it has begun.
    pub(crate) begun: usize,
    /// The generation that it last answered with, if a later request reports it.
    pub(crate) answered: Option<Generation>,
    /// Draws that may have become a holder.
    pub(crate) drawn: u64,
    /// A write that is still in transit, and whose reply is lost.
    pub(crate) delayed: Option<DelayedWrite>,
    /// How many seconds its wall clock has stepped.
    pub(crate) stepped: i64,
    /// Corrects its clock, if the store dates its replies.
    pub(crate) store_clock: Option<StoreClock>,
}

/// A request in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub(crate) account: usize,
    /// The production code.
    pub(crate) flow: Flow,
    /// What the flow waits for.
    pub(crate) effect: Effect,
    pub(crate) intent: Intent,
    /// When the caller gives up, in true time.
    pub(crate) deadline: Timestamp,
    /// The first draw of this request. Earlier draws belong to earlier requests.
    pub(crate) first_draw: u64,
    /// Whether its last write was made under its own lease.
    pub(crate) leased: bool,
    /// What it did under its latest lease.
    pub(crate) under_lease: UnderLease,
    /// Logins that it has sent.
    pub(crate) logins: usize,
}

/// What was done under one lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct UnderLease {
    /// Whether a refresh or a login has left.
    pub(crate) sent: bool,
    /// The secret version that the upstream refused, and when.
    pub(crate) refused: Option<(SecretVersion, Timestamp)>,
    /// The shortest cooldown that has to follow, because a refresh or a login failed.
    pub(crate) cooldown_until: Option<Timestamp>,
}

/// A write that may still arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DelayedWrite {
    pub(crate) account: usize,
    pub(crate) effect: Effect,
    /// What the request that wrote it wanted.
    pub(crate) intent: Intent,
}

impl Running {
    pub(crate) fn wait_for(&mut self, effect: Effect) {
        match &effect {
            Effect::WriteAccount { next, .. } if next.lease.is_some() => {
                (self.leased, self.under_lease) = (false, UnderLease::default());
            }
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => self.leased = true,
            _ => {}
        }
        self.effect = effect;
    }
}
