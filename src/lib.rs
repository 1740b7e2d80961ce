//! token-broker: one Convirza token pair, shared by a whole fleet.
//!
//! A serverless function that keeps an account's token pair in DynamoDB, renews it ahead of its expiry, and
//! hands short-lived bearer tokens to internal callers, so that the upstream's login limit is never met.
//!
//! | module | is about |
//! | --- | --- |
//! | [`core`] | the renewal protocol: pure decisions, no I/O |
//! | [`secret`] | the one type that holds a secret |
//! | [`ports`] | what the core needs of the world, in its own types |
//! | [`broker`] | performs what the core asks for |
//! | [`adapters`] | DynamoDB, Secrets Manager, the upstream, Lambda's events, the clock |
//! | [`config`] | the environment, checked once |
//! | [`telemetry`] | the log |

pub mod core;
pub mod secret;

#[cfg(feature = "function")]
pub mod adapters;
#[cfg(feature = "function")]
pub mod broker;
#[cfg(feature = "function")]
pub mod config;
#[cfg(feature = "function")]
pub mod ports;
#[cfg(feature = "function")]
pub mod telemetry;
