//! I7: once the faults have stopped, callers are served in a bounded number of steps. While the table refuses requests,
//! they are answered quickly.

use crate::{
    environment::Fate,
    model::{Ended, Fleet},
    setting::{Outage, TOKEN},
    world::{Invariant, World},
};
use std::time::Duration;
use token_broker_protocol::{
    Cache, Effect, Failure, Intent, Outcome, REJECTED_SECRET_RECHECK, Timestamp, Verdict,
};

/// How many times a caller calls: once more after a cooldown, after a block of all logins, after an exhausted budget, and
/// each second for as long as the instance remembers that the store or the secret failed.
const CALLS: usize = 7;
/// Effects of one request.
const EFFECTS: usize = 60;
/// In an outage, a caller gets a usable token within this time, ...
const TOKEN_IN_AN_OUTAGE: Duration = Duration::from_secs(4);
/// ... or learns within this time that there is none.
const FAILURE_IN_AN_OUTAGE: Duration = Duration::from_secs(8);

/// In a state in which no request is running, a new instance is served, and so is every instance with its cache.
pub(crate) fn the_next_request_is_served(fleet: &Fleet, world: &World) -> bool {
    is_disturbed_or_busy(world)
        || (0..world.accounts.len()).all(|account| {
            let served = |who| is_served(fleet, world.clone(), who, account);
            is_served(fleet, restarted(world), 0, account) && (0..world.instances.len()).all(served)
        })
}

fn is_disturbed_or_busy(world: &World) -> bool {
    world.violated.is_some() || world.instances.iter().any(|instance| instance.running.is_some())
}

/// The same state, in which the first instance has just started.
fn restarted(world: &World) -> World {
    let mut restarted = world.clone();
    restarted.instances[0].caches.fill(Cache::default());
    restarted
}

fn is_served(fleet: &Fleet, mut world: World, who: usize, account: usize) -> bool {
    let fleet = &unobserved(fleet);
    world.outage = None;
    for _ in 0..CALLS {
        let Some(result) = call(fleet, &mut world, who, account, TOKEN) else { return false };
        match next_call(fleet, &world, result) {
            NextCall::None => return world.violated.is_none(),
            NextCall::Defect => return false,
            NextCall::After(pause) => {
                let later = world.now.plus(pause);
                world.pass_until(later);
            }
        }
    }
    false
}

/// Situations reached from here on do not belong to a run.
fn unobserved(fleet: &Fleet) -> Fleet {
    Fleet::new(fleet.setting.clone())
}

/// What a caller with the request [`TOKEN`] does after it ends.
enum NextCall {
    None,
    After(Duration),
    Defect,
}

fn next_call(fleet: &Fleet, world: &World, result: Result<Outcome, Failure>) -> NextCall {
    match result {
        Ok(Outcome::Token(_)) => NextCall::None,
        Ok(Outcome::Report { .. } | Outcome::Unblocked { .. }) => NextCall::Defect,
        Err(Failure::CredentialsRejected(_)) if !fleet.setting.secrets[world.secret - 1] => NextCall::None,
        // An instance that remembers a rejected version does not look for a newer one at once.
        Err(Failure::CredentialsRejected(_)) => NextCall::After(REJECTED_SECRET_RECHECK),
        Err(failure) => {
            NextCall::After(Duration::from_secs(failure.retry_after_seconds().unwrap_or_default()))
        }
    }
}

/// One request from start to end. `None` if it does not end.
fn call(fleet: &Fleet, world: &mut World, who: usize, account: usize, intent: Intent) -> Ended {
    let mut ended = fleet.begin(world, who, account, intent);
    for _ in 0..EFFECTS {
        if ended.is_some() {
            break;
        }
        let fate = fleet.fates(world, who)[0];
        let event = fleet.perform(world, who, fate);
        ended = fleet.step(world, who, event);
    }
    ended
}

/// One of several callers at once.
enum Caller {
    /// Its request is running, after this many others.
    Calling(usize),
    Waiting(usize, Timestamp),
    Served,
}

