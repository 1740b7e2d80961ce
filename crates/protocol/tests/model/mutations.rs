//! Removes one guard. The production code has no switch for that: the model alters what passes between protocol and
//! world, so that both together behave like the protocol without the guard.

use crate::{
    model::Fleet,
    setting::FIRST,
    world::{AccountState, World},
};
use token_broker_protocol::{
    Account, AccountName, Cache, Call, CooldownReason, Effect, Event, Generation, Policy, Timestamp,
    UpstreamReply, WriteOutcome,
};

/// The guards on which the invariants depend. `docs/guards.csv` says why each of them exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The write that ends a lease is conditional on the fence.
    ConditionalCommit,
    /// The write that takes the lease is conditional on the version that was read.
    ConditionalAcquire,
    /// The write of the login limiter is conditional on the version that was read.
    ConditionalPermit,
    /// A permit is written before its login is sent.
    PermitBeforeLogin,
    /// A login is sent while its permit is fresh, or not at all.
    PermitFreshness,
    /// A permit is dated before it is written.
    PermitDate,
    /// An account holds at most half of the permits.
    PermitShare,
    /// The write that takes the lease for a refresh marks the refresh token as consumed.
    ConsumedOnAcquire,
    /// The refresh token stays consumed if the outcome of the refresh is unclear.
    ConsumedOnUnclear,
    /// The generation of a pair is the version of the write that took the lease.
    FenceAsGeneration,
    /// A secret version that the upstream refused is recorded.
    RejectedSecret,
    /// A failed renewal is recorded, with a cooldown before the next one.
    CooldownOnFailure,
    /// A refresh or a login is sent while the lease outlasts it, or not at all.
    LeaseTimeLeft,
    /// After several generations died young, a pair is trusted for a while.
    Damping,
    /// An operator's refresh runs at most once a minute.
    ReplaceInterval,
    /// A token's expiry and a permit's age allow for clocks that differ. Removed by a policy without a margin.
    ClockMargin,
    /// The dates of the store's responses correct the clock.
    StoreTime,
    /// A pause begins by the uptime since the store last confirmed the clock.
    SteadyPauses,
}

impl Fleet {
    pub(crate) fn lacks(&self, guard: Guard) -> bool {
        self.setting.without == Some(guard)
    }

    /// Whether a write is conditional. Without its guard it is applied to any record, as a plain put would be. Of the
    /// writes to the record, the one that takes the lease sets it, and all others clear it.
    pub(crate) fn is_conditional(&self, write: &Effect) -> bool {
        !self.lacks(match write {
            Effect::WriteAccount { next, .. } if next.lease.is_some() => Guard::ConditionalAcquire,
            Effect::WriteAccount { .. } => Guard::ConditionalCommit,
            _ => Guard::ConditionalPermit,
        })
    }

    /// The effect that an instance without the guard would perform.
    pub(crate) fn alter_effect(&self, world: &World, who: usize, mut effect: Effect) -> Effect {
        match (self.setting.without, &mut effect) {
            // The login still follows. The flow does not look for its permit, because the write was applied.
            (Some(Guard::PermitBeforeLogin), Effect::WriteLimiter { next, .. }) => next.permits.clear(),
            // The refresh token stays as it was read. The flow continues with its own copy of the record, in which the
            // token is consumed. So the write that ends the lease leaves it consumed or available depending on the
            // outcome alone, as usual.
            (Some(Guard::ConsumedOnAcquire), Effect::WriteAccount { next, .. }) if next.lease.is_some() => {
                let before = cached(world, who).and_then(|account| account.pair.as_ref());
                if let (Some(pair), Some(before)) = (&mut next.pair, before) {
                    pair.refresh_token.clone_from(&before.refresh_token);
                }
            }
            // A login starts with a read of the record, which then does not name the rejected version. Only the
            // instance whose login was refused remembers it.
            (Some(Guard::RejectedSecret), Effect::WriteAccount { next, .. }) => next.rejected_secret = None,
            // Cooldowns too are known only from the record. One for an exhausted budget is not a failure, and stays.
            // With a second fault, the lost reply to an altered write could lead to another decision, because the
            // attempt does not find what it wrote. So this guard is removed under one fault only.
            (Some(Guard::CooldownOnFailure), Effect::WriteAccount { next, .. }) => {
                next.cooldown.take_if(|cooldown| cooldown.reason != CooldownReason::BudgetExhausted);
            }
            // The latest instant of sending is the earliest of two bounds. It is computed again without one of them. An
            // earlier check of the clock in the flow only saves a permit or a write; this guard is for an instance that
            // is paused after that check.
            (Some(Guard::PermitFreshness), Effect::Send { call: Call::Login(_), not_after }) => {
                *not_after = self.bound_by_lease(world, who);
            }
            // The permit is as fresh as if it had been dated now, after it was written: see `clock_of_step`.
            (Some(Guard::PermitDate), Effect::Send { call: Call::Login(_), not_after }) => {
                let fresh_until =
                    world.clock(&self.setting, who).plus(self.setting.policy().permit_freshness());
                *not_after = self.bound_by_lease(world, who).min(fresh_until);
            }
            // The permits count for the budget, but for no account.
            (Some(Guard::PermitShare), Effect::WriteLimiter { next, .. }) => {
                next.permits.iter_mut().for_each(|permit| permit.account = AccountName::default());
            }
            // The next request learns of young deaths from the record, or from the cache: see `alter_cache`.
            (Some(Guard::Damping), Effect::WriteAccount { next, .. }) => next.young_deaths = 0,
            // An operator's request always reads the record.
            (Some(Guard::ReplaceInterval), Effect::WriteAccount { next, .. }) => next.replaced_at = None,
            // The policy gives the holder an endless lease. The record has its real end.
            (Some(Guard::LeaseTimeLeft), Effect::WriteAccount { next, .. }) => {
                if let Some(lease) = &mut next.lease {
                    let longer = self.setting.policy().lease.saturating_sub(Policy::DEFAULT.lease);
                    lease.until = lease.until.minus(longer);
                }
            }
            _ => {}
        }
        effect
    }

