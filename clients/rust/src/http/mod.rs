//! A small HTTP/1.1 client: TLS by rustls, connections that are reused, bodies that stream.
//!
//! It follows no redirect, obeys no proxy variable and never repeats a request, except one that was not sent because a
//! reused connection turned out to be closed.
//!
//! hyper-util opens the connections. Its pooled client is not used: it measures idleness by a clock that stands still in
//! a frozen process, and does not tell whether a connection was reused, which decides what the agent may send again.

mod body;
mod client;
mod pool;
mod target;
mod tls;

#[cfg(feature = "aws")]
pub(crate) use body::chain;
pub use body::{Body, BoxError, collect, empty, full};
pub use client::{HttpClient, SendError, Sent};
pub use target::{BaseUrl, InvalidBaseUrl, Target};
pub use tls::{Roots, TlsError};
