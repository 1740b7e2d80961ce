//! The control interface, `/_emulator/`, for people and for scripts in other languages.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::faults::{Endpoint, Fault};
use super::{Emulator, Observed, Revoke, Route};
use crate::clock::Clock;

/// The target of [`Fault::Redirect`].
pub(super) const ELSEWHERE: &str = "/_emulator/elsewhere";

pub(super) fn routes() -> Router<Arc<Emulator>> {
    Router::new()
        .route("/_emulator/", get(help))
        .route("/_emulator/observed", get(observed))
        .route("/_emulator/faults", put(set_fault).delete(clear_faults))
        .route("/_emulator/revoke-sessions", post(revoke_sessions))
        .route("/_emulator/routes", get(list_routes).put(set_routes))
        .route("/_emulator/clock", get(show_clock).post(set_clock))
        .route("/_emulator/reset", post(reset))
        .route(ELSEWHERE, any(elsewhere))
}

async fn help() -> Json<Value> {
    Json(json!({
        "GET /_emulator/observed": "the requests so far",
        "PUT /_emulator/faults": {
            "does": "injects a fault, this many times or until it is cleared",
            "example": { "endpoint": "login", "fault": "rate_limited", "times": 3, "retry_after": "7" },
            "endpoints": endpoint_names(),
            "faults": fault_names(),
        },
        "DELETE /_emulator/faults": "clears all faults",
        "POST /_emulator/revoke-sessions": "revokes all tokens; with ?access_only=true the refresh tokens stay usable",
        "GET /_emulator/routes": "the answers of the emulated API to a live token",
        "PUT /_emulator/routes": {
            "does": "adds answers; if several match, the latest counts",
            "example": [
                { "path": "/v3/calls/*", "body": { "id": 7 } },
                { "method": "POST", "path": "/v3/calls", "status": 201, "headers": { "x-rate-limit": "5" } },
            ],
            "path": "* matches any text without a slash, ** any text; with a ? in the path, the query counts too",
            "method": "GET if missing, * for all",
            "body": "a string is sent unchanged, everything else as JSON",
        },
        "GET /_emulator/clock": "the time of this stack",
        "POST /_emulator/clock?forward_seconds=3600": "moves the time of this stack forward, so that tokens expire; it never goes back",
        "POST /_emulator/reset": "resets tokens, caches, users, secrets, routes, faults and counters; the time stays ahead",
    }))
}

async fn observed(State(emulator): State<Arc<Emulator>>) -> Json<Observed> {
    Json(emulator.observed())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedFault {
    endpoint: String,
    fault: String,
    times: Option<u32>,
    /// A minute by default. Null omits the header.
    #[serde(default = "a_minute")]
    retry_after: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde needs the type of the field")]
fn a_minute() -> Option<String> {
    Some("60".to_owned())
}

async fn set_fault(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Response {
    let planned: PlannedFault = match serde_json::from_slice(&body) {
        Ok(planned) => planned,
        Err(error) => return refuse(&error.to_string()),
    };
    let Some(endpoint) = Endpoint::parse(&planned.endpoint) else {
        return refuse("unknown endpoint");
    };
    let Some(fault) = Fault::from_name(&planned.fault, planned.retry_after) else {
        return refuse("unknown fault");
    };
    if !fault.fits(endpoint) {
        return refuse(&format!("{fault} cannot happen at {endpoint}"));
    }
    emulator.faults.set(endpoint, fault, planned.times);
    StatusCode::NO_CONTENT.into_response()
}

async fn clear_faults(State(emulator): State<Arc<Emulator>>) -> StatusCode {
    emulator.faults.clear();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeOptions {
    #[serde(default)]
    access_only: bool,
}

async fn revoke_sessions(
    State(emulator): State<Arc<Emulator>>,
    Query(options): Query<RevokeOptions>,
) -> StatusCode {
    emulator.revoke_all_sessions(if options.access_only { Revoke::AccessTokens } else { Revoke::AllTokens });
    StatusCode::NO_CONTENT
}

async fn list_routes(State(emulator): State<Arc<Emulator>>) -> Json<Value> {
    Json(emulator.state().routes.as_json())
}

async fn set_routes(State(emulator): State<Arc<Emulator>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Vec<Route>>(&body) {
        Ok(routes) => {
            emulator.state().routes.set(routes);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => {
            let example = "see the example of PUT /_emulator/routes at /_emulator/";
            let body = json!({ "error": error.to_string(), "routes": example });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockOptions {
    forward_seconds: u64,
}

async fn set_clock(State(emulator): State<Arc<Emulator>>, Query(options): Query<ClockOptions>) -> Response {
    if emulator.clock.forward(Duration::from_secs(options.forward_seconds)) {
        return show_clock(State(emulator)).await;
    }
    let furthest = Clock::FURTHEST.as_secs();
    let body = json!({ "error": format!("the clock can be at most {furthest} s ahead") });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

async fn show_clock(State(emulator): State<Arc<Emulator>>) -> Response {
    let now = emulator.clock.now().format(&Rfc3339).unwrap_or_default();
    Json(json!({ "now": now, "ahead_seconds": emulator.clock.ahead().as_secs() })).into_response()
}

/// Answers when everything is reset, so that a test can continue.
async fn reset(State(emulator): State<Arc<Emulator>>) -> Response {
    match emulator.reset_all().await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": error.to_string() }))).into_response()
        }
    }
}

async fn elsewhere(State(emulator): State<Arc<Emulator>>) -> StatusCode {
    emulator.state().observed.redirects_followed += 1;
    StatusCode::NOT_FOUND
}

fn refuse(reason: &str) -> Response {
    let body = json!({
        "error": reason,
        "endpoints": endpoint_names(),
        "faults": fault_names(),
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn endpoint_names() -> Vec<&'static str> {
    Endpoint::ALL.map(Endpoint::name).to_vec()
}

fn fault_names() -> Vec<&'static str> {
    Fault::ALL.iter().map(Fault::name).collect()
}