/// If nothing fails from now on, every request that is running ends, and then every instance is served, all of them at
/// once and in turn. Returns what is violated on the way, if anything is.
pub(crate) fn all_are_served(fleet: &Fleet, world: &World) -> Result<(), Invariant> {
    const NOT_SERVED: Result<(), Invariant> = Err(Invariant::EveryCallerIsServed);
    let fleet = &unobserved(fleet);
    let mut world = World { outage: None, ..world.clone() };
    let instances = 0..world.instances.len();
    let caller = |who: usize| match &world.instances[who].running {
        Some(_) => Caller::Calling(0),
        None => Caller::Waiting(0, world.now),
    };
    let mut callers: Vec<Caller> = instances.clone().map(caller).collect();
    for _ in 0..instances.len() * CALLS * EFFECTS {
        // Every instance that can act does so before time passes.
        let ready_at = |who: usize| match (&callers[who], &world.instances[who].running) {
            (Caller::Served, _) => None,
            (Caller::Waiting(_, until), _) => Some(*until),
            (Caller::Calling(_), Some(running)) => match running.effect {
                Effect::Pause { until } => Some(fleet.end_of_pause(&world, who, until)),
                _ => Some(world.now),
            },
            (Caller::Calling(_), None) => Some(world.now),
        };
        let next = instances.clone().filter_map(|who| Some((ready_at(who)?.max(world.now), who))).min();
        if let Some(invariant) = world.violated {
            return Err(invariant);
        }
        let Some((at, who)) = next else { return Ok(()) };
        world.pass_until(at);
        let (calls, ended) = match callers[who] {
            Caller::Calling(calls) => {
                let event = fleet.perform(&mut world, who, Fate::Normal);
                (calls, fleet.step(&mut world, who, event))
            }
            Caller::Waiting(calls, _) if calls == CALLS => return NOT_SERVED,
            Caller::Waiting(calls, _) => {
                let account = who % world.accounts.len();
                (calls + 1, fleet.begin(&mut world, who, account, TOKEN))
            }
            Caller::Served => continue,
        };
        callers[who] = match ended {
            None => Caller::Calling(calls),
            Some(_) if calls == 0 => Caller::Waiting(0, world.now),
            Some(result) => match next_call(fleet, &world, result) {
                NextCall::None => Caller::Served,
                NextCall::Defect => return NOT_SERVED,
                NextCall::After(pause) => Caller::Waiting(calls, world.now.plus(pause)),
            },
        };
    }
    NOT_SERVED
}

/// While the table refuses requests and no request is running, the next one ends soon: with the token if a usable one
/// can be read or is remembered, even if the request was to verify or to renew it.
pub(crate) fn an_outage_is_answered_soon(fleet: &Fleet, world: &World) -> bool {
    let Some(outage) = world.outage else { return true };
    is_disturbed_or_busy(world)
        || (0..world.accounts.len()).all(|account| {
            let generation = world.accounts[account].record.generation();
            let report = Intent::Token { min_ttl: TOKEN.min_ttl(), rejected: generation };
            [TOKEN, report].into_iter().all(|intent| {
                let soon = |world, who| is_answered_soon(fleet, world, who, account, intent, outage);
                soon(restarted(world), 0) && (0..world.instances.len()).all(|who| soon(world.clone(), who))
            })
        })
}

fn is_answered_soon(
    fleet: &Fleet,
    mut world: World,
    who: usize,
    account: usize,
    intent: Intent,
    outage: Outage,
) -> bool {
    let fleet = &unobserved(fleet);
    let (clock, begun) = (world.clock(&fleet.setting, who), world.now);
    let record = &world.accounts[account].record;
    let cached = world.instances[who].caches[account].record.as_ref().map(|cached| &cached.account);
    let known = match outage {
        Outage::Table => cached,
        Outage::Writes => Some(record),
    };
    let usable = known.and_then(|account| account.pair.as_ref()).is_some_and(|pair| {
        pair.verdict != Verdict::Dead && fleet.setting.policy().usable(pair, TOKEN.min_ttl(), clock)
    });
    let leased = record.active_lease(clock).is_some();
    let Some(result) = call(fleet, &mut world, who, account, intent) else { return false };
    let took = world.now.since(begun);
    world.violated.is_none()
        && match result {
            // A report waits for the holder of the lease, which may be about to probe the token.
            Ok(_) => took <= TOKEN_IN_AN_OUTAGE || (leased && !(usable && intent == TOKEN)),
            // The request waits for a lease that was not released.
            Err(failure) => {
                !usable && (leased || (took <= FAILURE_IN_AN_OUTAGE && failure != Failure::TooLittleTime))
            }
        }
}
