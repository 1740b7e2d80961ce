//! A fleet in a simulated world: one queue of events, one generator of chance, no clock.
//!
//! Two crates include this module: `tests/simulation`, which judges what the broker does, and
//! `examples/fleet`, which draws it beside what people do without one. The world knows nothing of what runs on
//! an instance but the effects that it wants and the events that it is told.
//!
//! | module | is about |
//! | --- | --- |
//! | [`plans`] | who asks how often, and what goes wrong when |
//! | [`world`] | true time, and all that takes part |
//! | [`load`] | who asks |
//! | [`requests`] | one request on an instance, from its arrival to its answer |
//! | [`instance`] | an instance, its clock, its memory |
//! | [`strategy`] | what runs on it: the broker's flow, or one of three others |
//! | [`today`] | those three |
//! | [`letters`] | what happens to an effect on its way |
//! | [`faults`] | what can go wrong |
//! | [`store`], [`secrets`], [`upstream`] | what is outside |
//! | [`checks`] | the invariants, and the tally of a run |
//! | [`figures`] | what a run is drawn from |
#![allow(dead_code, reason = "two crates include this module, and neither uses all of it")]

pub mod checks;
pub mod faults;
pub mod figures;
mod instance;
mod messages;
mod load;
pub mod plans;
mod requests;
mod secrets;
mod store;
pub mod strategy;
mod baselines;
mod upstream;
pub mod world;
