//! The log says why the upstream gave no token. The error code cannot: it is the same for a wrong path and an outage.

use crate::{instance, world};
use emulators::convirza::{Endpoint, Fault};
use serde_json::{Value, json};

/// The first line with this message, of an instance that logs in.
async fn line(fault: Option<Fault>, settings: &[(&str, &str)], message: &str) -> Value {
    let world = world().await;
    if let Some(fault) = fault {
        world.convirza.faults().set(Endpoint::Login, fault, None);
    }
    let instance = instance::start(&world, settings).await;
    let _ = instance.invoke(json!({})).await;
    let output = instance.output().await;
    let mut lines = output.lines().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    lines.find(|line| line["message"] == message).unwrap_or_else(|| panic!("no such line in {output}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_its_status_and_address() {
    let limited = Fault::RateLimited { retry_after: None };
    for (fault, status) in
        [(Fault::ServerError, 500), (Fault::Forbidden, 403), (limited, 429), (Fault::Redirect, 307)]
    {
        let line = line(Some(fault), &[], "the upstream refused a request").await;
        assert_eq!(line["status"], status);
        assert!(line["url"].as_str().is_some_and(|url| url.ends_with("/oauth/token")), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_response_has_its_cause() {
    let message = "no response from the upstream";
    assert_eq!(line(Some(Fault::Hang), &[], message).await["cause"], "timeout");
    assert_eq!(line(Some(Fault::LostReply), &[], message).await["cause"], "broken off");
    for (url, cause) in [
        ("https://no-such-host.invalid", "name resolution"),
        // Nothing listens at port 1, which only root may open.
        ("http://127.0.0.1:1", "connection or TLS"),
    ] {
        assert_eq!(line(None, &[("BROKER_OAUTH_URL", url)], message).await["cause"], cause);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_response_says_what_is_wrong() {
    let message = "unreadable response from the upstream";
    assert_eq!(line(Some(Fault::HtmlSuccess), &[], message).await["what"], "no access token");
    line(Some(Fault::ErrorInSuccess), &[], "the upstream reported success without a token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_used_response_is_logged() {
    for (fault, message) in [
        (Fault::Untidy, "the upstream's response is not valid JSON; the tokens in it are kept"),
        (Fault::BadRefreshToken, "the upstream's response holds no usable refresh token"),
        (
            Fault::ExpiryMicroseconds,
            "the upstream's expiry is missing, unreadable, in the past or impossible; assuming one hour",
        ),
    ] {
        assert_eq!(line(Some(fault), &[], message).await["level"], "WARN", "{message}");
    }
}
