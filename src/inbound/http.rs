//! HTTP requests in the forms in which API Gateway and Function URLs pass them to a function, and responses.

use super::{
    authorization::{Action, Caller},
    payload::{Command, Fields},
    response::RequestError,
};
use aws_lambda_events::{
    encodings::Body,
    event::apigw::{
        ApiGatewayProxyRequest, ApiGatewayProxyResponse, ApiGatewayV2httpRequest, ApiGatewayV2httpResponse,
    },
    http::{HeaderMap, HeaderValue, Method, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// The media type of an OAuth 2.0 token request.
const FORM: &str = "application/x-www-form-urlencoded";
/// The routes: a method, and the action that names the path.
pub const ROUTES: [(&str, Action); 5] = [
    ("POST", Action::Token),
    ("GET", Action::Status),
    ("POST", Action::Refresh),
    ("POST", Action::Revoke),
    ("POST", Action::Unblock),
];

/// The payload format of the event. The response has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Version 1, of a REST API.
    V1,
    /// Version 2, of an HTTP API or a Function URL.
    V2,
}

/// An HTTP request.
#[derive(Debug)]
pub(super) struct HttpRequest {
    format: Format,
    method: Method,
    path: String,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    body: Option<String>,
    is_base64_encoded: bool,
    user_arn: Option<String>,
}

impl HttpRequest {
    /// Parses an event.
    ///
    /// # Errors
    /// The event itself, if it is no HTTP request.
    pub(super) fn from_event(event: Value) -> Result<Self, Value> {
        let Some(context) = event.get("requestContext") else { return Err(event) };
        if context.get("http").is_some() {
            return serde_json::from_value(event.clone()).map(Self::from_v2).map_err(|_| event);
        }
        if event.get("httpMethod").is_some() {
            return serde_json::from_value(event.clone()).map(Self::from_v1).map_err(|_| event);
        }
        Err(event)
    }

    fn from_v1(event: ApiGatewayProxyRequest) -> Self {
        let query = event.multi_value_query_string_parameters;
        let query = if query.is_empty() { event.query_string_parameters } else { query };
        Self {
            format: Format::V1,
            method: event.http_method,
            path: event.path.unwrap_or_default(),
            headers: if event.headers.is_empty() { event.multi_value_headers } else { event.headers },
            query: query.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: event.body,
            is_base64_encoded: event.is_base64_encoded,
            user_arn: event.request_context.identity.user_arn,
        }
    }

    fn from_v2(event: ApiGatewayV2httpRequest) -> Self {
        let query = event.raw_query_string.unwrap_or_default();
        let iam = event.request_context.authorizer.and_then(|authorizer| authorizer.iam);
        Self {
            format: Format::V2,
            method: event.request_context.http.method,
            path: event.raw_path.unwrap_or_default(),
            headers: event.headers,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body: event.body,
            is_base64_encoded: event.is_base64_encoded,
            user_arn: iam.and_then(|iam| iam.user_arn),
        }
    }

    /// The caller that API Gateway has authenticated. Headers prove nothing.
    pub(super) fn caller(&self) -> Caller {
        self.user_arn.as_deref().filter(|arn| !arn.is_empty()).map_or(Caller::Anonymous, Caller::from_arn)
    }

    /// The command that the route and the fields stand for.
    pub(super) fn command(&self) -> Result<Command, RequestError> {
        // A stage or a base path may precede the route, which is the last segment.
        let name = self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let route = ROUTES.into_iter().find(|(_, action)| action.name() == name);
        let (allow, action) = route.ok_or(RequestError::NoSuchPath)?;
        if self.method != allow {
            return Err(RequestError::WrongMethod { allow });
        }
        let fields = if self.method == Method::GET {
            Fields::from_parameters(&self.query)?
        } else {
            self.fields_of_body(action)?
        };
        fields.command(action)
    }

    fn fields_of_body(&self, action: Action) -> Result<Fields, RequestError> {
        let body = self.decoded_body()?;
        match self.media_type().as_str() {
            FORM if action == Action::Token => fields_of_form(&body),
            "application/json" if body.trim_ascii().is_empty() => Ok(Fields::default()),
            "application/json" => match serde_json::from_slice(&body) {
                Ok(Value::Object(object)) => Fields::from_object(object),
                _ => Err(RequestError::invalid("the body has to be a JSON object")),
            },
            _ => Err(RequestError::invalid(
                "the Content-Type has to be application/json, or application/x-www-form-urlencoded for a token",
            )),
        }
    }

    fn media_type(&self) -> String {
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }

    fn decoded_body(&self) -> Result<Vec<u8>, RequestError> {
        let body = self.body.as_deref().unwrap_or_default();
        if self.is_base64_encoded {
            BASE64_STANDARD.decode(body).map_err(|_| RequestError::invalid("the body has to be valid base64"))
        } else {
            Ok(body.as_bytes().to_vec())
        }
    }

    /// The response, in the format of the request.
    pub(super) fn respond(&self, result: Result<Value, RequestError>, request_id: &str) -> Value {
        let (status, body, retry_after, allow) = match result {
            Ok(mut answer) => {
                // RFC 6749 §5.1 has no `expires_at`. Some OAuth 2.0 clients expect a number under that name, and
                // Authlib up to 1.6.4 refuses an answer in which it is a date.
                if let (FORM, Value::Object(fields)) = (self.media_type().as_str(), &mut answer) {
                    fields.remove("expires_at");
                }
                (200, answer, None, None)
            }
            Err(error) => {
                let allow = if let RequestError::WrongMethod { allow } = error { Some(allow) } else { None };
                (error.status(), error.body(request_id), error.retry_after_seconds(), allow)
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        headers.extend(retry_after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
        headers.extend(allow.map(|method| (header::ALLOW, HeaderValue::from_static(method))));
        let body = Some(Body::Text(body.to_string()));
        let response = match self.format {
            Format::V1 => {
                let mut response = ApiGatewayProxyResponse::default();
                (response.status_code, response.headers, response.body) = (status, headers, body);
                serde_json::to_value(response)
            }
            Format::V2 => {
                let mut response = ApiGatewayV2httpResponse::default();
                (response.status_code, response.headers, response.body) = (status, headers, body);
                serde_json::to_value(response)
            }
        };
        response.unwrap_or_default()
    }
}

/// The fields of an OAuth 2.0 token request (RFC 6749 §4.4). The client id and secret that stock clients send are
/// ignored, because IAM has authenticated the caller.
fn fields_of_form(body: &[u8]) -> Result<Fields, RequestError> {
    let parameters: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let mut grant_types =
        parameters.iter().filter(|(name, _)| name == "grant_type").map(|(_, value)| value.as_str());
    match (grant_types.next(), grant_types.next()) {
        (None, _) => Err(RequestError::invalid("`grant_type` is missing; it has to be client_credentials")),
        (Some(_), Some(_)) => Err(RequestError::invalid("`grant_type` is given twice")),
        (Some("client_credentials"), None) => Fields::from_parameters(&parameters),
        (Some(_), None) => Err(RequestError::UnsupportedGrantType),
    }
}
