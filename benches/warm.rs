//! How close a warm request is to the floor of the runtime: the real binary, answering from its memory,
//! against a handler that does nothing, both under the same Runtime API, asked in turn in one run.
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

#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/integration/instance.rs"]
mod instance;
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/integration/runtime_api.rs"]
mod runtime_api;
#[path = "../examples/local/world/mod.rs"]
mod world;

use instance::Instance;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use world::{World, convirza::Settings};

/// What instances are started with, as in the tests.
const QUICK: [(&str, &str); 0] = [];
const WARM_UP: usize = 500;
const REQUESTS: usize = 5_000;
/// Given to this very program, to be the handler that does nothing.
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
    let world = World::start(world::Ports::default(), Settings::default()).await.expect("the embedded world");
    let broker = Instance::start(&world, &[("BROKER_MEMORY_TTL_SECONDS", "3600")]).await;
    let this_program = std::env::current_exe().expect("this program");
    let nothing = Instance::start_program(&this_program, &[DO_NOTHING], world.environment()).await;

    let (mut warm, mut floor) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        let answered = timed(&broker).await;
        let did_nothing = timed(&nothing).await;
        if number >= WARM_UP {
            assert_eq!(answered.1["served_from"], "memory");
            warm.push(answered.0);
            floor.push(did_nothing.0);
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
    let asked = Instant::now();
    let answer = instance.invoke(json!({})).await.expect("an answer");
    (asked.elapsed(), answer)
}

fn median(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() / 2]
}
