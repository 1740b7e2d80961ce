//! Runs the real agent against a scripted broker, a scripted API and Lambda's Extensions API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod attacks;
mod broker_faults;
mod cli;
mod connections;
mod credentials;
mod extension;
mod guard;
mod load;
mod oauth;
mod proxy;
mod proxy_faults;
mod streaming;
mod support;
mod tokens;
