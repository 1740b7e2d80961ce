//! A proxy between the processes and a server: it causes faults, and records every token request.

use super::record::{CarriedOut, Exchange, Fault, Fingerprint, Record};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Method, Response, StatusCode, header},
    response::IntoResponse,
};
use emulators::server::{Peer, Server};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// One token request in this many meets a fault.
const REQUESTS_PER_FAULT: u32 = 4;

/// The endpoints of an account, by their names at the proxy.
pub(super) type Endpoints = BTreeMap<&'static str, String>;

pub(super) struct Proxy {
    server: Option<Server>,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    accounts: BTreeMap<String, Endpoints>,
    record: Arc<Mutex<Record>>,
    chance: Mutex<fastrand::Rng>,
    faults: AtomicBool,
    /// Accounts whose processes are to be killed.
    kills: broadcast::Sender<String>,
}

impl Proxy {
    pub(super) async fn start(
        accounts: BTreeMap<String, Endpoints>,
        record: Arc<Mutex<Record>>,
        chance: fastrand::Rng,
    ) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let shared = Arc::new(Shared {
            client: client.build().expect("a client"),
            accounts,
            record,
            chance: Mutex::new(chance),
            faults: AtomicBool::new(true),
            kills: broadcast::Sender::new(1_024),
        });
        let mut proxy = Self { server: None, port: 0, shared };
        proxy.listen().await;
        proxy
    }

    async fn listen(&mut self) {
        let routes = Router::new()
            .route("/{account}/{endpoint}", axum::routing::any(serve))
            .with_state(Arc::clone(&self.shared));
        let server = Server::start("the proxy", self.port, routes).await.expect("the port is free");
        self.port = server.address().port();
        self.server = Some(server);
    }

    /// The host that the processes know.
    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The accounts whose processes are to be killed.
    pub(super) fn kills(&self) -> broadcast::Receiver<String> {
        self.shared.kills.subscribe()
    }

    /// Refuses connections for a while, after it has cut those that are open.
    pub(super) async fn refuse(&mut self, lasts: Duration) {
        let now = Instant::now();
        self.shared.record.lock().unwrap().disturbances.push((None, now..=now));
        self.server = None;
        tokio::time::sleep(lasts).await;
        self.listen().await;
    }

    pub(super) fn stop_faults(&self) {
        self.shared.faults.store(false, Ordering::Relaxed);
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((account, endpoint)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let Some(url) = shared.accounts.get(&account).and_then(|urls| urls.get(endpoint.as_str())) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let request = shared.client.request(method, url).headers(passed_on(&headers)).body(body.clone());
    if endpoint == "token" {
        return shared.clone().token_request(account, &body, request, &peer).await;
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(Fingerprint::of);
    let (response, _) = answer(request).await;
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(token) = bearer
    {
        shared.record.lock().unwrap().found_dead(token);
    }
    response
}

impl Shared {
    async fn token_request(
        self: Arc<Self>,
        account: String,
        body: &[u8],
        request: reqwest::RequestBuilder,
        peer: &Peer,
    ) -> Response<Body> {
        let fault = self.draw();
        let number = self.record.lock().unwrap().begin(Exchange::new(account.clone(), body, fault));
        let replied = |response: Response<Body>| {
            self.record.lock().unwrap().exchange(number).reply =
                Some((Instant::now(), response.status().as_u16()));
            response
        };
        match fault {
            Some(Fault::Unavailable) => return replied(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Some(Fault::Reset) => return peer.reset(),
            Some(Fault::KillBefore) => {
                self.kill(&account).await;
                return peer.reset();
            }
            _ => {}
        }
        // A request that has arrived is carried out even if the client hangs up.
        let shared = Arc::clone(&self);
        let pause = self.pause();
        let carried_out = tokio::spawn(async move {
            if fault == Some(Fault::Late) {
                tokio::time::sleep(pause).await;
            }
            let (response, text) = answer(request).await;
            let carried_out = CarriedOut::new(response.status().as_u16(), &text);
            shared.record.lock().unwrap().exchange(number).carried_out = Some(carried_out);
            response
        });
        let Ok(response) = carried_out.await else { return peer.reset() };
        match fault {
            Some(Fault::LostReply) => return peer.close(),
            Some(Fault::UnavailableAfter) => return replied(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Some(Fault::KillAfter) => {
                self.kill(&account).await;
                return peer.reset();
            }
            Some(Fault::KillSaving) => {
                let (shared, pause) = (Arc::clone(&self), pause / 50);
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    shared.kill(&account).await;
                });
            }
            Some(Fault::Slow) => tokio::time::sleep(pause).await,
            _ => {}
        }
        replied(response)
    }

    fn draw(&self) -> Option<Fault> {
        let mut chance = self.chance.lock().unwrap();
        let happens = self.faults.load(Ordering::Relaxed) && chance.u32(..REQUESTS_PER_FAULT) == 0;
        happens.then(|| chance.choice(Fault::ALL)).flatten()
    }

    /// Around the broker's time limit, and less than twice that.
    fn pause(&self) -> Duration {
        super::UPSTREAM_TIMEOUT.mul_f64(0.6 + self.chance.lock().unwrap().f64())
    }

    /// Kills every process with a request for the account, including the one that waits for this call.
    async fn kill(&self, account: &str) {
        let now = Instant::now();
        self.record.lock().unwrap().disturbances.push((Some(account.to_owned()), now..=now));
        // There may be no such process.
        let _ = self.kills.send(account.to_owned());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The headers, without those of the connection.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

/// The server's response, and its text.
async fn answer(request: reqwest::RequestBuilder) -> (Response<Body>, Bytes) {
    let Ok(response) = request.send().await else {
        return (StatusCode::BAD_GATEWAY.into_response(), Bytes::new());
    };
    let (status, headers) = (response.status(), passed_on(response.headers()));
    let Ok(body) = response.bytes().await else {
        return (StatusCode::BAD_GATEWAY.into_response(), Bytes::new());
    };
    ((status, headers, body.clone()).into_response(), body)
}
