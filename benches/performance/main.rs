//! The cost of a warm request above the runtime's own: the real binary answers from its cache, a handler that does
//! nothing answers at once. Both run under the same emulated Runtime API and are invoked alternately.
//!
//! `cargo bench --bench warm` prints both medians and their ratio.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]

use emulators::{Ports, World, convirza::Settings, instance::Instance};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::time::Instant;

const WARM_UP: usize = 500;
const REQUESTS: usize = 5_000;
/// The argument that turns this program into the handler that does nothing.
const DO_NOTHING: &str = "--do-nothing";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if std::env::args().any(|argument| argument == DO_NOTHING) {
        let nothing = lambda_runtime::service_fn(async |_event: lambda_runtime::LambdaEvent<Value>| {
            Ok::<Value, std::convert::Infallible>(json!({}))
        });
        runtime.block_on(lambda_runtime::run(nothing)).expect("the Runtime API");
        return;
    }
    runtime.block_on(compare());
}

async fn compare() {
    let world = World::start(Ports::default(), Settings::default()).await.expect("the emulated services");
    let broker = Path::new(env!("CARGO_BIN_EXE_token-broker"));
    let environment =
        world.environment().into_iter().chain([("BROKER_MEMORY_TTL_SECONDS", "3600".to_owned())]);
    let broker = Instance::start_program(broker, &[], environment).await;
    let this_program = std::env::current_exe().expect("this program");
    let nothing = Instance::start_program(&this_program, &[DO_NOTHING], world.environment()).await;

    let (mut warm, mut floor) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        let (latency, answer) = timed(&broker).await;
        let (floor_latency, _) = timed(&nothing).await;
        if number >= WARM_UP {
            assert_eq!(answer["served_from"], "memory");
            warm.push(latency);
            floor.push(floor_latency);
        }
    }
    let (warm, floor) = (median(warm), median(floor));
    println!("warm request, p50     {warm:?}");
    println!("do-nothing handler    {floor:?}");
    println!("ratio                 {:.2}", warm.as_secs_f64() / floor.as_secs_f64());
    let counts = world.dynamodb.counts();
    println!("store operations      {} for {} requests", counts.reads + counts.writes, WARM_UP + REQUESTS);
}

async fn timed(instance: &Instance) -> (Duration, Value) {
    let invoked_at = Instant::now();
    let answer = instance.invoke(json!({})).await.expect("an answer");
    (invoked_at.elapsed(), answer)
}

fn median(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() / 2]
}
