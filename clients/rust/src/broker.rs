//! How calls reach the broker.

use crate::{Call, Error, Reply};
use std::{future::Future, pin::Pin};

/// A future without a name.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries calls to the broker. [`crate::BrokerClient`] does so over the network.
pub trait Broker: Send + Sync + 'static {
    /// Carries one call. Not retried: the broker decides what is safe to repeat.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply, Error>>;
}
