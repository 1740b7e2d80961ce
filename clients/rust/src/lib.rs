//! Tokens for the Convirza API from token-broker.
//!
//! [`TokenSource`] caches tokens by account, renews them before they expire, and reports tokens that the API refused.
//! [`BrokerClient`] reaches the broker through the agent on localhost, by direct invocation, or through its HTTP API.
//!
//! ```ignore
//! let environment = Environment::of_process();
//! let source = TokenSource::new(BrokerClient::agent(&environment)?);
//! let token = source.get(&AccountName::default()).await?;
//! ```
//!
//! | module | contents |
//! | --- | --- |
//! | `source` | the cache and its calls, one at a time per account |
//! | `cache` | the decisions: what a cached token answers, when it is renewed, how failures pause calls. Pure |
//! | `transports` | the three transports: requests out, answers in |
//! | `client` | performs calls |
//! | `aws` | Region, credentials and signatures (feature `aws`) |
//! | [`http`] | a small HTTP/1.1 client with reused connections |
//! | `middleware` | a `reqwest-middleware` (feature `middleware`) |
//! | `testing` | a broker in memory, for the callers' tests (feature `testing`) |

mod answer;
#[cfg(feature = "aws")]
mod aws;
mod broker;
mod cache;
mod client;
mod clock;
mod environment;
mod error;
pub mod http;
#[cfg(feature = "middleware")]
mod middleware;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod transports;

pub use answer::{Reply, Token};
pub use broker::{BoxFuture, Broker};
pub use client::BrokerClient;
pub use clock::{Clock, SystemClock, within};
pub use contract::{
    AccountName, Action, Call, ClientErrorCode, DEFAULT_MIN_TTL, Draw, ErrorCode, Extra, Generation, Secret,
    ServedFrom, Timestamp,
};
pub use environment::{Environment, GuardTokenError};
pub use error::{Code, Error};
#[cfg(feature = "middleware")]
pub use middleware::BearerToken;
pub use source::{Limits, TokenSource};