    /// The cache that an instance without the guard would keep.
    pub(crate) fn alter_cache(&self, cache: &mut Cache) {
        let Some(cached) = &mut cache.record else { return };
        if self.lacks(Guard::Damping) {
            cached.account.young_deaths = 0;
        }
    }

    /// The instance's clock at a step. Without the guard, the flow is told that its permit was written in no time. So
    /// it does not check whether the permit is still fresh.
    pub(crate) fn clock_of_step(&self, world: &World, who: usize, event: &Event) -> Timestamp {
        let effect = world.instances[who].running.as_ref().map(|running| &running.effect);
        let written = *event == Event::Written(WriteOutcome::Applied);
        match effect {
            Some(Effect::WriteLimiter { next, .. }) if written && self.lacks(Guard::PermitDate) => {
                let own =
                    next.permits.iter().find(|permit| world.is_drawn_by(&self.setting, who, permit.holder));
                own.map_or(world.clock(&self.setting, who), |permit| permit.acquired_at)
            }
            _ => world.clock(&self.setting, who),
        }
    }

    /// The event on which an instance without the guard would act.
    pub(crate) fn alter_event(&self, event: Event) -> Event {
        match event {
            // A refresh without a reply is reported as one that never left. That outcome takes the mark back, and has
            // the same consequences otherwise. For all other calls the two outcomes are equal.
            Event::Replied(UpstreamReply::Unclear(_)) if self.lacks(Guard::ConsumedOnUnclear) => {
                Event::Replied(UpstreamReply::NeverLeft)
            }
            event => event,
        }
    }

    /// Counts generations instead: a pair that is to be written gets the number after that of the pair that it
    /// replaces, or 1.
    ///
    /// The flows still know the pair by its fence. They only ever compare generations for equality, and the new numbers
    /// compare alike until one is given twice. By then the invariant is violated.
    pub(crate) fn rename(&self, account: &mut AccountState, write: &Effect) {
        if !self.lacks(Guard::FenceAsGeneration) {
            return;
        }
        let Effect::WriteAccount { next: Account { pair: Some(pair), .. }, .. } = write else { return };
        let known = account.renamed.iter().any(|(fence, _)| *fence == pair.generation);
        if !known && pair.generation != FIRST {
            let replaced = pair.replaces.map_or(0, |fence| account.generation_of(fence).0);
            account.renamed.push((pair.generation, Generation(replaced + 1)));
        }
    }

    /// Until when an instance may send, by its lease and its caller.
    fn bound_by_lease(&self, world: &World, who: usize) -> Timestamp {
        let lease = cached(world, who).and_then(|account| account.lease).expect("a lease");
        let running = world.instances[who].running.as_ref().expect("a request");
        let deadline = world.by_clock(&self.setting, who, running.deadline);
        self.setting.policy().latest_send(&lease, deadline)
    }
}

/// The record as an instance last read it, or wrote it when it took the lease.
fn cached(world: &World, who: usize) -> Option<&Account> {
    let running = world.instances[who].running.as_ref()?;
    running.flow.cache().record.as_ref().map(|cached| &cached.account)
}
