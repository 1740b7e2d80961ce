//! I7: once nothing goes wrong any more, the next request is served in a bounded number of steps.

use crate::{environment::Fate, model::Fleet, setting::TOKEN, world::World};
use protocol::{Done, Failure, Memory, REJECTED_SECRET_RECHECK};
use std::time::Duration;

/// How often a caller is told to come back, at most: because an account rests, then because logins are
/// blocked, then because the budget is used up.
const CALLS: usize = 4;
/// Effects of one request.
const EFFECTS: usize = 60;

/// In a state in which nobody is at anything: a new instance, and one that remembers, are both served.
///
/// One request at a time is enough: where there are several, whoever of them comes first meets this state.
pub fn the_next_request_is_served(fleet: &Fleet, world: &World) -> bool {
    if world.broken.is_some() || world.instances.iter().any(|instance| instance.at.is_some()) {
        return true;
    }
    (0..world.accounts.len()).all(|account| {
        let mut forgetful = world.clone();
        forgetful.instances[0].memory.fill(Cache::default());
        let served = |who| is_served(fleet, world.clone(), who, account);
        is_served(fleet, forgetful, 0, account) && (0..world.instances.len()).all(served)
    })
}

fn is_served(fleet: &Fleet, mut world: World, who: usize, account: usize) -> bool {
    // What happens from here on was not seen in any run.
    let fleet = &Fleet::new(fleet.setting.clone());
    world.outage = false;
    for _ in 0..CALLS {
        let failure = match call(fleet, &mut world, who, account) {
            Some(Ok(Outcome::Token(_))) => return world.broken.is_none(),
            Some(Err(failure)) => failure,
            Some(Ok(Outcome::Report { .. })) | None => return false,
        };
        let pause = match failure {
            Failure::CredentialsRejected(_) if !fleet.setting.secrets[world.secret - 1] => return true,
            // Whoever remembers that a version is parked does not ask at once whether there is a newer one.
            Failure::CredentialsRejected(_) => REJECTED_SECRET_RECHECK,
            failure => Duration::from_secs(failure.retry_after_seconds().unwrap_or_default()),
        };
        let later = world.now.plus(pause);
        world.pass_until(later);
    }
    false
}

/// One request from its beginning to its end; none where it does not come to an end.
fn call(fleet: &Fleet, world: &mut World, who: usize, account: usize) -> Option<Result<Outcome, Failure>> {
    let mut result = fleet.begin(world, who, account, TOKEN);
    for _ in 0..EFFECTS {
        if result.is_some() {
            break;
        }
        let event = fleet.perform(world, who, Fate::Done);
        result = fleet.step(world, who, event);
    }
    result
}
