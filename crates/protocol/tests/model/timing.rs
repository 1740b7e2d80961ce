//! How time passes: from one instant that makes a difference to the next.

use crate::{instance::Request, model::Fleet, setting::START, world::World};
use protocol::{Effect, Lease, Timestamp};
use std::time::Duration;

impl Fleet {
    /// The next instant at which something lapses, by the clock of any instance; none beyond the horizon.
    pub fn next_instant(&self, world: &World) -> Option<Timestamp> {
        let just_after = |instant: Timestamp| instant.plus(Duration::from_millis(1));
        let mut instants: Vec<Timestamp> = world.limiter.permits.iter().map(|permit| permit.until).collect();
        instants.extend(world.limiter.blocked_until);
        for account in &world.accounts {
            let record = &account.record;
            instants.extend(record.lease.map(|lease| lease.until));
            instants.extend(record.cooldown.map(|cooldown| cooldown.until));
            instants.extend(record.pair.as_ref().map(|pair| pair.expires_at.minus(Duration::from_secs(2))));
        }
        for instance in &world.instances {
            if let Some(Request { effect: Effect::Send { not_after, .. }, .. }) = &instance.at {
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

    /// The instants until which calls may leave at the latest: a pause may end right then, too.
    pub fn last_instants(&self, world: &World) -> Vec<Timestamp> {
        let at = |who: usize| world.instances[who].at.as_ref();
        let instances = 0..world.instances.len();
        let last = instances.filter_map(|who| match at(who)?.effect {
            Effect::Send { not_after, .. } => {
                Some(not_after.minus(Duration::from_secs(self.setting.clocks[who])))
            }
            _ => None,
        });
        last.filter(|instant| *instant > world.now && Some(*instant) != self.next_instant(world)).collect()
    }

    /// When a pause ends that is to last until then.
    ///
    /// While the record is as the instance last saw it, and leased to somebody else, whatever it sees before
    /// the lease's end is what it saw already: those looks are left out.
    pub fn end_of_pause(&self, world: &World, who: usize, until: Timestamp) -> Timestamp {
        let until = self.in_vain_until(world, who).map_or(until, |later| until.max(later));
        until.minus(Duration::from_secs(self.setting.clocks[who]))
    }

    /// Whether an instance waits for what another one is in the midst of: if that does not end before the
    /// lease does, it was paused.
    pub fn costs_a_pause(&self, world: &World, who: usize) -> bool {
        let waits =
            world.instances[who].at.as_ref().is_some_and(|at| matches!(at.effect, Effect::Pause { .. }));
        waits && is_busy(world) && self.in_vain_until(world, who).is_some()
    }

    fn in_vain_until(&self, world: &World, who: usize) -> Option<Timestamp> {
        let request = world.instances[who].at.as_ref().expect("a request");
        let record = &world.accounts[request.account].record;
        let seen = request.flow.memory().copy.as_ref().map(|copy| copy.account.version);
        let own = |lease: &Lease| {
            let drew = World::who_drew(&self.setting, lease.holder) == who;
            request.leased && drew && world.request_of(&self.setting, lease.holder).is_some()
        };
        let clock = world.clock(&self.setting, who);
        let in_vain = |lease: &Lease| seen == Some(record.version) && lease.until > clock && !own(lease);
        let last_look = request.deadline.minus(Duration::from_millis(250));
        record.lease.filter(in_vain).map(|lease| lease.until.min(last_look))
    }
}

/// Whether some instance is in the midst of something. One that waits by itself is not.
pub fn is_busy(world: &World) -> bool {
    let effects = world.instances.iter().filter_map(|instance| Some(&instance.at.as_ref()?.effect));
    effects.into_iter().any(|effect| !matches!(effect, Effect::Pause { .. }))
}
