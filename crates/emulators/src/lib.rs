//! The outside world, emulated on loopback, for development and tests. Nothing that ships links it.
//!
//! | module | contents |
//! | --- | --- |
//! | [`World`] | Convirza, DynamoDB and Secrets Manager, ready for a broker |
//! | [`convirza`] | the upstream, V3 and V2 |
//! | [`dynamodb`], `secrets_manager` | embedded engines of the two AWS services |
//! | [`service`] | the front of an AWS service: counts operations and injects faults |
//! | [`clock`] | the time of all services, which a test can set forward |
//! | [`aws`], [`faults`] | faults of the AWS services; the faults planned for any service |
//! | [`runtime_api`], [`instance`] | the Lambda Runtime API; a process of the function under it |
//! | [`fakes`] | scripted servers for the clients: the broker, an API, Lambda's Extensions API, raw connections |
//! | [`server`] | an HTTP server that can cut its connections |
//!
//! Each service listens on 127.0.0.1, counts its requests, and takes faults while it runs. It stops and cuts its
//! connections when its handle is dropped. Another emulator of AWS, such as moto, can replace the embedded engines.
//!
//! The feature `world` has everything except `fakes` and `server`. The tests of the clients do not use it, and so need
//! no embedded database.

#[cfg(feature = "world")]
pub mod aws;
#[cfg(feature = "world")]
pub mod clock;
#[cfg(feature = "world")]
pub mod convirza;
mod counter;
#[cfg(feature = "world")]
pub mod dynamodb;
pub mod fakes;
#[cfg(feature = "world")]
pub mod faults;
#[cfg(feature = "world")]
pub mod instance;
#[cfg(feature = "world")]
pub mod runtime_api;
#[cfg(feature = "world")]
mod secrets_manager;
pub mod server;
#[cfg(feature = "world")]
pub mod service;
mod tls;
#[cfg(feature = "world")]
mod world;

pub use counter::Counter;
#[cfg(feature = "world")]
pub use world::{Aws, DEFAULT_ACCOUNT, Ports, REGION, World, credentials_secret, v2_secret};

use std::{io, net::SocketAddr};

/// Why a service could not start, or refused a request from the world itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or not permitted.
    #[error("{service} cannot listen on {address}: {source}")]
    Listen {
        /// The service's name.
        service: &'static str,
        /// The requested address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// DynamoDB or Secrets Manager refused a request.
    #[error("the emulated AWS returned an error: {reason}")]
    Engine {
        /// The error.
        reason: String,
    },
    /// DynamoDB or Secrets Manager is unreachable.
    #[cfg(feature = "world")]
    #[error("the emulated AWS is unreachable: {0}")]
    HttpClient(#[from] reqwest::Error),
}
