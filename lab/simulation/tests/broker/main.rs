//! The broker (`token_broker::broker`) in one process: several requests at a time, in many orders.
//!
//! A bench drives one broker over simulated ports. It decides when each effect is answered and how, when time passes,
//! and which request is cancelled. A seed determines all of that, and the order in which ready requests are polled.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation ends the test"
)]

mod bench;
mod cache;
mod deadline;
mod draws;
mod single_flight;
