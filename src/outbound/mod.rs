//! Production implementations of the [`ports`](crate::ports). They translate and decide nothing.
//!
//! | module | contents |
//! | --- | --- |
//! | [`aws_http`] | the AWS SDK's HTTP client |
//! | `clock` | the wall clock and random numbers |
//! | [`dynamodb`] | conditional reads and writes; [`dynamodb::item`] is the form of the stored items |
//! | [`sdk`] | the AWS SDK's settings |
//! | `secret` | the JSON of a secret |
//! | `secrets_manager` | the accounts' credentials |
//! | [`Roots`] | which certificate authorities are trusted; the clients have the same rule |
//! | [`upstream`] | Convirza and OAuth 2.0: requests, responses, expiries |
//! | `upstream_hosts` | the hosts to which tokens and passwords may be sent |

pub mod aws_http;
mod clock;
pub mod dynamodb;
pub mod sdk;
mod secret;
mod secrets_manager;
pub mod upstream;
mod upstream_hosts;

pub use clock::{FleetClock, SystemClock};
pub use dynamodb::Table;
pub use secret::parse as parse_secret;
pub use secrets_manager::SecretsManager;
pub use token_broker_client::http::Roots;
pub use upstream::HttpUpstream;
pub use upstream_hosts::UpstreamHosts;
