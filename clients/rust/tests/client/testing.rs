//! The README's section about tests.

use std::time::Duration;
use token_broker_client::{AccountName, Error, ErrorCode, testing::FakeBroker};

#[tokio::test]
async fn a_refused_token_is_replaced() {
    let (broker, account) = (FakeBroker::default(), AccountName::default());
    let source = broker.source();
    let token = source.get(&account).await.unwrap();
    broker.revoke(&account); // the API answers 401 from here on
    assert!(!broker.accepts(&format!("Bearer {}", token.access_token.expose())));
    let newer = source.report(&account, token.generation).await.unwrap();
    assert!(broker.accepts(&format!("Bearer {}", newer.access_token.expose())));
}

#[tokio::test]
async fn an_expired_token_is_replaced() {
    let (broker, account) = (FakeBroker::default(), AccountName::default());
    let source = broker.source();
    source.get(&account).await.unwrap();
    broker.advance(Duration::from_secs(900));
    source.get(&account).await.unwrap();
    assert_eq!(broker.calls().len(), 2);
}

#[tokio::test]
async fn the_caller_learns_when_to_come_back() {
    let (broker, account) = (FakeBroker::default(), AccountName::default());
    broker.fail(Error::Refused {
        code: ErrorCode::LoginBudgetExhausted.into(), // Error::Unreachable is a missing network
        description: "no login is free".to_owned(),
        retry_after: Some(Duration::from_secs(12)),
        request_id: None,
    });
    let error = broker.source().get(&account).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(12)));
}

// The end of the README's section.

#[tokio::test]
async fn fields_of_the_upstreams_answer_come_with_the_token() {
    let broker = FakeBroker::default();
    let extra = token_broker_client::Extra::parse(r#"{"instance_url":"https://x.example"}"#);
    broker.set_extra(extra.clone());
    let token = broker.source().get(&AccountName::default()).await.unwrap();
    assert_eq!(token.extra, extra);
}

#[tokio::test]
async fn a_fake_replaces_only_a_revoked_token_of_the_same_account() {
    let (broker, account) = (FakeBroker::default(), AccountName::default());
    let other = AccountName::parse("emea").unwrap();
    let source = broker.source();
    let (live, revoked) = (source.get(&account).await.unwrap(), source.get(&other).await.unwrap());
    broker.revoke(&other);
    assert_eq!(source.report(&account, live.generation).await.unwrap().generation, live.generation);
    assert!(source.report(&other, revoked.generation).await.unwrap().generation > revoked.generation);
}

#[tokio::test]
async fn a_fake_recovers() {
    let (broker, account) = (FakeBroker::default(), AccountName::default());
    let source = broker.source();
    broker.fail(Error::Unreachable("no network".to_owned()));
    source.get(&account).await.unwrap_err();
    broker.recover();
    broker.advance(Duration::from_secs(1)); // the failure is the answer for up to a quarter of that
    broker.set_expires_in(Duration::from_secs(60));
    let token = source.get(&account).await.unwrap();
    assert_eq!(token.expires_in(source.now()), 60);
}

#[test]
fn the_readme_shows_these_tests() {
    let shown =
        include_str!("testing.rs").split_once("\n\n").unwrap().1.split_once("\n// The end").unwrap().0;
    assert!(include_str!("../../README.md").contains(shown.trim()), "README.md lacks this:\n{shown}");
}
