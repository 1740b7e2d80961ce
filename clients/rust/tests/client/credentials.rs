//! Where the keys and the Region come from.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use token_broker_client::{AccountName, BrokerClient, Environment, Error, TokenSource};
use token_broker_fakes::{Broker, BrokerMode, Server, respond};

const FAR: &str = "2999-01-01T00:00:00Z";
const PAST: &str = "2001-01-01T00:00:00Z";

fn keys(id: &str, expiration: &str) -> String {
    format!(
        r#"{{"AccessKeyId":"{id}","SecretAccessKey":"s","Token":"session-{id}","Expiration":"{expiration}"}}"#
    )
}

fn source(broker: &Broker, variables: &[(&str, String)]) -> TokenSource {
    let endpoint = ("AWS_ENDPOINT_URL_LAMBDA", broker.url());
    let environment: Environment = variables.iter().cloned().chain([endpoint]).collect();
    TokenSource::new(BrokerClient::invoke(&environment, "token-broker:live"))
}

/// The credential scope and the session token of the last call.
async fn signed_with(source: &TokenSource, broker: &Broker) -> (String, Option<String>) {
    source.get(&AccountName::default()).await.unwrap();
    let headers = broker.calls().pop().unwrap().0;
    let authorization = headers["authorization"].to_str().unwrap();
    let scope = authorization.split(['=', ',']).nth(1).unwrap().to_owned();
    (scope, headers.get("x-amz-security-token").map(|token| token.to_str().unwrap().to_owned()))
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn region() -> (&'static str, String) {
    ("AWS_REGION", "eu-west-1".to_owned())
}

#[tokio::test]
async fn a_container_gives_keys_to_the_holder_of_its_token() {
    let broker = Broker::start().await;
    let container = Server::start(async |request| {
        assert_eq!(request.headers()["authorization"], "of the file");
        assert_eq!(request.uri().path(), "/v1/credentials");
        respond(200, keys("POD", FAR))
    })
    .await;
    let token = file("pod-token", "of the file\n");
    let source = source(
        &broker,
        &[
            region(),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", container.url())),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string()),
        ],
    );
    let (scope, session) = signed_with(&source, &broker).await;
    assert!(scope.starts_with("POD/") && scope.ends_with("/eu-west-1/lambda/aws4_request"), "{scope}");
    assert_eq!(session.as_deref(), Some("session-POD"));
}

#[tokio::test]
async fn keys_are_requested_once_and_again_when_they_expire() {
    let broker = Broker::start().await;
    // No answer is cached, so that each request is a signed call.
    broker.set_mode(BrokerMode::Failing("invalid_request", None));
    let requested = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&requested);
    let container = Server::start(move |_| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        async move { respond(200, keys("TASK", if number == 0 { PAST } else { FAR })) }
    })
    .await;
    let source =
        source(&broker, &[region(), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/", container.url()))]);
    for (call, total) in [(1, 1), (2, 2), (3, 2), (4, 2)] {
        let min_ttl = std::time::Duration::from_secs(call);
        source.get_for(&AccountName::default(), min_ttl).await.unwrap_err();
        assert_eq!(requested.load(Ordering::Relaxed), total);
    }
}

#[tokio::test]
async fn an_instance_gives_keys_and_region_by_version_2() {
    let broker = Broker::start().await;
    let instance = Server::start(async |request| {
        let session =
            request.headers().get("x-aws-ec2-metadata-token").map(|value| value == "metadata session");
        match (request.method().as_str(), request.uri().path(), session) {
            ("PUT", "/latest/api/token", None) => respond(200, "metadata session"),
            ("GET", "/latest/meta-data/placement/region", Some(true)) => respond(200, "ap-south-1"),
            ("GET", "/latest/meta-data/iam/security-credentials/", Some(true)) => respond(200, "role\n"),
            ("GET", "/latest/meta-data/iam/security-credentials/role", Some(true)) => {
                respond(200, keys("INSTANCE", FAR))
            }
            _ => respond(401, ""),
        }
    })
    .await;
    let source = source(&broker, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.url())]);
    let (scope, _) = signed_with(&source, &broker).await;
    assert!(scope.starts_with("INSTANCE/") && scope.contains("/ap-south-1/"), "{scope}");
}

#[tokio::test]
async fn a_web_identity_is_exchanged_for_keys() {
    let broker = Broker::start().await;
    let sts = Server::start(async |_| {
        respond(
            200,
            "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEB</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>session-WEB</SessionToken>\
             <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>",
        )
    })
    .await;
    let token = file("web-token", "a.b.c");
    let source = source(
        &broker,
        &[
            region(),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x".to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.url()),
        ],
    );
    let (scope, session) = signed_with(&source, &broker).await;
    assert!(scope.starts_with("WEB/"), "{scope}");
    assert_eq!(session.as_deref(), Some("session-WEB"));
}

#[tokio::test]
async fn a_profile_gives_keys_and_region() {
    let broker = Broker::start().await;
    let credentials =
        file("credentials", "[dev]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n[default]\n");
    let config = file("config", "[profile dev]\nregion = us-west-2\n");
    let source = source(
        &broker,
        &[
            ("AWS_PROFILE", "dev".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.display().to_string()),
            ("AWS_CONFIG_FILE", config.display().to_string()),
        ],
    );
    let (scope, session) = signed_with(&source, &broker).await;
    assert!(scope.starts_with("PROFILE/") && scope.contains("/us-west-2/"), "{scope}");
    assert_eq!(session, None);
}

#[tokio::test]
async fn without_keys_the_error_says_where_they_were_sought() {
    let broker = Broker::start().await;
    let source = source(&broker, &[region(), ("AWS_EC2_METADATA_DISABLED", "true".to_owned())]);
    let error = source.get(&AccountName::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Unsigned(why) if why.contains("metadata")), "{error}");
    assert_eq!(broker.called().get(), 0);
}
