//! Secrets Manager, through the real AWS SDK.

use crate::{front::context, handler, ports, world, world_with};
use emulators::{
    aws::{AwsFault, Operations},
    convirza::Settings,
    credentials_secret,
};
use lambda_runtime::LambdaEvent;
use protocol::{AccountName, SecretError};
use serde_json::json;

#[tokio::test]
async fn a_secret_is_read_with_its_version() {
    let world = world().await;
    let version = world.put_secret("emea", &credentials_secret("who", "word")).await.expect("a version");
    let secrets = ports(&world).secrets;
    let emea = AccountName::parse("emea").unwrap();
    let credentials = secrets.read(&emea).await.expect("credentials");
    assert_eq!(credentials.version.0, version);
    assert_eq!(protocol::testing::password(&credentials).expose(), "word");
}

#[tokio::test]
async fn missing_bad_and_unreachable_secrets_are_distinguished() {
    let world = world().await;
    let secrets = ports(&world).secrets;
    let emea = AccountName::parse("emea").unwrap();
    assert_eq!(secrets.read(&emea).await, Err(SecretError::Missing));
    world.put_secret("emea", "{}").await.expect("a version");
    assert_eq!(secrets.read(&emea).await, Err(SecretError::Bad("`email` is missing".to_owned())));
    world.delete_secret("emea").await.expect("deleted");
    assert_eq!(secrets.read(&emea).await, Err(SecretError::Missing), "it can be recovered, but not read");
    for fault in [AwsFault::Unavailable, AwsFault::EmptySuccess, AwsFault::Unproven, AwsFault::Reset] {
        world.secrets_manager.faults().set(Operations::All, fault, None);
        assert_eq!(secrets.read(&emea).await, Err(SecretError::Unreachable), "{fault:?}");
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let world = world().await;
    world.secrets_manager.faults().set(Operations::All, AwsFault::AccessDenied, None);
    let error = handler(&world).handle(LambdaEvent::new(json!({}), context())).await.expect_err("no token");
    assert_eq!(error.error_type, "misconfigured");
    let message = error.error_message;
    assert!(
        message.contains("Secrets Manager refused GetSecretValue with AccessDeniedException"),
        "{message}"
    );
    assert!(!message.contains("retry_after"), "{message}");
}

#[tokio::test]
async fn the_secret_is_read_only_when_a_login_needs_it() {
    let settings = Settings { access_lifetime: std::time::Duration::from_secs(6), ..Settings::default() };
    let world = world_with(settings).await;
    let handler = handler(&world);
    let refresh = || handler.handle(LambdaEvent::new(json!({"action": "refresh"}), context()));
    refresh().await.expect("a login");
    assert_eq!(world.secrets_manager.counts().reads, 1);
    // The pair of six seconds is due after three. The schedule refreshes it without the secret.
    let renewed = async {
        while world.convirza.observed().refreshes == 0 {
            let maintain = json!({"action": "maintain"});
            handler.handle(LambdaEvent::new(maintain, context())).await.expect("a summary");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), renewed).await.expect("it becomes due");
    assert_eq!((world.secrets_manager.counts().reads, world.convirza.observed().logins_arrived), (1, 1));
}
