//! Records which operations of AWS are called.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use emulators::server::Server;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// Services and their operations.
pub(crate) type Calls = Mutex<BTreeSet<(String, String)>>;

/// A proxy in front of one service of AWS.
pub(crate) struct Recorder {
    calls: Arc<Calls>,
    service: &'static str,
    url: String,
    client: reqwest::Client,
}

impl Recorder {
    pub(crate) async fn start(calls: &Arc<Calls>, service: &'static str, url: String) -> Server {
        let recorder =
            Arc::new(Self { calls: Arc::clone(calls), service, url, client: crate::http_client() });
        let routes = Router::new().fallback(record).with_state(recorder);
        Server::start("a recorder", 0, routes).await.expect("a free port")
    }
}

async fn record(
    State(recorder): State<Arc<Recorder>>,
    mut headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let target = headers["x-amz-target"].to_str().expect("a text").to_owned();
    let operation = target.rsplit('.').next().expect("an operation").to_owned();
    recorder.calls.lock().unwrap().insert((recorder.service.to_owned(), operation));
    for name in [header::HOST, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    let answer =
        recorder.client.post(&recorder.url).headers(headers).body(body).send().await.expect("an answer");
    let status = StatusCode::from_u16(answer.status().as_u16()).expect("a status");
    (status, answer.bytes().await.expect("a body"))
}
