//! The broker, behind Lambda's Invoke API and the HTTP API.

use super::{Body, Counter, Ending, Request, Server, respond};
use axum::http::{HeaderMap, Response};
use contract::ErrorAnswer;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// How the broker behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerMode {
    /// It answers.
    Up,
    /// It closes each connection.
    Down,
    /// It answers only when the mode changes.
    Hanging,
    /// It fails with a code and a retry time.
    Failing(&'static str, Option<u64>),
}

/// A broker with one session per account. A token of generation 7 is `token-ACCOUNT-7`.
pub struct Broker {
    server: Server,
    state: Arc<State>,
}

struct State {
    mode: watch::Sender<BrokerMode>,
    sessions: Mutex<HashMap<String, Session>>,
    calls: Mutex<Vec<(HeaderMap, Value)>>,
    called: Counter,
    expires_in: AtomicU64,
    under_way: AtomicU64,
    most_under_way: AtomicU64,
}

struct Session {
    generation: u64,
    alive: bool,
}

impl Broker {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Listens on a port.
    pub async fn start_at(port: u16) -> Self {
        let state = Arc::new(State {
            mode: watch::Sender::new(BrokerMode::Up),
            sessions: Mutex::default(),
            calls: Mutex::default(),
            called: Counter::default(),
            expires_in: AtomicU64::new(900),
            under_way: AtomicU64::new(0),
            most_under_way: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        let server = Server::script_at(port, move |request| answer(Arc::clone(&shared), request)).await;
        Self { server, state }
    }

    /// The base URL: Lambda's endpoint, and that of the HTTP API.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Changes the behaviour.
    pub fn set_mode(&self, mode: BrokerMode) {
        self.state.mode.send_replace(mode);
    }

    /// The lifetime of tokens from now on, in seconds.
    pub fn set_expires_in(&self, seconds: u64) {
        self.state.expires_in.store(seconds, Ordering::Relaxed);
    }

    /// Counts calls.
    pub fn called(&self) -> &Counter {
        &self.state.called
    }

    /// Headers and payloads of all calls. Calls of the HTTP API also carry their action.
    pub fn calls(&self) -> Vec<(HeaderMap, Value)> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The most calls that were in flight at once.
    pub fn most_under_way(&self) -> u64 {
        self.state.most_under_way.load(Ordering::Relaxed)
    }

    /// Ends the session of an account: the next report of its generation starts a new one.
    pub fn revoke_session(&self, account: &str) {
        if let Some(session) = self.state.sessions.lock().unwrap().get_mut(account) {
            session.alive = false;
        }
    }

    /// Whether the API accepts a token.
    pub fn accepts(&self, token: &str) -> bool {
        self.acceptance()(token)
    }

    /// Like [`Broker::accepts`], as a function that outlives a borrow of the broker.
    pub fn acceptance(&self) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let state = Arc::clone(&self.state);
        move |token| {
            let sessions = state.sessions.lock().unwrap();
            sessions
                .iter()
                .any(|(account, session)| session.alive && token == text(account, session.generation))
        }
    }
}

fn text(account: &str, generation: u64) -> String {
    format!("token-{account}-{generation}")
}

async fn answer(state: Arc<State>, request: Request) -> Ending {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let is_invoke = head.uri.path().starts_with("/2015-03-31/functions/");
    let mut payload: Value = serde_json::from_slice(&body).unwrap_or_else(|_| json!({}));
    if !is_invoke {
        payload["action"] = head.uri.path().rsplit('/').next().unwrap_or_default().into();
    }
    state.calls.lock().unwrap().push((head.headers, payload.clone()));
    let under_way = state.under_way.fetch_add(1, Ordering::Relaxed) + 1;
    state.most_under_way.fetch_max(under_way, Ordering::Relaxed);
    state.called.add();
    let mode = state
        .mode
        .subscribe()
        .wait_for(|mode| *mode != BrokerMode::Hanging)
        .await
        .expect("it is there")
        .clone();
    state.under_way.fetch_sub(1, Ordering::Relaxed);
    match mode {
        BrokerMode::Down | BrokerMode::Hanging => Ending::Close,
        BrokerMode::Failing(code, retry_after) => fail(code, retry_after, is_invoke),
        BrokerMode::Up => respond(200, act(&state, &payload).to_string()),
    }
}

fn act(state: &State, payload: &Value) -> Value {
    let account = payload["account"].as_str().unwrap_or("default");
    let mut sessions = state.sessions.lock().unwrap();
    let session = sessions.entry(account.to_owned()).or_insert(Session { generation: 7, alive: true });
    if !session.alive && payload["rejected_generation"].as_u64() == Some(session.generation) {
        *session = Session { generation: session.generation + 1, alive: true };
    }
    match payload["action"].as_str() {
        Some("token") | None => json!({
            "access_token": text(account, session.generation),
            "token_type": "Bearer",
            "expires_in": state.expires_in.load(Ordering::Relaxed),
            "expires_at": "2026-04-06T12:34:56Z",
            "account": account,
            "generation": session.generation,
            "served_from": "table",
        }),
        Some(action) => json!({"account": account, "did": action}),
    }
}

fn fail(code: &str, retry_after: Option<u64>, is_invoke: bool) -> Ending {
    let error = ErrorAnswer {
        code: code.to_owned(),
        description: "scripted".to_owned(),
        retry_after_seconds: retry_after,
        request_id: Some("fake".to_owned()),
    };
    if is_invoke {
        let error = json!({"errorType": code, "errorMessage": error.to_message()});
        let mut response = Response::new(Body::from(error.to_string()));
        response.headers_mut().insert("x-amz-function-error", "Unhandled".parse().unwrap());
        return Ending::Respond(response);
    }
    respond(503, error.to_json())
}
