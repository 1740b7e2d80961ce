//! The operator's actions on real processes: `refresh`, `revoke` and `status`.

use crate::{
    instance::{self, PATIENT, invoke_all, start_many_with},
    items, world, world_with,
};
use emulators::{
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault, Settings},
};
use serde_json::json;
use std::time::Duration;

mod refresh {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn replaces_the_pair_and_status_shows_it() {
        let world = world().await;
        let instance = instance::start(&world, &[]).await;
        let before = instance.invoke(json!({})).await.expect("a token");
        let after = instance.invoke(json!({"action": "refresh"})).await.expect("a token");
        assert!(after["generation"].as_u64() > before["generation"].as_u64());
        let current = instance.invoke(json!({})).await.expect("a token");
        assert_eq!(current["access_token"], after["access_token"]);

        let status = instance.invoke(json!({"action": "status"})).await.expect("a status");
        assert_eq!(status["accounts"][0]["account"], "default");
        assert_eq!(status["accounts"][0]["generation"], after["generation"]);
        assert_eq!(status["accounts"][0]["obtained_by"], "refresh");
        assert_eq!(status["login_limiter"]["permits"], 1);
        assert!(!status.to_string().contains(after["access_token"].as_str().expect("a token")));
        let one = instance.invoke(json!({"action": "status", "account": "default"})).await.expect("a status");
        assert_eq!(one["accounts"], status["accounts"]);
        let observed = world.convirza.observed();
        assert_eq!((observed.logins_arrived, observed.refreshes), (1, 1));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn several_at_once_replace_the_pair_once() {
        // A slow upstream, so that the requests overlap.
        let settings = Settings { latency: Duration::from_millis(600), ..Settings::default() };
        let world = world_with(settings).await;
        let instances = start_many_with(&world, 4, &PATIENT).await;
        let before = instances[0].invoke(json!({})).await.expect("a token");
        invoke_all(&instances, 1, &json!({})).await;
        for answer in invoke_all(&instances, 1, &json!({"action": "refresh"})).await {
            assert!(answer.expect("a token")["generation"].as_u64() > before["generation"].as_u64());
        }
        let observed = world.convirza.observed();
        assert_eq!((observed.refreshes, observed.logins_arrived), (1, 1));
    }
}

mod revoke {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn removes_the_pair_and_caches_lapse_after_the_memory_ttl() {
        let world = world().await;
        let settings = [("BROKER_MEMORY_TTL_SECONDS", "1")];
        let operator = instance::start(&world, &settings).await;
        let other = instance::start(&world, &settings).await;
        let pair = operator.invoke(json!({})).await.expect("a token");
        assert_eq!(other.invoke(json!({})).await.expect("a token")["access_token"], pair["access_token"]);

        let revoked = operator.invoke(json!({"action": "revoke"})).await.expect("a report");
        assert_eq!(revoked, json!({"account": "default", "revoked": true, "pending_revocations": 0}));
        assert_eq!(world.convirza.observed().revocations, 2);
        let stored = items::get(&world, items::DEFAULT_ACCOUNT).await.to_string();
        assert!(!stored.contains("token"), "the pair is deleted from the table: {stored}");

        let next = operator.invoke(json!({})).await.expect("a token");
        assert_ne!(next["access_token"], pair["access_token"]);
        // The other instance may serve the old pair from its cache for one more second.
        let lapsed = async {
            while other.invoke(json!({})).await.expect("a token")["access_token"] == pair["access_token"] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), lapsed).await.expect("the memory TTL passes");
        assert_eq!(world.convirza.observed().logins_arrived, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn is_finished_by_another_instance_if_the_first_is_killed() {
        let world = world().await;
        let mut events = world.convirza.subscribe();
        let mut operator = instance::start(&world, &[]).await;
        operator.invoke(json!({})).await.expect("a token");
        world.convirza.faults().set(Endpoint::Revoke, Fault::Hang, Some(1));
        let unanswered = operator.begin(json!({"action": "revoke"}));
        while events.recv().await.expect("a revocation").endpoint != Endpoint::Revoke {}
        operator.kill().await;

        let other = instance::start(&world, &[]).await;
        let again = other.invoke(json!({"action": "revoke"})).await.expect("a report");
        assert_eq!(again["pending_revocations"], 0);
        assert_eq!(world.convirza.observed().revocations, 2);
        drop(unanswered);
    }
}

mod status {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn shows_everything_but_secrets() {
        let world = world().await;
        let instance = instance::start(&world, &[]).await;
        let pair = instance.invoke(json!({})).await.expect("a token");
        instance.invoke(json!({"rejected_generation": pair["generation"]})).await.expect("a token");
        let wrong = emulators::credentials_secret("emea@example.invalid", "wrong");
        world.put_secret("emea", &wrong).await.expect("a version");
        instance.invoke(json!({"account": "emea"})).await.expect_err("no token");

        let status = instance.invoke(json!({"action": "status"})).await.expect("a status");
        let default = &status["accounts"][0];
        assert_eq!((&default["account"], &default["generation"]), (&json!("default"), &pair["generation"]));
        for known in ["obtained_by", "issued_at", "due_at", "expires_at", "refresh_expires_at", "verified_at"]
        {
            assert!(default[known].is_string(), "{known} of {default}");
        }
        for none in ["lease_until", "cooldown", "rejected_secret_version"] {
            assert!(default[none].is_null(), "{none} of {default}");
        }
        assert_eq!((&default["verdict"], &default["pending_revocations"]), (&json!("alive"), &json!(0)));
        let emea = &status["accounts"][1];
        assert!(emea["rejected_secret_version"].is_string() && emea["generation"].is_null(), "{emea}");
        assert_eq!(status["login_limiter"]["permits"], 2);
        assert!(status["login_limiter"]["next_login_at"].is_null(), "a login may be sent now");
    }
}

mod unknown_accounts {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn are_refused_by_name() {
        let world = world().await;
        let instance = instance::start(&world, &[]).await;
        for action in ["token", "status", "refresh", "unblock", "revoke"] {
            let payload = json!({"action": action, "account": "nope"});
            let error = instance.invoke(payload).await.expect_err("no such account");
            assert_eq!(error["errorType"], "unknown_account", "{action}");
            let description = error["errorMessage"].as_str().expect("a text");
            assert!(description.starts_with("account nope: "), "{action}: {description}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn are_those_without_a_secret_and_without_a_record() {
        let world = world().await;
        let instance = instance::start(&world, &[]).await;
        // A secret, but no record yet.
        for action in ["status", "unblock", "revoke"] {
            instance
                .invoke(json!({"action": action, "account": "default"}))
                .await
                .expect("known by its secret");
        }
        instance.invoke(json!({})).await.expect("a token");
        world.secrets_manager.faults().set(Operations::All, AwsFault::Unavailable, None);
        for action in ["status", "unblock", "revoke"] {
            // The record is enough, and the secret is not read.
            instance.invoke(json!({"action": action})).await.expect("known by its record");
        }
    }
}
