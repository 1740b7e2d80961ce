//! Time passes from one relevant instant to the next.

use crate::{
    instance::Instance,
    model::Fleet,
    setting::{START, TOKEN},
    world::World,
};
use std::{collections::BTreeSet, time::Duration};
use token_broker_protocol::{
    Account, Effect, Intent, LOGIN_WINDOW, Lease, REJECTED_SECRET_RECHECK, STORE_RETRY, Timestamp, Verdict,
};

/// For how long an instance remembers that the secret could not be read, or that writes failed.
const FAILURE_RETRY: Duration = Duration::from_secs(3);

impl Fleet {
    /// The instants within the horizon at which something lapses or begins, in order.
    pub(crate) fn instants(&self, world: &World) -> BTreeSet<Timestamp> {
        let mut instants = BTreeSet::new();
        let by_all_clocks = self.shared_instants(world);
        for (who, instance) in world.instances.iter().enumerate() {
            let own = self.own_instants(world, who, instance);
            instants.extend(
                own.into_iter()
                    .chain(by_all_clocks.iter().copied())
                    .map(|at| world.true_time(&self.setting, who, at)),
            );
        }
        // The model's time is in whole seconds.
        let rounded = |at: Timestamp| Timestamp::from_millis(at.as_millis().div_ceil(1000) * 1000);
        let horizon = START.plus(Duration::from_secs(self.setting.horizon));
        let ahead = |at: &Timestamp| *at > world.now && *at <= horizon;
        instants.into_iter().map(rounded).filter(ahead).collect()
    }

    /// The instants in the table, for an instance with any clock.
    fn shared_instants(&self, world: &World) -> Vec<Timestamp> {
        let policy = self.setting.policy();
        let mut instants: Vec<Timestamp> =
            world.limiter.permits.iter().map(|permit| permit.counts_until).collect();
        instants.extend(world.limiter.blocked_until);
        let reports = self.setting.has(|intent| matches!(intent, Intent::Token { rejected: Some(_), .. }));
        let replaces = self.setting.has(|intent| intent == Intent::Replace);
        let renews_early =
            self.setting.early_refresh || self.setting.has(|intent| matches!(intent, Intent::Maintain(_)));
        for account in &world.accounts {
            let record = &account.record;
            instants.extend(record.lease.map(|lease| lease.until));
            instants.extend(record.cooldown.map(|cooldown| cooldown.until));
            instants.extend(record.rejected_secret.as_ref().and_then(|rejected| rejected.retry_at));
            instants.extend(record.replaced_at.filter(|_| replaces).map(|at| at.plus(LOGIN_WINDOW)));
            instants.extend(record.early_refresh_after.filter(|_| renews_early));
            let Some(pair) = &record.pair else { continue };
            let last = pair.expires_at.minus(policy.clock_margin);
            let wanted = TOKEN.min_ttl().min(pair.expires_at.since(pair.issued_at) / 2);
            instants.extend([last.minus(wanted), last]);
            if reports {
                let trusted_for = policy.trusted_for(record.young_deaths);
                instants.extend((!trusted_for.is_zero()).then(|| pair.issued_at.plus(trusted_for)));
                instants.extend(match pair.verdict {
                    Verdict::Alive { at } => Some(at.plus(policy.probe_interval())),
                    Verdict::Inconclusive { probe_after } => Some(probe_after),
                    Verdict::Unverified | Verdict::Dead => None,
                });
            }
        }
        instants
    }

    /// The latest instants at which an instance may send, and the first ones at which it may not; and until when it
    /// remembers failures.
    fn own_instants(&self, world: &World, who: usize, instance: &Instance) -> Vec<Timestamp> {
        let mut last = Vec::new();
        if let Some(running) = &instance.running {
            let record = &world.accounts[running.account].record;
            let own = |lease: &Lease| world.is_drawn_by(&self.setting, who, lease.holder);
            let policy = self.setting.policy();
            let deadline = world.by_clock(&self.setting, who, running.deadline);
            let latest_send = |lease: Lease| policy.latest_send(&lease, deadline);
            last.extend(match &running.effect {
                Effect::Send { not_after, .. } => Some(*not_after),
                Effect::WriteAccount { next: Account { lease: Some(lease), .. }, .. } => {
                    Some(latest_send(*lease))
                }
                // Nothing is sent after these.
                Effect::WriteAccount { .. } | Effect::ReadAccount => None,
                _ => record.lease.filter(own).map(latest_send),
            });
            if let Effect::WriteLimiter { next, .. } = &running.effect {
                let own =
                    next.permits.iter().filter(|permit| world.is_drawn_by(&self.setting, who, permit.holder));
                last.extend(own.map(|permit| permit.acquired_at.plus(policy.permit_freshness())));
            }
        }
        let after = Duration::from_millis(1);
        let mut instants: Vec<Timestamp> = last.into_iter().flat_map(|at| [at, at.plus(after)]).collect();
        if instance.begun < self.setting.requests[who].len() {
            for cache in &instance.caches {
                instants.extend(cache.store_failure.as_ref().map(|(_, at)| at.wall.plus(STORE_RETRY)));
                instants.extend(cache.writes_failed.as_ref().map(|(_, at)| at.wall.plus(FAILURE_RETRY)));
                instants.extend(cache.secret_failure.as_ref().map(|(_, at)| at.wall.plus(FAILURE_RETRY)));
                instants.extend(cache.rejection_seen.map(|at| at.wall.plus(REJECTED_SECRET_RECHECK)));
            }
        }
        instants
    }

    /// When a pause that should last until an instant ends.
    ///
    /// While another attempt holds the lease and the record is as the instance last saw it, it only reads the same
    /// record again. The model leaves these reads out, and lets the pause last until the lease lapses.
    pub(crate) fn end_of_pause(&self, world: &World, who: usize, until: Timestamp) -> Timestamp {
        let until = self.waits_until(world, who).map_or(until, |later| until.max(later));
        world.true_time(&self.setting, who, until)
    }

    /// Whether an instance waits for another one that has something to do. If that one is not done before its lease
    /// lapses, it was paused.
    pub(crate) fn costs_a_pause(&self, world: &World, who: usize) -> bool {
        let running = world.instances[who].running.as_ref();
        let pauses = running.is_some_and(|running| matches!(running.effect, Effect::Pause { .. }));
        pauses && is_busy(world) && self.waits_until(world, who).is_some()
    }

    fn waits_until(&self, world: &World, who: usize) -> Option<Timestamp> {
        let running = world.instances[who].running.as_ref().expect("a request");
        let record = &world.accounts[running.account].record;
        let seen = running.flow.cache().record.as_ref().map(|cached| cached.account.version);
        let own = |lease: &Lease| running.leased && world.is_drawn_by(&self.setting, who, lease.holder);
        let clock = world.clock(&self.setting, who);
        let waits = |lease: &Lease| seen == Some(record.version) && lease.until > clock && !own(lease);
        let deadline = world.by_clock(&self.setting, who, running.deadline);
        let last_look = deadline.minus(Duration::from_millis(250));
        record.lease.filter(waits).map(|lease| lease.until.min(last_look))
    }
}

/// Whether an instance has something to do. One that pauses by itself does not.
pub(crate) fn is_busy(world: &World) -> bool {
    let running = world.instances.iter().filter_map(|instance| instance.running.as_ref());
    running.into_iter().any(|running| !matches!(running.effect, Effect::Pause { .. }))
}
