//! One instance of the model, and the request that it is at.

use protocol::{Effect, Flow, Intent, Memory, SecretVersion, Timestamp};

/// One process of the function. Where it dies, another one takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// The request that it is at.
    pub at: Option<Request>,
    /// What it remembers, for each account.
    pub memory: Vec<Cache>,
    /// How many requests it has begun.
    pub begun: usize,
    /// How many numbers it has drawn that may have become a name.
    pub drawn: u64,
    /// A write on its way, whose reply nobody waits for any more.
    pub late: Option<LateWrite>,
}

/// A request on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Whose token.
    pub account: usize,
    /// The production code.
    pub flow: Flow,
    /// What it waits for.
    pub effect: Effect,
    /// What was asked for.
    pub goal: Intent,
    /// When the caller is gone, by the instance's clock.
    pub deadline: Timestamp,
    /// The first number that it may draw: what was drawn before is of an earlier request.
    pub drawn_before: u64,
    /// Whether its last write was one under a lease of its own.
    pub leased: bool,
    /// What was done under the lease that it took last.
    pub under_lease: UnderLease,
    /// Logins that have left.
    pub logins: usize,
}

/// What was done under one lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnderLease {
    /// Whether a grant has left.
    pub sent: bool,
    /// The secret version that was refused.
    pub refused: Option<SecretVersion>,
    /// How long the account has to rest, because a grant has failed.
    pub rests_until: Option<Timestamp>,
}

impl Request {
    /// It waits for another effect now.
    pub fn wait_for(&mut self, effect: &Effect) {
        match effect {
            Effect::WriteAccount { next, .. } if next.lease.is_some() => {
                (self.leased, self.under_lease) = (false, UnderLease::default());
            }
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => self.leased = true,
            _ => {}
        }
        self.effect = effect.clone();
    }
}

/// A write that may still arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LateWrite {
    /// Of which account.
    pub account: usize,
    /// The write.
    pub effect: Effect,
}
