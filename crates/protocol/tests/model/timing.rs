//! Time passes from one instant that makes a difference to the next.

use crate::{instance::Running, model::Fleet, setting::START, world::World};
use std::time::Duration;
use token_broker_protocol::{Effect, Lease, Timestamp};

impl Fleet {
    /// The next instant within the horizon at which something lapses, by the clock of any instance.
    pub(crate) fn next_instant(&self, world: &World) -> Option<Timestamp> {
        let just_after = |instant: Timestamp| instant.plus(Duration::from_millis(1));
        let permits = world.limiter.permits.iter();
        let mut instants: Vec<Timestamp> = permits.map(|permit| permit.counts_until).collect();
        instants.extend(world.limiter.blocked_until);
        for account in &world.accounts {
            let record = &account.record;
            instants.extend(record.lease.map(|lease| lease.until));
            instants.extend(record.cooldown.map(|cooldown| cooldown.until));
            instants.extend(record.pair.as_ref().map(|pair| pair.expires_at.minus(Duration::from_secs(2))));
        }
        for instance in &world.instances {
            if let Some(Running { effect: Effect::Send { not_after, .. }, .. }) = &instance.running {
                instants.push(just_after(*not_after));
            }
        }
        let horizon = START.plus(Duration::from_secs(self.setting.horizon));
        let clocks = self.setting.clocks.iter();
        clocks
            .flat_map(|ahead| instants.iter().map(|instant| instant.minus(Duration::from_secs(*ahead))))
            .filter(|instant| *instant > world.now && *instant <= horizon)
            .min()
    }

    /// The latest instants at which calls may leave. A pause may end exactly then, too.
    pub(crate) fn last_instants(&self, world: &World) -> Vec<Timestamp> {
        let running = |who: usize| world.instances[who].running.as_ref();
        let instances = 0..world.instances.len();
        let last = instances.filter_map(|who| match running(who)?.effect {
            Effect::Send { not_after, .. } => {
                Some(not_after.minus(Duration::from_secs(self.setting.clocks[who])))
            }
            _ => None,
        });
        last.filter(|instant| *instant > world.now && Some(*instant) != self.next_instant(world)).collect()
    }

    /// When a pause ends that is to last until an instant.
    ///
    /// While another attempt holds the lease and the record is as the instance last saw it, it only reads the same
    /// record again. The model leaves these reads out, and lets the pause last until the lease lapses.
    pub(crate) fn end_of_pause(&self, world: &World, who: usize, until: Timestamp) -> Timestamp {
        let until = self.waits_until(world, who).map_or(until, |later| until.max(later));
        until.minus(Duration::from_secs(self.setting.clocks[who]))
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
        let own = |lease: &Lease| {
            let drew = World::who_drew(&self.setting, lease.holder) == who;
            running.leased && drew && world.request_of(&self.setting, lease.holder).is_some()
        };
        let clock = world.clock(&self.setting, who);
        let waits = |lease: &Lease| seen == Some(record.version) && lease.until > clock && !own(lease);
        let last_look = running.deadline.minus(Duration::from_millis(250));
        record.lease.filter(waits).map(|lease| lease.until.min(last_look))
    }
}

/// Whether an instance has something to do. One that pauses by itself has not.
pub(crate) fn is_busy(world: &World) -> bool {
    let running = world.instances.iter().filter_map(|instance| instance.running.as_ref());
    running.into_iter().any(|running| !matches!(running.effect, Effect::Pause { .. }))
}
