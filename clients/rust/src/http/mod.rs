//! A small HTTP/1.1 client: TLS by rustls, connections that are reused, bodies that stream.
//!
//! It follows no redirect, obeys no proxy variable and never repeats a request, except one that was not sent because a
//! reused connection turned out to be closed.

mod client;
mod pool;
mod target;
mod tls;

pub use client::{Body, BoxError, HttpClient, SendError, Sent, collect, empty, full};
pub use target::{BaseUrl, InvalidBaseUrl, Target};
pub use tls::Roots;
