//! The documents agree with the code, the template and the local stack.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod commands;
mod direction;
mod limits;
mod links;
mod names;
mod page;
