//! Scripted servers for the tests and benchmarks of the clients.
//!
//! | type | stands for |
//! | --- | --- |
//! | [`Broker`] | the broker behind Lambda's Invoke API and behind its HTTP API |
//! | [`Api`] | the API host that the tokens are for |
//! | [`Extensions`] | Lambda's Extensions API |
//! | [`Server`] | any HTTP server, by a function |
//!
//! Every server counts its requests and lets a test await a count, so that no test has to sleep.
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
mod extensions;
mod raw;

pub use crate::{
    Counter,
    server::{Ending, Server, respond},
};
pub use api::{Api, ApiMode, Received};
pub use axum::{body::Body, extract::Request};
pub use broker::{Broker, BrokerMode};
pub use extensions::Extensions;
pub use raw::{Silent, accept_and_reset, exchange, send_and_leave, unused_port};
