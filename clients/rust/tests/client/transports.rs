//! The three transports to the broker.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use emulators::fakes::{Broker, BrokerMode, Ending, Server, respond, unused_port};
use http_body_util::BodyExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use token_broker_client::{
    AccountName, Action, BrokerClient, Call, ClientErrorCode, Environment, Error, ErrorCode, Generation,
    TokenSource,
};

/// AWS, at this URL.
fn aws(url: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .build()
}

pub(crate) fn by_invoke(url: &str) -> TokenSource {
    let client = BrokerClient::invoke(&Environment::default(), "token-broker:live");
    TokenSource::new(client.with_aws(aws(url)))
}

fn by_http(url: &str) -> TokenSource {
    let client = BrokerClient::http_api(&Environment::default(), url).unwrap();
    TokenSource::new(client.with_aws(aws(url)))
}

fn sources(broker: &Broker) -> [TokenSource; 2] {
    [by_invoke(&broker.url()), by_http(&broker.url())]
}

#[tokio::test]
async fn a_token_comes_by_invoke_and_by_http() {
    let broker = Broker::start().await;
    for source in sources(&broker) {
        let token = source.get(&AccountName::default()).await.unwrap();
        assert_eq!((token.access_token.expose(), token.generation), ("token-default-7", Generation(7)));
    }
    assert_eq!(broker.called().get(), 2);
}

#[tokio::test]
async fn errors_are_typed_on_both_transports() {
    let broker = Broker::start().await;
    broker.set_mode(BrokerMode::Failing("upstream_rate_limited", Some(9)));
    for source in sources(&broker) {
        let error = source.get(&AccountName::default()).await.unwrap_err();
        assert_eq!(
            (error.code(), error.retry_after()),
            (ErrorCode::UpstreamRateLimited.into(), Some(Duration::from_secs(9)))
        );
        assert_eq!(error.description(), "scripted");
    }
}

