//! token-broker: one Convirza token pair for each account, shared by a whole fleet.
//!
//! A serverless function that keeps an account's token pair in DynamoDB, renews it before it expires, and
//! hands short-lived bearer tokens to internal callers, so that the fleet stays under the upstream's login limit.
//!
//! | module | contents |
//! | --- | --- |
//! | [`broker`] | performs the effects that the protocol asks for; single flight per account |
//! | [`ports`] | what the broker needs of the outside world |
//! | [`inbound`] | Lambda events: parsing, authorization, answers |
//! | [`outbound`] | DynamoDB, Secrets Manager, Convirza, the clock |
//! | [`config`] | the environment, checked once at start |
//! | [`telemetry`] | a log line for each invocation, and diagnostic events |
//! | [`wiring`] | the adapters and the handler of a configuration |
//! | [`work`] | the work that a request took |
//!
//! The decisions are in the `protocol` crate, a pure state machine.

pub mod broker;
pub mod config;
pub mod inbound;
pub mod outbound;
pub mod ports;
pub mod telemetry;
pub mod wiring;
pub mod work;
