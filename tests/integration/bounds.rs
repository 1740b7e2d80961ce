//! Limits on what a caller can cause and learn.

use crate::{instance, world};
use emulators::convirza::{Endpoint, Fault};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn invented_generations_do_not_read_the_table() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_MEMORY_TTL_SECONDS", "3600")]).await;
    let token = instance.invoke(json!({})).await.expect("a token");
    let reads = world.dynamodb.counts().reads;
    let generation = token["generation"].as_u64().expect("a number");
    for invented in [u64::MAX, generation + 3_600_000, generation - 1, 0] {
        for _ in 0..5 {
            let answer = instance.invoke(json!({"rejected_generation": invented})).await.expect("a token");
            assert_eq!(answer["served_from"], "memory", "{invented}");
        }
    }
    assert_eq!(world.dynamodb.counts().reads, reads);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintain_names_only_accounts_that_its_caller_may_see() {
    let world = world().await;
    world.add_account("emea", "emea@example.invalid", "word").await.expect("an account");
    let rules = json!([
        {"caller": "direct", "accounts": ["*"], "actions": ["token", "revoke"]},
        {"caller": "direct:operator", "accounts": ["emea"], "actions": ["status"]},
    ]);
    let instance = instance::start(&world, &[("BROKER_CALLERS", &rules.to_string())]).await;
    for account in ["default", "emea"] {
        world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(2));
        instance.invoke(json!({"account": account})).await.expect("a token");
        instance.invoke(json!({"action": "revoke", "account": account})).await.expect("a report");
    }
    let maintain = json!({"action": "maintain"});
    let counts = json!({"renewed": 0, "failed": 0, "postponed": 0, "accounts": []});
    world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(4));
    assert_eq!(instance.invoke_through(Some("schedule"), &maintain).await.expect("counts"), counts);
    let seen = instance.invoke_through(Some("operator"), &maintain).await.expect("a summary");
    let names: Vec<_> =
        seen["accounts"].as_array().expect("accounts").iter().map(|one| &one["account"]).collect();
    assert_eq!(names, ["emea"]);
}
