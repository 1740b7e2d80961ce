//! The control interface, `/_emulator/`, for people and for scripts in other languages.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::{Endpoint, Fault};
use super::{Emulator, Observed, Revoke};

/// The target of [`Fault::Redirect`].
pub(super) const ELSEWHERE: &str = "/_emulator/elsewhere";

pub(super) fn routes() -> Router<Arc<Emulator>> {
    Router::new()
        .route("/_emulator/", get(help))
        .route("/_emulator/observed", get(observed))
        .route("/_emulator/faults", put(set_fault).delete(clear_faults))
        .route("/_emulator/revoke-sessions", post(revoke_sessions))
        .route(ELSEWHERE, any(elsewhere))
}

async fn help() -> Json<Value> {
    Json(json!({
        "GET /_emulator/observed": "the requests so far",
        "PUT /_emulator/faults": {
            "does": "injects a fault, so many times or until it is cleared",
            "example": { "endpoint": "login", "fault": "rate_limited", "times": 3, "retry_after": "7" },
            "endpoints": endpoint_names(),
            "faults": fault_names(),
        },
        "DELETE /_emulator/faults": "clears all faults",
        "POST /_emulator/revoke-sessions": "revokes all tokens; with ?access_only=true the refresh tokens stay usable",
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
    /// A minute by default. Null leaves the header out.
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
    let Some(endpoint) = Endpoint::from_name(&planned.endpoint) else {
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
