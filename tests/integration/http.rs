//! The HTTP routes: through the front of the local stack, and with events like API Gateway's.

use crate::{events, front, front::context, handler, http_client, json_of, world};
use contract::Action;
use emulators::convirza::{Endpoint, Fault};
use lambda_runtime::LambdaEvent;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use token_broker::inbound::Handler;

const FORM: &str = "application/x-www-form-urlencoded";

async fn post(url: &str, content_type: &str, body: &str) -> Response {
    http_client()
        .post(url)
        .header("content-type", content_type)
        .body(body.to_owned())
        .send()
        .await
        .expect("an answer")
}

#[tokio::test]
async fn every_response_is_json_and_forbids_its_storage() {
    let world = world().await;
    let front = front(&world).await;
    for path in ["/token", "/nowhere"] {
        let response = http_client().post(front.url() + path).send().await.expect("an answer");
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        assert_eq!(header("cache-control").as_deref(), Some("no-store"), "{path}");
        assert_eq!(header("pragma").as_deref(), Some("no-cache"), "{path}");
        assert_eq!(header("content-type").as_deref(), Some("application/json"), "{path}");
    }
}

#[tokio::test]
async fn a_token_request_is_json_or_a_form_of_a_stock_oauth_client() {
    let world = world().await;
    let front = front(&world).await;
    let url = format!("{}/token", front.url());
    let stock = "grant_type=client_credentials&client_id=me&client_secret=x&scope=a+b&min_ttl_seconds=900";
    for (content_type, body) in [
        ("application/json", ""),
        ("application/json; charset=utf-8", r#"{"min_ttl_seconds":5}"#),
        (FORM, stock),
        ("Application/X-WWW-Form-Urlencoded;charset=UTF-8", "grant_type=client_credentials&account=default"),
    ] {
        let response = post(&url, content_type, body).await;
        assert_eq!(response.status(), StatusCode::OK, "{content_type}");
        let answer = json_of(response).await;
        assert_eq!(answer["token_type"], "Bearer");
        assert!(answer["access_token"].is_string() && answer["expires_in"].is_u64());
        // OAuth 2.0 has no such field, and some clients refuse a date in it.
        assert_eq!(answer["expires_at"].is_null(), body.starts_with("grant_type"), "{body}");
    }
    for (content_type, body, code) in [
        (FORM, "grant_type=password", "unsupported_grant_type"),
        (FORM, "account=default", "invalid_request"),
        (FORM, "grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        (FORM, "grant_type=client_credentials&min_ttl_seconds=soon", "invalid_request"),
        ("application/json", "{", "invalid_request"),
        ("application/json", r#"{"action":"status"}"#, "invalid_request"),
        ("text/plain", "{}", "invalid_request"),
    ] {
        let response = post(&url, content_type, body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let error = json_of(response).await;
        assert_eq!(error["error"], code, "{body}");
        assert!(error["error_description"].is_string() && error["request_id"].is_string());
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_with_allow() {
    let world = world().await;
    let front = front(&world).await;
    let get = async |path: &str| http_client().get(front.url() + path).send().await.expect("an answer");
    assert_eq!(get("/").await.status(), StatusCode::NOT_FOUND);
    let unknown = get("/tokens").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let description = json_of(unknown).await["error_description"].to_string();
    for action in Action::ALL {
        let Some(method) = action.method() else { continue };
        assert!(description.contains(&format!("{method} /{}", action.name())), "{description}");
    }
    let wrong = get("/token").await;
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.headers()["allow"], "POST");
    let wrong = post(&format!("{}/status", front.url()), "application/json", "").await;
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.headers()["allow"], "GET");
}

#[tokio::test]
async fn a_failure_states_retry_after_in_header_and_body() {
    let world = world().await;
    world.convirza.faults().set(Endpoint::Login, Fault::ServerError, Some(1));
    let front = front(&world).await;
    let response = post(&format!("{}/token", front.url()), "application/json", "").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let header: u64 = response.headers()["retry-after"].to_str().unwrap().parse().expect("seconds");
    let body = json_of(response).await;
    assert_eq!(body["error"], "upstream_unavailable");
    assert_eq!(body["retry_after"], header);
    assert!((1..=2).contains(&header));
    let unknown = post(&format!("{}/token", front.url()), "application/json", r#"{"account":"emea"}"#).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(unknown).await["error"], "unknown_account");
}

async fn status_of(handler: &Handler, event: Value) -> (u64, Value) {
    let answer =
        handler.handle(LambdaEvent::new(event, context())).await.map(Value::from).expect("an HTTP response");
    let body = answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).expect("a JSON body");
    (answer["statusCode"].as_u64().expect("a status"), body)
}

#[tokio::test]
async fn a_request_without_an_iam_identity_is_denied() {
    let world = world().await;
    let handler = handler(&world);
    let mut rest = events::read("rest-token");
    rest["requestContext"]["identity"]["userArn"] = Value::Null;
    let mut http = events::read("http-token");
    http["requestContext"]["authorizer"] = json!({});
    let mut url = events::read("url-token");
    url["requestContext"].as_object_mut().unwrap().remove("authorizer");
    let mut empty = events::read("http-token");
    empty["requestContext"]["authorizer"]["iam"]["userArn"] = json!("");
    for anonymous in [rest, http, url, empty] {
        let (status, body) = status_of(&handler, anonymous).await;
        assert_eq!((status, &body["error"]), (403, &json!("access_denied")));
    }
    assert_eq!(world.convirza.observed().logins_arrived, 0);
}

#[tokio::test]
async fn a_base64_body_is_decoded_and_a_broken_one_refused() {
    let world = world().await;
    let handler = handler(&world);
    let mut http = events::read("http-token");
    http["isBase64Encoded"] = json!(true);
    http["body"] = json!("e30=");
    assert_eq!(status_of(&handler, http.clone()).await.0, 200);
    http["body"] = json!("%%%");
    let (status, body) = status_of(&handler, http).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_request")));
}
