//! Convirza's endpoints, and how a request meets its fault.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use crate::server::Peer;

use super::event::{Outcome, Progress};
use super::faults::{Endpoint, Fault};
use super::response::{Reply, pair_reply, pair_reply_v2};
use super::sessions::{Pair, Rotation};
use super::{Emulator, EmulatorState, V2_CLIENT_ID, V2_CLIENT_SECRET};

type Shared = State<Arc<Emulator>>;
type Caller = ConnectInfo<Peer>;

pub(super) fn routes() -> Router<Arc<Emulator>> {
    Router::new()
        .route("/oauth/token", post(login))
        .route("/v2/oauth/token", post(login_v2))
        .route("/oauth/refresh-token", post(refresh))
        .route("/oauth/revoke-token", post(revoke))
        .route("/v3/auth/profile", get(profile))
        .fallback(api)
        // A test may upload a body of any length.
        .layer(DefaultBodyLimit::disable())
}

#[derive(Deserialize)]
struct LoginBody {
    email: String,
    password: String,
}

async fn login(State(emulator): Shared, ConnectInfo(peer): Caller, body: Bytes) -> Response {
    emulator
        .log_in(&peer, |state, fault| {
            let Ok(body) = serde_json::from_slice::<LoginBody>(&body) else {
                return malformed();
            };
            let pair = state.open_session(&body.email, &body.password);
            state.reply_with_pair(pair, fault)
        })
        .await
}

/// V2's login: a form, and refusals in two forms.
async fn login_v2(State(emulator): Shared, ConnectInfo(peer): Caller, body: Bytes) -> Response {
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    emulator
        .log_in(&peer, |state, fault| {
            if field("grant_type") != "password" {
                return malformed();
            }
            if (field("client_id"), field("client_secret")) != (V2_CLIENT_ID, V2_CLIENT_SECRET) {
                return Reply::text(StatusCode::UNAUTHORIZED, "Unauthorized client");
            }
            match state.open_session(field("username"), field("password")) {
                Some(pair) => {
                    state.observed.issued_pairs += 1;
                    pair_reply_v2(&pair, fault, state.clock.now())
                }
                None => Reply::json(
                    StatusCode::OK,
                    &json!({ "result": "error", "err": "Invalid user credentials" }),
                ),
            }
        })
        .await
}

impl Emulator {
    /// A login of either version. Both share the login limit.
    async fn log_in(
        &self,
        peer: &Peer,
        work: impl FnOnce(&mut EmulatorState, Option<&Fault>) -> Reply,
    ) -> Response {
        let emulator = self;
        let over_limit = {
            let mut state = emulator.state();
            state.observed.logins_arrived += 1;
            let over_limit = state.login_limit.arrive(peer.address, emulator.clock.now());
            state.observed.logins_limited += u64::from(over_limit.is_some());
            over_limit
        };
        // The limit comes first: a login that it refuses does not meet a fault.
        let fault = match over_limit {
            Some(_) => None,
            None => emulator.fault_at(Endpoint::Login),
        };
        emulator
            .serve(Endpoint::Login, peer, fault.as_ref(), |state| {
                if let Some(seconds) = over_limit {
                    return Reply::rate_limited(Some(&seconds.to_string()));
                }
                work(state, fault.as_ref())
            })
            .await
    }
}

#[derive(Deserialize)]
struct RefreshBody {
    refresh_token: String,
}

async fn refresh(State(emulator): Shared, ConnectInfo(peer): Caller, body: Bytes) -> Response {
    let fault = emulator.fault_at(Endpoint::Refresh);
    let body = serde_json::from_slice::<RefreshBody>(&body);
    if let Ok(body) = &body {
        let mut state = emulator.state();
        let sent_twice = state.sessions.refresh_token_sent(&body.refresh_token);
        state.observed.refresh_tokens_sent_twice += u64::from(sent_twice);
        if matches!(fault, Some(Fault::RateLimited { .. })) {
            state.sessions.allow_refresh_token(&body.refresh_token);
        }
    }
    emulator
        .serve(Endpoint::Refresh, &peer, fault.as_ref(), |state| {
            let Ok(body) = body else {
                return malformed();
            };
            let keeps_refresh_token = state.behaviour.refresh_keeps_refresh_token
                || matches!(fault, Some(Fault::KeepsRefreshToken | Fault::NoRefreshToken));
            let rotation = Rotation {
                keeps_refresh_token,
                kills_access_token: state.behaviour.refresh_kills_access_token,
            };
            let pair = state.sessions.refresh(&body.refresh_token, rotation, state.clock.now());
            if pair.is_some() {
                state.observed.refreshes += 1;
                let lost = fault.as_ref().is_some_and(Fault::loses_the_pair);
                if keeps_refresh_token && !lost {
                    state.sessions.allow_refresh_token(&body.refresh_token);
                }
            }
            state.reply_with_pair(pair, fault.as_ref())
        })
        .await
}

