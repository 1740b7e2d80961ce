//! Model checks the renewal of grants that only a person can renew: the production code runs through every interleaving
//! of a small fleet, against servers of each known behaviour.
//!
//! | module | contents |
//! | --- | --- |
//! | [`setting`] | configurations: the server, the fleet, its requests, the secrets, and the faults |
//! | [`server`] | an authorization server: rotation, reuse detection, grace periods |
//! | [`world`] | one state, and what the invariants need to know of the past |
//! | [`environment`] | performs effects, with every possible fault |
//! | [`model`] | the actions, and the state that each leads to |
//! | [`invariants`] | which token may be sent (I2), and which grant may be lost (I6) |
//! | [`invariants_hold`] | the configurations that are checked |
//! | [`guards`] | details of the rule, and the run that each of them prevents |
//!
//! Time passes in whole seconds, from one relevant instant to the next.

#![allow(
    clippy::unused_self,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints how many states it has visited"
)]

mod environment;
mod guards;
mod invariants;
mod invariants_hold;
mod model;
mod server;
mod setting;
mod world;

use model::{Action, Fleet};
use setting::{START, Setting};
use stateright::{Checker, Expectation, Model};
use world::World;

/// Visits every state of a configuration. All of `sights` have to be reached, to show that the runs get that far.
fn check(name: &str, setting: Setting, sights: &[&str]) {
    let checker = Fleet::new(setting).checker().spawn_bfs().join();
    println!("{name}: {} states, {} of them different", checker.state_count(), checker.unique_state_count());
    for (property, run) in checker.discoveries() {
        if checker.model().property(property).expectation == Expectation::Always {
            println!("{name}: {property} is violated by:");
            let steps = run.into_vec();
            for (world, action) in &steps {
                println!("{}", told(world, action.as_ref()));
            }
            let (last, _) = steps.last().unwrap();
            println!("{:?}\n{:#?}\n{:#?}", last.violated, last.record, last.server);
        }
    }
    checker.assert_properties();
    let seen = checker.model().sights.lock().unwrap().clone();
    for sight in sights {
        assert!(seen.contains(sight), "{name}: no run reaches {sight}");
    }
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
