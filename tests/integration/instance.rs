//! Instances of the function: the real binary, one process each.

use emulators::{World, instance::Instance, runtime_api::Invocation};
use futures_util::future::join_all;
use serde_json::Value;
use std::path::Path;

/// Settings with short timeouts, so that faults end quickly.
pub(crate) const QUICK: [(&str, &str); 3] =
    [("BROKER_UPSTREAM_TIMEOUT_MS", "1000"), ("BROKER_LEASE_MS", "3000"), ("BROKER_CLOCK_MARGIN_MS", "500")];
/// Settings for a slow upstream: long timeouts, which no busy machine exceeds.
pub(crate) const PATIENT: [(&str, &str); 2] =
    [("BROKER_UPSTREAM_TIMEOUT_MS", "10000"), ("BROKER_LEASE_MS", "25000")];

/// Starts an instance in a world. `settings` replace [`QUICK`] and the world's own.
pub(crate) async fn start(world: &World, settings: &[(&str, &str)]) -> Instance {
    let settings = QUICK.iter().chain(settings).map(|(name, value)| (*name, (*value).to_owned()));
    start_with(world.environment().into_iter().chain(settings)).await
}

/// Starts several instances with the same settings.
pub(crate) async fn start_many(world: &World, count: usize) -> Vec<Instance> {
    start_many_with(world, count, &[]).await
}

/// Like [`start_many`], with settings as for [`start`].
pub(crate) async fn start_many_with(world: &World, count: usize, settings: &[(&str, &str)]) -> Vec<Instance> {
    join_all((0..count).map(|_| start(world, settings))).await
}

/// Starts an instance with only these variables and Lambda's own.
pub(crate) async fn start_with<'a>(environment: impl IntoIterator<Item = (&'a str, String)>) -> Instance {
    Instance::start_program(Path::new(env!("CARGO_BIN_EXE_token-broker")), &[], environment).await
}

/// Invokes every instance with the same payload, each of them `times` times, all at once.
pub(crate) async fn invoke_all(instances: &[Instance], times: usize, payload: &Value) -> Vec<Invocation> {
    let invocations =
        instances.iter().flat_map(|instance| (0..times).map(|_| instance.invoke(payload.clone())));
    join_all(invocations).await
}
