//! Lambda's Invoke API, which the front of the local stack serves to the AWS SDKs of other languages.

use crate::{front, http_client, json_of, ports, wiring, world};
use emulators::{World, server::Server};
use reqwest::{Response, StatusCode};
use serde_json::json;
use token_broker::inbound::Handler;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:token-broker";

async fn invoke(front: &Server, function: &str, payload: &str) -> Response {
    let url = format!("{}/2015-03-31/functions/{function}/invocations", front.url());
    http_client().post(url).body(payload.to_owned()).send().await.expect("an answer")
}

/// Allows only direct invocations through the alias `live`.
fn handler_for_the_alias(world: &World) -> Handler {
    let rules = json!([{"caller": "direct:live", "accounts": ["*"], "actions": ["token"]}]).to_string();
    let config = wiring::config(world, &[("BROKER_CALLERS", rules)]).expect("a valid configuration");
    wiring::handler(&config, ports(world))
}

#[tokio::test]
async fn a_function_error_is_marked_by_a_header() {
    let world = world().await;
    let front = front(&world).await;
    for payload in ["", "{}", r#"{"account":"default"}"#] {
        let answer = invoke(&front, "token-broker", payload).await;
        assert!(answer.headers().get("x-amz-function-error").is_none(), "{payload}");
        assert_eq!(json_of(answer).await["token_type"], "Bearer", "{payload}");
    }
    let error = invoke(&front, "token-broker", r#"{"account":"emea"}"#).await;
    assert_eq!(error.status(), StatusCode::OK);
    assert_eq!(error.headers()["x-amz-function-error"], "Unhandled");
    let error = json_of(error).await;
    assert_eq!(error["errorType"], "unknown_account");
    assert!(error["errorMessage"].is_string());
}

#[tokio::test]
async fn the_alias_is_taken_from_the_name_the_arn_or_the_qualifier() {
    let world = world().await;
    let front = front::start(0, handler_for_the_alias(&world)).await.expect("a front");
    let live = ["token-broker:live".to_owned(), "token-broker%3Alive".to_owned(), format!("{ARN}:live")];
    for function in live {
        assert_eq!(json_of(invoke(&front, &function, "{}").await).await["account"], "default", "{function}");
    }
    let url = format!("{}/2015-03-31/functions/token-broker/invocations?Qualifier=live", front.url());
    let qualified = http_client().post(url).send().await.expect("an answer");
    assert_eq!(json_of(qualified).await["account"], "default");
    for function in ["token-broker".to_owned(), "token-broker:operator".to_owned(), ARN.to_owned()] {
        let denied = json_of(invoke(&front, &function, "{}").await).await;
        assert_eq!(denied["errorType"], "access_denied", "{function}");
    }
}

#[tokio::test]
async fn lambda_refuses_what_does_not_exist_and_payloads_without_json() {
    let world = world().await;
    let front = front(&world).await;
    for (function, name) in [
        ("tokens", "tokens"),
        ("token-broker:next", "token-broker:next"),
        ("token-broker:7", "token-broker:7"),
    ] {
        let unknown = invoke(&front, function, "{}").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND, "{function}");
        assert_eq!(unknown.headers()["x-amzn-errortype"], "ResourceNotFoundException");
        let message = format!("Function not found: arn:aws:lambda:us-east-1:000000000000:function:{name}");
        assert_eq!(json_of(unknown).await["Message"], message);
    }
    let malformed = invoke(&front, "token-broker", "{").await;
    assert_eq!(malformed.status(), StatusCode::BAD_REQUEST);
    assert_eq!(malformed.headers()["x-amzn-errortype"], "InvalidRequestContentException");
}
