//! What the two AWS services have in common: the JSON protocol's errors, and the faults.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::faults::Faults;
use super::server::Peer;

/// The faults of one AWS service.
pub type AwsFaults = Faults<Operations, AwsFault>;

/// What can go wrong with a request to an AWS service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsFault {
    /// 503; the request is not carried out.
    Unavailable,
    /// 400 that asks to slow down; the request is not carried out.
    Throttled,
    /// 400, as if a permission were missing; the request is not carried out.
    AccessDenied,
    /// The request is carried out, and the connection closed without an answer.
    LostReply,
    /// The connection is reset, and the request not carried out.
    Reset,
    /// No answer while the client stays connected; the request is not carried out.
    Hang,
}

/// Which operations a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operations {
    /// Every operation, those that are neither reads nor writes too.
    All,
    /// What only reads items or secrets.
    Reads,
    /// What changes items or secrets.
    Writes,
}

/// What sort of operation a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Other,
}

impl Operations {
    pub(super) fn cover(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Reads => kind == Kind::Read,
            Self::Writes => kind == Kind::Write,
        }
    }
}

impl AwsFault {
    /// What happens in the stead of carrying out the request. [`AwsFault::LostReply`] does nothing
    /// here: it carries the request out first.
    pub(super) async fn instead_of_work(self, peer: &Peer, throttling_error: &str) -> Option<Response> {
        Some(match self {
            Self::Unavailable => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "The service is unavailable: a fault of the emulator",
            ),
            Self::Throttled => {
                error(StatusCode::BAD_REQUEST, throttling_error, "Slow down: a fault of the emulator")
            }
            Self::AccessDenied => error(
                StatusCode::BAD_REQUEST,
                "AccessDeniedException",
                "Not authorized: a fault of the emulator",
            ),
            Self::Reset => peer.reset(),
            Self::Hang => std::future::pending().await,
            Self::LostReply => return None,
        })
    }
}

/// The operation that `X-Amz-Target` names, without the service's prefix.
pub(super) fn operation(headers: &HeaderMap) -> &str {
    headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.rsplit('.').next())
        .unwrap_or_default()
}

/// An error in the form of the AWS JSON protocols.
pub(super) fn error(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = serde_json::json!({ "__type": error_type, "message": message });
    answer(status, &body)
}

/// An answer in the form of the AWS JSON protocols.
pub(super) fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [(CONTENT_TYPE, "application/x-amz-json-1.1")];
    (status, headers, body.to_string()).into_response()
}
