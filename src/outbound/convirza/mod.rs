//! The upstream: Convirza's OAuth hosts and API.

mod client;
pub mod response;

pub use client::Convirza;
pub(super) use client::V2_OAUTH_URL;