#[tokio::test]
async fn the_agent_gets_the_guard_token_and_no_signature() {
    let agent = Server::script(async |request| {
        assert_eq!(
            request.uri().to_string(),
            "/v1/token?account=emea&min_ttl_seconds=90&rejected_generation=6"
        );
        assert_eq!(request.headers()["x-token-broker-token"], "guard");
        assert!(!request.headers().contains_key("authorization"));
        respond(200, r#"{"access_token":"t","expires_in":900,"account":"emea","generation":7}"#)
    })
    .await;
    let environment: Environment = [
        ("TOKEN_BROKER_PORT", agent.address().port().to_string()),
        ("TOKEN_BROKER_TOKEN", "guard".to_owned()),
    ]
    .into_iter()
    .collect();
    let client = BrokerClient::agent(&environment).unwrap();
    let source = TokenSource::new(client);
    let emea = AccountName::parse("emea").unwrap();
    let token = source.report_for(&emea, Generation(6), Duration::from_secs(90)).await.unwrap();
    assert_eq!(token.generation, Generation(7));
    let error = source.call(&Call::new(Action::Revoke, None)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest, "the agent carries no operator's actions");
}

#[tokio::test]
async fn the_guard_tokens_file_is_read_for_each_call() {
    let agent = Server::script(async |request| {
        let status = if request.headers()["x-token-broker-token"] == "two" { 200 } else { 401 };
        respond(status, r#"{"access_token":"t","expires_in":900,"account":"emea","generation":7}"#)
    })
    .await;
    let path = std::env::temp_dir().join(format!("token-broker-client-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let environment: Environment = [
        ("TOKEN_BROKER_PORT", agent.address().port().to_string()),
        ("TOKEN_BROKER_TOKEN", format!("file://{}", path.display())),
    ]
    .into_iter()
    .collect();
    let source = TokenSource::new(BrokerClient::agent(&environment).unwrap());
    let emea = AccountName::parse("emea").unwrap();
    assert_eq!(source.get(&AccountName::default()).await.unwrap_err().code(), ErrorCode::AccessDenied);
    std::fs::write(&path, "two\n").unwrap();
    assert_eq!(source.get(&emea).await.unwrap().generation, Generation(7));
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn what_aws_refuses_did_not_reach_the_broker() {
    let lambda = Server::script(async |_| {
        let mut response =
            http::Response::new(emulators::fakes::Body::from(r#"{"Message":"not authorized"}"#));
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        response.headers_mut().insert("x-amzn-errortype", "AccessDeniedException".parse().unwrap());
        Ending::Respond(response)
    })
    .await;
    let source = by_invoke(&lambda.url());
    let error = source.get(&AccountName::default()).await.unwrap_err();
    assert!(matches!(error, Error::Intercepted { status: 403, .. }), "{error:?}");
    assert_eq!(error.code(), ErrorCode::AccessDenied);
}

#[tokio::test]
async fn an_absent_broker_is_unreachable() {
    let url = format!("http://127.0.0.1:{}", unused_port().await);
    let source = by_invoke(&url);
    let error = source.get(&AccountName::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert_eq!(error.code(), ClientErrorCode::BrokerUnavailable);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_given_up() {
    let broker = Server::script(async |_| respond(200, vec![b'x'; 2 * 1024 * 1024])).await;
    let source = by_invoke(&broker.url());
    assert!(matches!(source.get(&AccountName::default()).await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn a_broker_without_client_names_is_sent_none() {
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&bodies);
    // Version 0.1.0.
    let broker = Server::script(move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let is_named = body.contains("client");
            seen.lock().unwrap().push(body);
            if is_named {
                let refusal = r#"{"error":"invalid_request","error_description":"unknown field `client`; the fields are"}"#;
                return respond(400, refusal);
            }
            respond(200, r#"{"access_token":"t","expires_in":900,"generation":7}"#)
        }
    })
    .await;
    let environment = [("AWS_LAMBDA_FUNCTION_NAME", "billing")].into_iter().collect();
    let client = BrokerClient::http_api(&environment, &broker.url()).unwrap();
    let source = TokenSource::new(client.with_aws(aws(&broker.url())));
    for account in ["a", "b"] {
        source.get(&AccountName::parse(account).unwrap()).await.unwrap();
    }
    let [named, again, next] = &bodies.lock().unwrap()[..] else { panic!("one call is repeated") };
    assert!(named.contains(r#""client":"billing""#), "{named}");
    assert!(!again.contains("client") && !next.contains("client"), "{again}, {next}");
}

#[tokio::test]
async fn another_refusal_is_not_repeated() {
    let broker = Broker::start().await;
    broker.set_mode(BrokerMode::Failing("invalid_request", None));
    let environment = [("TOKEN_BROKER_CLIENT", "billing")].into_iter().collect();
    let client = BrokerClient::invoke(&environment, "token-broker:live").with_aws(aws(&broker.url()));
    let error = TokenSource::new(client).get(&AccountName::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest);
    assert_eq!(broker.calls().len(), 1);
    assert_eq!(broker.calls()[0].1["client"], "billing");
}

#[derive(serde::Deserialize)]
struct Behaviour {
    answers: Vec<Case>,
}

/// What every client makes of an answer.
#[derive(serde::Deserialize)]
struct Case {
    of: String,
    status: u16,
    body: String,
    /// How often the body is repeated.
    times: Option<usize>,
    min_ttl_seconds: Option<u64>,
    code: String,
}

#[tokio::test]
async fn the_code_of_an_answer_is_that_of_every_client() {
    let behaviour: Behaviour =
        serde_json::from_str(include_str!("../../../../crates/contract/behaviour.json")).unwrap();
    let cases = behaviour.answers;
    assert!(cases.len() > 10);
    for Case { of, status, body, times, min_ttl_seconds, code } in cases {
        let body = body.repeat(times.unwrap_or(1));
        let agent = Server::script(move |_| std::future::ready(respond(status, body.clone()))).await;
        let port = agent.address().port().to_string();
        let variables = [("TOKEN_BROKER_PORT", port.as_str()), ("TOKEN_BROKER_TOKEN", "guard")];
        let environment: Environment = variables.into_iter().collect();
        let source = TokenSource::new(BrokerClient::agent(&environment).unwrap());
        let account = AccountName::default();
        let result = match min_ttl_seconds {
            None => source.get(&account).await,
            Some(seconds) => source.get_for(&account, Duration::from_secs(seconds)).await,
        };
        assert_eq!(result.unwrap_err().code().as_str(), code, "{of}");
    }
}

#[test]
fn without_its_settings_a_client_is_not_configured() {
    let without_guard = Environment::default();
    let guard = ("TOKEN_BROKER_TOKEN", "guard");
    let at_port = |port| [guard, ("TOKEN_BROKER_PORT", port)].into_iter().collect::<Environment>();
    let errors = [
        BrokerClient::agent(&without_guard).unwrap_err(),
        BrokerClient::agent(&at_port("http")).unwrap_err(),
        BrokerClient::agent(&at_port("0")).unwrap_err(),
        BrokerClient::agent(&at_port("65536")).unwrap_err(),
        BrokerClient::http_api(&without_guard, "http://broker.example.com").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), ClientErrorCode::NotConfigured, "{error}");
    }
}
