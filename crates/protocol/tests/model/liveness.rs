//! I7: once the faults have stopped, the next request is served in a bounded number of steps.

use crate::{
    environment::Fate,
    model::{Ended, Fleet},
    setting::TOKEN,
    world::World,
};
use std::time::Duration;
use token_broker_protocol::{Cache, Failure, Outcome, REJECTED_SECRET_RECHECK};

/// How many times a caller calls: once more after a cooldown, after a block of all logins, after an exhausted budget, and
/// each second for as long as the instance remembers that the store or the secret failed.
const CALLS: usize = 7;
/// Effects of one request.
const EFFECTS: usize = 60;

/// In a state in which no request is running, a new instance is served, and so is every instance with its cache.
///
/// One request at a time is enough: of several, the first one finds this state.
pub(crate) fn the_next_request_is_served(fleet: &Fleet, world: &World) -> bool {
    if world.violated.is_some() || world.instances.iter().any(|instance| instance.running.is_some()) {
        return true;
    }
    (0..world.accounts.len()).all(|account| {
        let mut restarted = world.clone();
        restarted.instances[0].caches.fill(Cache::default());
        let served = |who| is_served(fleet, world.clone(), who, account);
        is_served(fleet, restarted, 0, account) && (0..world.instances.len()).all(served)
    })
}

fn is_served(fleet: &Fleet, mut world: World, who: usize, account: usize) -> bool {
    // Situations reached from here on do not belong to a run.
    let fleet = &Fleet::new(fleet.setting.clone());
    world.outage = false;
    for _ in 0..CALLS {
        let failure = match call(fleet, &mut world, who, account) {
            Some(Ok(Outcome::Token(_))) => return world.violated.is_none(),
            Some(Err(failure)) => failure,
            Some(Ok(Outcome::Report { .. })) | None => return false,
        };
        let pause = match failure {
            Failure::CredentialsRejected(_) if !fleet.setting.secrets[world.secret - 1] => return true,
            // An instance that remembers a rejected version does not look for a newer one at once.
            Failure::CredentialsRejected(_) => REJECTED_SECRET_RECHECK,
            failure => Duration::from_secs(failure.retry_after_seconds().unwrap_or_default()),
        };
        let later = world.now.plus(pause);
        world.pass_until(later);
    }
    false
}

/// One request from its beginning to its end. None if it does not end.
fn call(fleet: &Fleet, world: &mut World, who: usize, account: usize) -> Ended {
    let mut ended = fleet.begin(world, who, account, TOKEN);
    for _ in 0..EFFECTS {
        if ended.is_some() {
            break;
        }
        let event = fleet.perform(world, who, Fate::Normal);
        ended = fleet.step(world, who, event);
    }
    ended
}
