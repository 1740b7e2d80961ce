//! Model checks the protocol: the production code runs through every interleaving of a small fleet, in which every
//! instance may crash or pause anywhere, and every write and reply may be lost, delayed or misreported.
//!
//! | module | contents |
//! | --- | --- |
//! | [`setting`] | configurations: the fleet, its requests, and the faults |
//! | [`world`], [`instance`] | one state |
//! | [`environment`] | performs effects, with every possible fault |
//! | [`model`] | the actions, and the state that each leads to |
//! | [`timing`] | how time passes |
//! | [`invariants`] | what may be sent, answered and refused |
//! | [`liveness`] | callers are served after faults, and answered soon during an outage |
//! | [`invariants_hold`] | the configurations that are checked |
//! | [`guards`] | every guard is needed |
//! | [`mutations`] | removes a guard |
//! | [`larger`] | larger configurations, which take minutes |
//!
//! Only time is not exhaustive. It passes in whole seconds, from one relevant instant to the next.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints how many states it has visited"
)]

mod environment;
mod guards;
mod instance;
mod invariants;
mod invariants_hold;
mod larger;
mod liveness;
mod model;
mod mutations;
mod setting;
mod timing;
mod world;

use model::{Action, Fleet};
use setting::{START, Setting};
use stateright::{Checker, Expectation, Model};
use world::World;

/// Visits every state of a configuration. All of `sights` have to be reached, to show that the runs get that far.
fn check(name: &str, setting: Setting, sights: &[&str]) {
    let checker = Fleet::new(setting).checker().spawn_bfs().join();
    report(name, &checker);
    let seen = checker.model().sights.lock().unwrap().clone();
    for sight in sights {
        assert!(seen.contains(sight), "{name}: no run reaches {sight}");
    }
}

/// Prints the number of states, and asserts that every property holds in all of them.
fn report(name: &str, checker: &impl Checker<Fleet>) {
    println!(
        "{name}: {} states, {} of them different, at most {} actions deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    for (property, run) in checker.discoveries() {
        if checker.model().property(property).expectation == Expectation::Always {
            println!("{name}: {property} is violated by:");
            run.into_vec().iter().for_each(|(world, action)| println!("{}", told(world, action.as_ref())));
        }
    }
    checker.assert_properties();
}

/// One step of a run, as a line.
fn told(world: &World, action: Option<&Action>) -> String {
    let seconds = world.now.since(START).as_secs();
    let effect = match action {
        Some(Action::Perform(who, _)) => world.instances[*who].running.as_ref().map(|it| it.effect.name()),
        _ => None,
    };
    let action = action.map(|action| format!("{action:?}"));
    format!("{seconds:>5} s  {} {}", action.as_deref().unwrap_or("the end"), effect.unwrap_or_default())
}