#[derive(Deserialize)]
struct RevokeBody {
    token: String,
    token_type: TokenType,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TokenType {
    Access,
    Refresh,
}

async fn revoke(State(emulator): Shared, ConnectInfo(peer): Caller, body: Bytes) -> Response {
    let fault = emulator.fault_at(Endpoint::Revoke);
    emulator
        .serve(Endpoint::Revoke, &peer, fault.as_ref(), |state| {
            let Ok(body) = serde_json::from_slice::<RevokeBody>(&body) else {
                return malformed();
            };
            match body.token_type {
                TokenType::Access => state.sessions.revoke_access_token(&body.token),
                TokenType::Refresh => state.sessions.revoke_refresh_token(&body.token),
            }
            state.observed.revocations += 1;
            // Revoking is idempotent, so an unknown token gets the same response.
            Reply::json(StatusCode::OK, &json!({ "result": "success" }))
        })
        .await
}

async fn profile(State(emulator): Shared, ConnectInfo(peer): Caller, headers: HeaderMap) -> Response {
    let answer = |state: &EmulatorState| {
        if state.behaviour.no_profile {
            return Err(Reply::error(StatusCode::NOT_FOUND, "Not Found"));
        }
        Ok(Reply::json(StatusCode::OK, &json!({ "result": "success", "data": [] })))
    };
    emulator.use_token(Endpoint::Profile, &peer, &headers, answer).await
}

/// The body is read, so that a client can send all of it.
async fn api(
    State(emulator): Shared,
    ConnectInfo(peer): Caller,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    _body: Bytes,
) -> Response {
    let answer = |state: &EmulatorState| {
        let routes = &state.routes;
        routes.answer(&method, &uri).ok_or_else(|| routes.hint(&method, &uri, &headers))
    };
    emulator.use_token(Endpoint::Api, &peer, &headers, answer).await
}

impl Emulator {
    fn fault_at(&self, endpoint: Endpoint) -> Option<Fault> {
        self.faults.next(|planned| *planned == endpoint)
    }

    /// A request whose answer needs a live token. If there is no answer, the token does not matter.
    async fn use_token(
        &self,
        endpoint: Endpoint,
        peer: &Peer,
        headers: &HeaderMap,
        answer: impl FnOnce(&EmulatorState) -> Result<Reply, Reply>,
    ) -> Response {
        let fault = self.fault_at(endpoint);
        self.serve(endpoint, peer, fault.as_ref(), |state| {
            state.observed.probes += 1;
            let answer = match answer(state) {
                Ok(answer) => answer,
                Err(missing) => return missing,
            };
            let now = state.clock.now();
            let alive =
                bearer_token(headers).is_some_and(|token| state.sessions.use_access_token(token, now));
            if alive { answer } else { Reply::error(StatusCode::UNAUTHORIZED, "Unauthorized") }
        })
        .await
    }

    /// Serves a request from arrival to end, with the fault that it meets.
    async fn serve(
        &self,
        endpoint: Endpoint,
        peer: &Peer,
        fault: Option<&Fault>,
        work: impl FnOnce(&mut EmulatorState) -> Reply,
    ) -> Response {
        let progress = Progress::arrive(self.clock.clone(), self.events.clone(), endpoint, fault.cloned());
        pause(self.settings.latency / 2).await;
        match fault {
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Reset) => {
                progress.end(Outcome::CutOff);
                return peer.reset();
            }
            _ => {}
        }
        let reply = match fault.and_then(Reply::instead_of_work) {
            Some(reply) => reply,
            None => work(&mut self.state()),
        };
        pause(self.settings.latency / 2).await;
        if fault == Some(&Fault::LostReply) {
            progress.end(Outcome::CutOff);
            return peer.close();
        }
        progress.end(Outcome::Answered(reply.status.as_u16()));
        match fault {
            Some(fault) => reply.altered_by(fault).into_response(),
            None => reply.into_response(),
        }
    }
}

impl EmulatorState {
    fn open_session(&mut self, email: &str, password: &str) -> Option<Pair> {
        let pair = self.sessions.log_in(email, password, self.clock.now());
        self.observed.logins += u64::from(pair.is_some());
        pair
    }

    fn reply_with_pair(&mut self, pair: Option<Pair>, fault: Option<&Fault>) -> Reply {
        let Some(pair) = pair else {
            return Reply::error(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        self.observed.issued_pairs += 1;
        pair_reply(&pair, fault, self.clock.now())
    }
}

fn malformed() -> Reply {
    Reply::error(StatusCode::BAD_REQUEST, "Bad Request")
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Even a timer of zero would cost a millisecond.
async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}
