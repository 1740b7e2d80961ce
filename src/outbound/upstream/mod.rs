//! The upstream: Convirza's OAuth hosts and API, and any OAuth 2.0 token endpoint.

pub mod body;
mod client;
mod convirza;
mod oauth2;
pub mod oauth_error;
pub mod response;
mod retry_after;

pub use client::HttpUpstream;
#[cfg(test)]
pub(super) use client::builder;
pub(super) use convirza::V2;
