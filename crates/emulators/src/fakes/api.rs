//! The API host that the tokens are for.

use super::{Counter, Ending, Request, Server, respond};
use axum::http::{HeaderMap, request::Parts};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// How the API behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiMode {
    /// It answers 200 to a good token, and 401 to any other.
    Up,
    /// It answers only when the mode changes.
    Hanging,
    /// It reads the request and closes the connection.
    Closing,
    /// It answers 401, whatever the token.
    Refusing,
}

/// A request that reached the API.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method, target and headers.
    pub head: Arc<Parts>,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// Whether its token was good.
    pub accepted: bool,
}

/// The API. It answers a good request with the request's body.
pub struct Api {
    server: Server,
    state: Arc<State>,
}

struct State {
    mode: watch::Sender<ApiMode>,
    accepts: Box<dyn Fn(&str) -> bool + Send + Sync>,
    received: Mutex<Vec<Received>>,
    requests: Counter,
    gone: Counter,
}

impl State {
    fn new(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            mode: watch::Sender::new(ApiMode::Up),
            accepts: Box::new(accepts),
            received: Mutex::default(),
            requests: Counter::default(),
            gone: Counter::default(),
        })
    }
}

/// Counts a request whose client went away before the answer.
struct Gone(Option<Counter>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(counter) = self.0.take() {
            counter.add();
        }
    }
}

impl Api {
    /// Listens on a free port. `accepts` decides about tokens.
    pub async fn start(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let state = State::new(accepts);
        let shared = Arc::clone(&state);
        let server = Server::script(move |request| answer(Arc::clone(&shared), request)).await;
        Self { server, state }
    }

    /// Listens on a free port for encrypted connections.
    pub async fn start_encrypted(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let state = State::new(accepts);
        let shared = Arc::clone(&state);
        let server = Server::script_encrypted(move |request| answer(Arc::clone(&shared), request)).await;
        Self { server, state }
    }

    /// The server, for its URL and its connections.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Changes the behaviour.
    pub fn set_mode(&self, mode: ApiMode) {
        self.state.mode.send_replace(mode);
    }

    /// Counts requests, when their body has been read.
    pub fn requests(&self) -> &Counter {
        &self.state.requests
    }

    /// Counts requests whose client went away before the answer.
    pub fn gone(&self) -> &Counter {
        &self.state.gone
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }
}

async fn answer(state: Arc<State>, request: Request) -> Ending {
    let (head, body) = request.into_parts();
    let Ok(collected) = body.collect().await else { return Ending::Close };
    let trailers = collected.trailers().cloned();
    let body = collected.to_bytes();
    let token = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let accepted = token.and_then(|text| text.strip_prefix("Bearer ")).is_some_and(&state.accepts);
    let received = Received { head: Arc::new(head), body: body.clone(), trailers, accepted };
    state.received.lock().unwrap().push(received);
    state.requests.add();
    let mut gone = Gone(Some(state.gone.clone()));
    let mode = *state.mode.subscribe().wait_for(|mode| *mode != ApiMode::Hanging).await.expect("it is there");
    gone.0 = None;
    match mode {
        ApiMode::Closing => Ending::Close,
        ApiMode::Refusing => respond(401, "refused for another reason"),
        ApiMode::Up | ApiMode::Hanging if accepted => respond(200, body),
        ApiMode::Up | ApiMode::Hanging => respond(401, "bad token"),
    }
}
