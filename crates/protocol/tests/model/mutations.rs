//! Taking one guard away. The production code has no switch for that: what passes between it and the world is
//! altered, in such a way that the two together do what the code would do without the guard.

use crate::{
    model::Fleet,
    setting::FIRST,
    world::{AccountWorld, World},
};
use protocol::{
    Account, COMMIT_RESERVE, Call, CooldownReason, Effect, Event, Generation, Timestamp, UpstreamReply,
};

/// What the invariants rest on. Why each of them is there is in `docs/PROTOCOL.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Whoever ends a lease writes on the condition that the fence still stands.
    ConditionalCommit,
    /// Whoever takes the lease writes on the condition that the record is still as it was read.
    ConditionalAcquire,
    /// The ledger is written on the condition that it is still as it was read.
    ConditionalDebit,
    /// A login is written down before it is sent.
    DebitBeforeLogin,
    /// It is sent while its debit is fresh, or not at all.
    DebitFreshness,
    /// The write that takes the lease for a refresh marks the token as spent.
    SpentOnAcquire,
    /// The token stays spent where nobody knows what became of the refresh.
    SpentOnUnclear,
    /// A pair is called by the version of the write that took the lease.
    FenceAsGeneration,
    /// A secret version that was refused is written down.
    ParkedVersion,
    /// A failure is written down, with a pause before the next attempt.
    CooldownOnFailure,
    /// A refresh or a login is sent while the lease outlasts it, or not at all.
    LeaseTimeLeft,
    /// What a token's expiry and a debit's age are told by allows for clocks that differ. The policy is one
    /// without a margin.
    ClockMargin,
}

impl Fleet {
    pub fn lacks(&self, guard: Guard) -> bool {
        self.setting.without == Some(guard)
    }

    /// Whether a write minds its condition; one that does not lands whatever stands, as a plain put would. There
    /// are two kinds of writes to the record: the one that acquires sets a lease, and the one that commits
    /// clears it.
    pub fn minds_its_condition(&self, write: &Effect) -> bool {
        !self.lacks(match write {
            Effect::WriteAccount { next, .. } if next.lease.is_some() => Guard::ConditionalAcquire,
            Effect::WriteAccount { .. } => Guard::ConditionalCommit,
            _ => Guard::ConditionalDebit,
        })
    }

    /// What an instance would have asked for without the guard.
    pub fn asked(&self, world: &World, who: usize, mut effect: Effect) -> Effect {
        match (self.setting.without, &mut effect) {
            // The login follows all the same. Its debit is not looked for again, as the write seems to be done.
            (Some(Guard::DebitBeforeLogin), Effect::WriteLimiter { next, .. }) => next.permits.clear(),
            // The mark stays as it was. The flow goes on with a copy of the record that has it, so the write
            // that ends the lease leaves the token spent or not by the outcome alone, as ever.
            (Some(Guard::SpentOnAcquire), Effect::WriteAccount { next, .. }) if next.lease.is_some() => {
                let before = known(world, who).and_then(|account| account.pair.as_ref());
                let spent = before.is_some_and(|pair| pair.refresh_token_consumed);
                next.pair.iter_mut().for_each(|pair| pair.refresh_token_consumed = spent);
            }
            // Whoever logs in has read the record, and minds what is written there. The instance that was refused
            // still remembers; all others have nothing to go by.
            (Some(Guard::ParkedVersion), Effect::WriteAccount { next, .. }) => next.rejected_secret = None,
            // The same: whether an account rests is looked up in the record. That it rests because the budget is
            // used up is no failure, and stays. (With a fault more, a lost reply to the altered write could have an
            // attempt decide anew: it does not find what it wrote. So this is run with one fault.)
            (Some(Guard::CooldownOnFailure), Effect::WriteAccount { next, .. }) => {
                next.cooldown.take_if(|cooldown| cooldown.reason != CooldownReason::BudgetExhausted);
            }
            // The latest instant of sending is the earliest of three bounds. It is worked out again without one
            // of them. Where the flow itself looks at the clock before, that spares it a debit or a write: it
            // may be paused after that, which is what this guard is for.
            (Some(Guard::DebitFreshness), Effect::Send { call: Call::Login(_), not_after }) => {
                *not_after = self.bound_by_lease(world, who).min(self.bound_by_caller(world, who));
            }
            (Some(Guard::LeaseTimeLeft), Effect::Send { call: Call::Login(_), not_after }) => {
                *not_after = self.bound_by_debit(world, who).min(self.bound_by_caller(world, who));
            }
            (Some(Guard::LeaseTimeLeft), Effect::Send { call: Call::Refresh { .. }, not_after }) => {
                *not_after = self.bound_by_caller(world, who);
            }
            _ => {}
        }
        effect
    }

    /// What an instance would have gone by without the guard, of what it is told.
    pub fn told(&self, event: Event) -> Event {
        match event {
            // A refresh of which nobody knows is taken for one that never left: that is the outcome which
            // clears the mark, and else does the same. For all other calls the two are one.
            Event::Replied(UpstreamReply::Unclear) if self.lacks(Guard::SpentOnUnclear) => {
                Event::Replied(UpstreamReply::NeverLeft)
            }
            event => event,
        }
    }

    /// Calls a pair that is to be written by the next number after that of the pair that it replaces, or 1.
    ///
    /// The flows still know it by its fence. They only ever compare generations, and find them the same where
    /// the new names are, until one name is given twice: then the invariant is broken already.
    pub fn rename(&self, account: &mut AccountWorld, write: &Effect) {
        if !self.lacks(Guard::FenceAsGeneration) {
            return;
        }
        let Effect::WriteAccount { next: Account { pair: Some(pair), .. }, .. } = write else { return };
        let known = account.renamed.iter().any(|(fence, _)| *fence == pair.generation);
        if !known && pair.generation != FIRST {
            let replaced = pair.replaces.map_or(0, |fence| account.called(fence).0);
            account.renamed.push((pair.generation, Generation(replaced + 1)));
        }
    }

    fn bound_by_lease(&self, world: &World, who: usize) -> Timestamp {
        let lease = known(world, who).and_then(|account| account.lease).expect("a lease");
        lease.until.minus(self.setting.policy().upstream_timeout)
    }

    fn bound_by_caller(&self, world: &World, who: usize) -> Timestamp {
        let request = world.instances[who].at.as_ref().expect("a request");
        request.deadline.minus(self.setting.policy().upstream_timeout).minus(COMMIT_RESERVE)
    }

    fn bound_by_debit(&self, world: &World, who: usize) -> Timestamp {
        let permits = world.limiter.permits.iter();
        let own = permits.filter(|permit| World::who_drew(&self.setting, permit.by) == who);
        let paid_at = own.map(|permit| permit.at).max().expect("a permit");
        paid_at.plus(self.setting.policy().permit_freshness())
    }
}

/// The record as an instance last read it, or wrote it when it took the lease.
fn known(world: &World, who: usize) -> Option<&Account> {
    let request = world.instances[who].at.as_ref()?;
    request.flow.memory().copy.as_ref().map(|copy| &copy.account)
}
