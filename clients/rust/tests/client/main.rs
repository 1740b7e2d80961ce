//! The client over real connections, against scripted servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod middleware;
mod testing;
mod tls;
mod transports;
