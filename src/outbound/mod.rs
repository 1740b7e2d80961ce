//! Production implementations of the [`ports`](crate::ports). They translate, and decide nothing.
//!
//! | module | contents |
//! | --- | --- |
//! | [`aws_http`] | the AWS SDK's HTTP client |
//! | `clock` | the wall clock and random numbers |
//! | [`convirza`] | the upstream: requests, responses, expiries |
//! | [`dynamodb`] | conditional reads and writes; [`dynamodb::item`] is the form of the stored items |
//! | [`sdk`] | the AWS SDK's settings |
//! | `secrets_manager` | the accounts' credentials |
//! | [`Roots`] | which certificate authorities are trusted; the clients have the same rule |
//! | `upstream_hosts` | the hosts to which tokens and passwords may be sent |

pub mod aws_http;
mod clock;
pub mod convirza;
pub mod dynamodb;
pub mod sdk;
mod secrets_manager;
mod upstream_hosts;

pub use clock::{FleetClock, SystemClock};
pub use convirza::Convirza;
pub use dynamodb::Table;
pub use secrets_manager::{SecretsManager, parse as parse_secret};
pub use token_broker_client::http::Roots;
pub use upstream_hosts::UpstreamHosts;
