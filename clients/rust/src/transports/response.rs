//! Parses the responses of the transports.

use crate::{Code, Error, Reply, error::cut};
use contract::ErrorAnswer;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::time::Duration;

#[cfg(feature = "aws")]
#[derive(Deserialize)]
struct FunctionError {
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    #[serde(rename = "errorMessage")]
    error_message: Option<String>,
}

#[derive(Default, Deserialize)]
struct AwsError {
    #[serde(alias = "Message", default)]
    message: String,
}

/// A response of the HTTP API or of the agent.
pub(crate) fn http(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Result<Reply, Error> {
    if status == StatusCode::OK {
        return Ok(Reply::new(body));
    }
    let answer = ErrorAnswer::read(&body);
    let Some((code, answer)) = answer.and_then(|answer| Some((Code::parse(&answer.code)?, answer))) else {
        return Err(intercepted(status, headers, &body));
    };
    Err(refused(code, answer, retry_after(headers)))
}

fn refused(code: Code, answer: ErrorAnswer, retry_after: Option<Duration>) -> Error {
    Error::Refused {
        code,
        description: cut(&answer.description),
        retry_after: answer.retry_after_seconds.map(Duration::from_secs).or(retry_after),
        request_id: answer.request_id,
    }
}

/// A function error of Lambda's Invoke API.
#[cfg(feature = "aws")]
pub(super) fn function_error(payload: &[u8], request_id: Option<String>) -> Error {
    let Ok(error) = serde_json::from_slice::<FunctionError>(payload) else {
        return Error::Unreadable("it is a function error without JSON");
    };
    let (kind, message) = (error.error_type.unwrap_or_default(), error.error_message.unwrap_or_default());
    let Some(code) = Code::parse(&kind) else {
        // Lambda's own: a type such as Runtime.ExitError, or the message of a timeout, which has no type.
        return Error::Crashed(cut(if kind.is_empty() { &message } else { &kind }));
    };
    refused(code, ErrorAnswer::read_message(kind, &message, request_id), None)
}

fn intercepted(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let message = serde_json::from_slice::<AwsError>(body).unwrap_or_default().message;
    let kind = text(headers, "x-amzn-errortype").and_then(|kind| kind.split(':').next()).unwrap_or_default();
    let reason = [kind, message.as_str()].join(" ");
    Error::Intercepted {
        status: status.as_u16(),
        reason: cut(reason.trim()),
        retry_after: retry_after(headers),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, header::RETRY_AFTER.as_str()).and_then(seconds)
}

/// The header `Retry-After` as AWS sends it.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{ClientErrorCode, ErrorCode};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn an_http_error_keeps_code_time_and_request_id() {
        let body = br#"{"error":"login_budget_exhausted","error_description":"wait","retry_after":12,"request_id":"r"}"#;
        let error = http(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new(), body.to_vec()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::LoginBudgetExhausted);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(12)));
        assert_eq!((error.description().as_str(), error.request_id()), ("wait", Some("r")));
    }

    #[test]
    fn a_function_error_carries_its_time_in_the_message() {
        let body = br#"{"errorType":"refresh_in_progress","errorMessage":"being renewed (retry_after=3)"}"#;
        let error = function_error(body, Some("r".to_owned()));
        assert_eq!(
            (error.code(), error.description().as_str()),
            (ErrorCode::RefreshInProgress.into(), "being renewed")
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_runtime_fault_is_not_an_answer_of_the_broker() {
        for (body, named) in [
            (r#"{"errorType":"Runtime.ExitError","errorMessage":"exit status 1"}"#, "Runtime.ExitError"),
            (
                r#"{"errorMessage":"Task timed out after 30.00 seconds"}"#,
                "Task timed out after 30.00 seconds",
            ),
            (r#"{"errorType":null,"errorMessage":"out of memory","trace":null}"#, "out of memory"),
        ] {
            let error = function_error(body.as_bytes(), None);
            assert_eq!(error, Error::Crashed(named.to_owned()));
            assert_eq!(error.code(), ClientErrorCode::BrokerUnavailable);
        }
        assert!(matches!(function_error(b"?", None), Error::Unreadable(_)));
    }

    #[test]
    fn an_aws_error_is_not_taken_for_the_brokers() {
        let denied = headers(&[("x-amzn-errortype", "AccessDeniedException:http://internal/")]);
        let error = http(StatusCode::FORBIDDEN, &denied, br#"{"Message":"no"}"#.to_vec()).unwrap_err();
        let reason = "AccessDeniedException no".to_owned();
        assert_eq!(error, Error::Intercepted { status: 403, reason, retry_after: None });
        assert_eq!(error.code(), ErrorCode::AccessDenied);
        let throttled = headers(&[("retry-after", "2")]);
        let error = http(StatusCode::TOO_MANY_REQUESTS, &throttled, b"<html>".to_vec()).unwrap_err();
        assert_eq!(
            (error.code(), error.retry_after()),
            (ClientErrorCode::BrokerUnavailable.into(), Some(Duration::from_secs(2)))
        );
    }
}
