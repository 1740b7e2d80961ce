//! A fleet simulator. It takes the production broker through weeks of requests, faults and crashes in seconds.
//!
//! It is a discrete-event simulation: one queue of events, one random number generator, no clock. One seed gives one
//! run. *True time* is the time of the event queue. The clock of each instance differs from it by up to half of the
//! tolerated margin. The invariants are checked by true time, at every step.
//!
//! [`Simulation::broker`] runs a fleet with the broker and records what happened to it. [`Simulation::baseline`]
//! replays the same requests and faults against a fleet without the broker.
//!
//! | module | contents |
//! | --- | --- |
//! | `simulation` | one plan with one seed: what a caller of this crate runs |
//! | `plans` | load, faults and incidents of each run |
//! | `world` | true time, the event queue, and all parts of the world |
//! | `load` | callers and the schedule |
//! | `requests` | one request on an instance, from its arrival to its answer |
//! | `instance` | an instance: its clock, and what runs on it |
//! | `strategy` | what runs on the instances: the broker, or a baseline |
//! | `process`, `broker_requests` | requests of the broker, and what may happen to its process |
//! | `ports` | the ports of a process: each call waits for the world's reply |
//! | `executor` | polls the requests, in an order that is drawn |
//! | `baselines` | three common designs without the broker, and the loop around them |
//! | `messages` | latency, loss and delay of each effect |
//! | `faults` | what can go wrong |
//! | `store`, `secrets`, `upstream` | DynamoDB, Secrets Manager and Convirza, or an OAuth 2.0 server |
//! | `checks`, `tally` | the invariants, and the counts of a run |
//! | `grants` | the invariants of grants that only a person can renew |
//! | `figures` | the data of the charts |
//! | `time` | spans in milliseconds |
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a run in which the broker breaks an invariant ends with a panic"
)]

mod baselines;
mod broker_requests;
mod checks;
pub mod executor;
mod faults;
mod figures;
mod grants;
mod instance;
mod load;
mod messages;
pub mod own_clock;
mod plans;
pub mod ports;
mod process;
mod requests;
mod secrets;
mod simulation;
mod store;
mod strategy;
mod tally;
mod time;
mod upstream;
mod world;

pub use checks::Checks;
pub use figures::Figures;
pub use plans::Plan;
pub use simulation::Simulation;
pub use strategy::Strategy;
pub use tally::Tally;
pub use time::{DAY, HOUR, MINUTE, SECOND};
pub use world::{START_MS, Trace};
