//! Lambda's Extensions API, for one extension.

use super::{Body, Counter, Ending, Request, Server, respond};
use axum::http::{HeaderMap, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

const IDENTIFIER: &str = "f3a5d3a2-0000-4000-8000-000000000000";

/// The API, and what the extension did.
pub struct Extensions {
    server: Server,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    registrations: Mutex<Vec<(HeaderMap, Value)>>,
    registered: Counter,
    polls: Counter,
    shutdown: watch::Sender<bool>,
}

impl Extensions {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Listens on a port.
    pub async fn start_at(port: u16) -> Self {
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let server = Server::script_at(port, move |request| answer(Arc::clone(&shared), request)).await;
        Self { server, state }
    }

    /// `HOST:PORT`, for `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Counts registrations.
    pub fn registered(&self) -> &Counter {
        &self.state.registered
    }

    /// Counts calls of `next`.
    pub fn polls(&self) -> &Counter {
        &self.state.polls
    }

    /// Headers and body of the registrations.
    pub fn registrations(&self) -> Vec<(HeaderMap, Value)> {
        self.state.registrations.lock().unwrap().clone()
    }

    /// Sends the event SHUTDOWN.
    pub fn shut_down(&self) {
        self.state.shutdown.send_replace(true);
    }
}

async fn answer(state: Arc<State>, request: Request) -> Ending {
    let (head, body) = request.into_parts();
    match (head.method.as_str(), head.uri.path()) {
        ("POST", "/2020-01-01/extension/register") => {
            let body = body.collect().await.expect("a body").to_bytes();
            let body = serde_json::from_slice(&body).expect("JSON");
            state.registrations.lock().unwrap().push((head.headers, body));
            state.registered.add();
            let mut response = Response::new(Body::from(
                json!({"functionName": "caller", "functionVersion": "$LATEST", "handler": "x"}).to_string(),
            ));
            response.headers_mut().insert("lambda-extension-identifier", IDENTIFIER.parse().unwrap());
            Ending::Respond(response)
        }
        ("GET", "/2020-01-01/extension/event/next") => {
            let named = head.headers.get("lambda-extension-identifier");
            if named.is_none_or(|identifier| identifier != IDENTIFIER) {
                return respond(403, r#"{"errorType":"Extension.UnknownExtensionIdentifier"}"#);
            }
            state.polls.add();
            state.shutdown.subscribe().wait_for(|shutdown| *shutdown).await.expect("the API is there");
            Ending::Respond(shutdown_event())
        }
        _ => respond(404, "{}"),
    }
}

fn shutdown_event() -> Response<Body> {
    let event =
        json!({"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": 1_775_000_000_000_u64});
    Response::new(Body::from(event.to_string()))
}
