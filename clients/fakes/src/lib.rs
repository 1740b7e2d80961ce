//! Scripted servers on loopback, for the tests and benchmarks of the clients.
//!
//! | type | stands for |
//! | --- | --- |
//! | [`Broker`] | the broker behind Lambda's Invoke API and behind its HTTP API |
//! | [`Api`] | the API host that the tokens are for |
//! | [`Extensions`] | Lambda's Extensions API |
//! | [`Server`] | any HTTP server, by a function |
//!
//! Every server counts what reaches it and lets a test await a count, so that no test has to sleep.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a fake fails by panicking"
)]

mod api;
mod broker;
mod counter;
mod extensions;
mod raw;
mod server;
mod tls;

pub use api::{Api, ApiMode, Received};
pub use broker::{Broker, BrokerMode};
pub use counter::Counter;
pub use extensions::Extensions;
pub use raw::{accept_and_reset, exchange, send_and_leave, unused_port};
pub use server::{Body, Ending, Server, body, respond};
