//! The upstream: Convirza's OAuth hosts and API.

mod client;
mod json;
pub mod response;
mod retry_after;

pub use client::Convirza;
pub(super) use client::V2_OAUTH_URL;
