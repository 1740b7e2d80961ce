//! What an instance reads while it starts.

use crate::{instance, world};
use emulators::aws::{AwsFault, Operations};
use serde_json::{Value, json};

/// A world whose table holds the default account's pair.
async fn world_with_pair() -> emulators::World {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_PREFETCH", "")]).await;
    let answer = instance.invoke(json!({})).await.expect("a token");
    assert_eq!(answer["served_from"], "upstream");
    world
}

/// The source of an instance's first answer, and the reads of the table until then.
async fn first_answer(world: &emulators::World, settings: &[(&str, &str)]) -> (Value, u64) {
    let reads_before = world.dynamodb.counts().reads;
    let instance = instance::start(world, settings).await;
    let answer = instance.invoke(json!({})).await.expect("a token");
    (answer["served_from"].clone(), world.dynamodb.counts().reads - reads_before)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_of_an_instance_comes_from_memory() {
    let world = world_with_pair().await;
    for (settings, source, reads) in [
        (vec![], "memory", 1),
        (vec![("BROKER_PREFETCH", "")], "table", 1),
        // An account without a pair may be a grant that only a person can renew, which has another item.
        (vec![("BROKER_PREFETCH", "emea")], "table", 3),
        // With a memory TTL of zero, the record read at the start is already too old.
        (vec![("BROKER_MEMORY_TTL_SECONDS", "0")], "table", 2),
    ] {
        assert_eq!(first_answer(&world, &settings).await, (json!(source), reads), "{settings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_prefetch_is_repeated_by_the_first_request() {
    let world = world_with_pair().await;
    for fault in [AwsFault::AccessDenied, AwsFault::Hang] {
        world.dynamodb.faults().set(Operations::Reads, fault, Some(1));
        let instance = instance::start(&world, &[]).await;
        instance.invoke(json!({})).await.expect("a token");
    }
}
