//! The JSON protocol of the AWS services, and their faults.

use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use contract::named;
use std::time::Duration;

use crate::faults::Faults;
use crate::server::Peer;

/// The faults of one AWS service.
pub type AwsFaults = Faults<Operations, AwsFault>;

named! {
    /// A fault of an AWS service.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum AwsFault, name {
        /// 503; the request is not carried out.
        Unavailable = "unavailable",
        /// 400 with the service's throttling error; the request is not carried out.
        Throttled = "throttled",
        /// 400 for a missing permission; the request is not carried out.
        AccessDenied = "access_denied",
        /// 200 with an empty body, as from another server; the request is not carried out.
        EmptySuccess = "empty_success",
        /// The request is carried out, and the response lacks the proof that the service wrote it.
        Unproven = "unproven",
        /// The request is carried out, and the connection is closed without a response.
        LostReply = "lost_reply",
        /// The request is carried out, and the response is sent after [`SLOW`].
        Slow = "slow",
        /// The connection is reset; the request is not carried out.
        Reset = "reset",
        /// No response while the client stays connected; the request is not carried out.
        Hang = "hang",
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-crc32");

/// How late a response of [`AwsFault::Slow`] is: later than the broker waits for one attempt.
pub const SLOW: Duration = Duration::from_millis(2500);

/// The operations that a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operations {
    /// Every operation, including the creation of a table.
    All,
    /// Operations that read items or secrets.
    Reads,
    /// Operations that change items or secrets.
    Writes,
    /// Operations that change an item or a secret and whose body contains this text, such as an item's key.
    WritesOf(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationKind {
    Read,
    Write,
    Other,
}

impl Operations {
    pub(crate) fn cover(self, kind: OperationKind, body: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Reads => kind == OperationKind::Read,
            Self::Writes => kind == OperationKind::Write,
            Self::WritesOf(text) => {
                kind == OperationKind::Write && body.windows(text.len()).any(|part| part == text.as_bytes())
            }
        }
    }
}

impl AwsFault {
    /// The response if the request is not carried out, or `None` for faults that carry it out.
    pub(crate) async fn response(self, peer: &Peer, throttling_error: &str) -> Option<Response> {
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
            Self::EmptySuccess => StatusCode::OK.into_response(),
            Self::Reset => peer.reset(),
            Self::Hang => std::future::pending().await,
            Self::Unproven | Self::LostReply | Self::Slow => return None,
        })
    }
}

/// The operation that `X-Amz-Target` names, without the service's prefix.
pub(crate) fn operation(headers: &HeaderMap) -> &str {
    headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.rsplit('.').next())
        .unwrap_or_default()
}

/// An error in the form of the AWS JSON protocols.
pub(crate) fn error(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = serde_json::json!({ "__type": error_type, "message": message });
    response(status, &body)
}

/// A response in the form of the AWS JSON protocols, with the proof that an AWS service wrote it.
pub(crate) fn response(status: StatusCode, body: &serde_json::Value) -> Response {
    let body = body.to_string();
    let headers = [
        (CONTENT_TYPE, "application/x-amz-json-1.1".to_owned()),
        (REQUEST_ID, format!("{:032x}", fastrand::u128(..))),
        (CHECKSUM, crc32fast::hash(body.as_bytes()).to_string()),
    ];
    (status, headers, body).into_response()
}

/// Removes the proof from a response.
pub(crate) fn without_proof(mut response: Response) -> Response {
    for name in [REQUEST_ID, CHECKSUM] {
        response.headers_mut().remove(name);
    }
    response
}
