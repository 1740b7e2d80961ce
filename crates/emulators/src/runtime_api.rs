//! The Lambda Runtime API, as a function uses it. Made for tests: it panics if the function breaks the protocol.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "made for tests, which fail by panicking"
)]

use crate::{clock::machine_now_ms, server::Server};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// The function's timeout in milliseconds, as the template sets it.
const TIMEOUT_MS: u64 = 30_000;
const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0";
const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:token-broker";

/// The result of an invocation: the answer or the function error.
pub type Invocation = Result<Value, Value>;

/// A Runtime API for one instance of the function.
pub struct RuntimeApi {
    server: Server,
    shared: Arc<Shared>,
    invocations: mpsc::UnboundedSender<Queued>,
}

/// An invocation that the function has not polled yet.
struct Queued {
    id: String,
    /// The text of the event, which need not be JSON.
    payload: String,
    function_arn: String,
}

struct Shared {
    waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<Queued>>,
    running: Mutex<HashMap<String, oneshot::Sender<Invocation>>>,
    polls: AtomicU64,
    init_error: Mutex<Option<Value>>,
    timeout_ms: AtomicU64,
}

impl RuntimeApi {
    /// Starts a Runtime API on any free port.
    pub async fn start() -> Self {
        let (invocations, waiting) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            waiting: tokio::sync::Mutex::new(waiting),
            running: Mutex::default(),
            polls: AtomicU64::new(0),
            init_error: Mutex::default(),
            timeout_ms: AtomicU64::new(TIMEOUT_MS),
        });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .with_state(Arc::clone(&shared));
        let server = Server::start("the Runtime API", 0, routes).await.expect("a free port");
        Self { server, shared, invocations }
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`: `HOST:PORT`.
    pub fn address(&self) -> String {
        self.server.url().trim_start_matches("http://").to_owned()
    }

    /// Queues an invocation. The receiver gets its result.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!")]
    pub fn invoke(&self, payload: Value) -> oneshot::Receiver<Invocation> {
        self.invoke_through(None, payload.to_string())
    }

    /// Queues an invocation through an alias or a version of the function.
    pub fn invoke_through(&self, qualifier: Option<&str>, payload: String) -> oneshot::Receiver<Invocation> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        // As long as Lambda's own.
        let id = format!("00000000-0000-4000-8000-{:012}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let (done, receiver) = oneshot::channel();
        self.shared.running.lock().unwrap().insert(id.clone(), done);
        let qualifier = qualifier.map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
        let function_arn = format!("{FUNCTION_ARN}{qualifier}");
        self.invocations.send(Queued { id, payload, function_arn }).unwrap();
        receiver
    }

    /// Sets the function's timeout, and so the deadline of the invocations from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.shared
            .timeout_ms
            .store(u64::try_from(timeout.as_millis()).unwrap_or(TIMEOUT_MS), Ordering::Relaxed);
    }

    /// How often the function has polled for an invocation.
    pub fn polls(&self) -> u64 {
        self.shared.polls.load(Ordering::Relaxed)
    }

    /// The error with which the function failed to start.
    pub fn init_error(&self) -> Option<Value> {
        self.shared.init_error.lock().unwrap().clone()
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.polls.fetch_add(1, Ordering::Relaxed);
    let Some(Queued { id, payload, function_arn }) = shared.waiting.lock().await.recv().await else {
        return (StatusCode::GONE, HeaderMap::new(), String::new());
    };
    let deadline = machine_now_ms().saturating_add_unsigned(shared.timeout_ms.load(Ordering::Relaxed));
    let mut headers = HeaderMap::new();
    headers.insert("lambda-runtime-aws-request-id", id.parse().unwrap());
    headers.insert("lambda-runtime-deadline-ms", HeaderValue::from(deadline));
    headers.insert("lambda-runtime-invoked-function-arn", function_arn.parse().unwrap());
    headers.insert("lambda-runtime-trace-id", HeaderValue::from_static(TRACE));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    (StatusCode::OK, headers, payload)
}

async fn response(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: String,
) -> impl IntoResponse {
    finish(&shared, &id, Ok(json_of(&body)))
}

async fn error(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> impl IntoResponse {
    finish(&shared, &id, Err(json_of(&body)))
}

fn json_of(body: &str) -> Value {
    serde_json::from_str(body).expect("the function answers JSON")
}

fn finish(shared: &Shared, id: &str, invocation: Invocation) -> (StatusCode, Json<Value>) {
    if let Some(done) = shared.running.lock().unwrap().remove(id) {
        // The test may have dropped the receiver.
        let _ = done.send(invocation);
    }
    (StatusCode::ACCEPTED, Json(json!({"status": "OK"})))
}

async fn init_error(State(shared): State<Arc<Shared>>, body: String) -> impl IntoResponse {
    *shared.init_error.lock().unwrap() = serde_json::from_str(&body).ok();
    (StatusCode::ACCEPTED, Json(json!({"status": "OK"})))
}
