//! The scheduled action `maintain` on real processes.

use crate::{
    instance::{self, PATIENT, invoke_all, start_many_with},
    items, world, world_with,
};
use emulators::convirza::{Endpoint, Fault, Revoke, Settings};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn renews_due_pairs_and_finishes_pending_revocations() {
    let settings = Settings { access_lifetime: Duration::from_secs(20), ..Settings::default() };
    let world = world_with(settings).await;
    world.add_account("emea", "emea@example.invalid", "local-emea").await.expect("an account");
    // With a maximum TTL of a second, callers accept the pair long after it is due. Only the schedule renews it.
    let instance = instance::start(&world, &[("BROKER_MAX_TTL_SECONDS", "1")]).await;
    instance.invoke(json!({})).await.expect("a token");
    let emea = instance.invoke(json!({"account": "emea"})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(2));
    let failed = instance.invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!((&failed["revoked"], &failed["pending_revocations"]), (&json!(false), &json!(2)));

    let summary = instance.invoke(json!({"action": "maintain"})).await.expect("a summary");
    assert_eq!((&summary["renewed"], &summary["failed"]), (&json!(0), &json!(0)), "{summary}");
    assert_eq!(
        summary["accounts"][0],
        json!({"account": "default", "renewed": false, "pending_revocations": 0})
    );
    assert_eq!(world.convirza.observed().revocations, 2);

    // A pair with such a short life is due after half of it.
    let renewed = async {
        loop {
            let summary = instance.invoke(json!({"action": "maintain"})).await.expect("a summary");
            if summary["renewed"] == 1 {
                break summary;
            }
        }
    };
    let summary = tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("it becomes due");
    let accounts = json!([
        {"account": "default", "renewed": false, "pending_revocations": 0},
        {"account": "emea", "renewed": true, "pending_revocations": 0},
    ]);
    assert_eq!(summary["accounts"], accounts);
    let after = instance.invoke(json!({"account": "emea"})).await.expect("a token");
    assert!(after["generation"].as_u64() > emea["generation"].as_u64());
    let observed = world.convirza.observed();
    assert_eq!((observed.refreshes, observed.logins_arrived), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn paces_refused_revocations_of_long_tokens_and_keeps_few() {
    let world = world().await;
    let instance = instance::start(&world, &[]).await;
    instance.invoke(json!({})).await.expect("a token");
    let pair = items::get(&world, items::DEFAULT_ACCOUNT).await["pair"].clone();
    world.convirza.faults().set(Endpoint::Revoke, Fault::BadRequest, None);
    for number in 0..20 {
        let mut item = items::get(&world, items::DEFAULT_ACCOUNT).await;
        item["pair"] = pair.clone();
        for name in ["access_token", "refresh_token"] {
            item["pair"]["M"][name]["S"] = json!(format!("{name}-{number:02}-").repeat(1000));
        }
        items::put(&world, &item).await;
        let report = instance.invoke(json!({"action": "revoke"})).await.expect("a report");
        assert!(
            report["pending_revocations"].as_u64().is_some_and(|pending| (2..=8).contains(&pending)),
            "{report}"
        );
    }
    let item = items::get(&world, items::DEFAULT_ACCOUNT).await;
    assert!(item["pair"].is_null() && item.to_string().len() < 150_000, "withdrawn, and small");
    let mut refused = Vec::new();
    for _ in 0..3 {
        let before = world.convirza.observed().faults_injected;
        instance.invoke(json!({"action": "maintain"})).await.expect("a summary");
        refused.push(world.convirza.observed().faults_injected - before);
    }
    assert_eq!(refused, [1, 0, 0], "the last pair's refresh token once more; the others pause");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_schedules_renew_once() {
    // A slow upstream, so that the runs overlap.
    let settings = Settings { latency: Duration::from_millis(600), ..Settings::default() };
    let world = world_with(settings).await;
    let instances = start_many_with(&world, 4, &PATIENT).await;
    let maintain = json!({"action": "maintain"});
    instances[0].invoke(json!({})).await.expect("a token");
    let idle = invoke_all(&instances, 1, &maintain).await;
    assert!(idle.iter().all(|summary| summary.as_ref().is_ok_and(|summary| summary["renewed"] == 0)));

    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let pair = instances[0].invoke(json!({})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Refresh, Fault::Reset, Some(1));
    let rejected = json!({"rejected_generation": pair["generation"]});
    instances[0].invoke(rejected).await.expect_err("the probe found it dead, and the renewal failed");
    let renewed = async {
        loop {
            let summaries = invoke_all(&instances, 1, &maintain).await;
            let renewals = summaries
                .iter()
                .filter(|summary| summary.as_ref().is_ok_and(|summary| summary["renewed"] == 1))
                .count();
            if renewals > 0 {
                break renewals;
            }
        }
    };
    let renewals = tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("the cooldown ends");
    assert_eq!(
        (renewals, world.convirza.observed().logins_arrived),
        (1, 2),
        "the refresh token may be consumed, so the renewal is a login"
    );
}
