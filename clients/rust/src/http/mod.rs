//! A small HTTP/1.1 client: TLS by rustls, reused connections, streaming bodies.
//!
//! It follows no redirects, ignores proxy variables, and never repeats a request, except one that was not sent because
//! a reused connection had been closed.
//!
//! hyper-util opens the connections. Its pooled client is not used, because it measures idleness by a clock that stops
//! in a frozen process, and does not say whether a connection was reused, which decides what the agent may send again.

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
