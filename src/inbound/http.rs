//! HTTP requests, as API Gateway and Function URLs hand them to a function.

use super::{
    answer::Problem,
    payload::{Command, Fields},
};
use crate::{inbound::authorization::Action, inbound::authorization::Caller};
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
/// What is served: a method, and the action that gives the path its name.
pub const ROUTES: [(&str, Action); 4] =
    [("POST", Action::Token), ("GET", Action::Status), ("POST", Action::Refresh), ("POST", Action::Revoke)];

/// The shape in which the request came, and in which its response has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A REST API: payload v1.
    Rest,
    /// An HTTP API or a Function URL: payload v2.
    Http,
}

/// An HTTP request.
#[derive(Debug)]
pub struct Request {
    shape: Shape,
    method: Method,
    path: String,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    body: Option<String>,
    is_base64_encoded: bool,
    user_arn: Option<String>,
}

impl Request {
    /// Takes an event that is an HTTP request.
    ///
    /// # Errors
    /// The event itself, where it is none.
    pub fn from_event(event: Value) -> Result<Self, Value> {
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
            shape: Shape::Rest,
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
            shape: Shape::Http,
            method: event.request_context.http.method,
            path: event.raw_path.unwrap_or_default(),
            headers: event.headers,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body: event.body,
            is_base64_encoded: event.is_base64_encoded,
            user_arn: iam.and_then(|iam| iam.user_arn),
        }
    }

    /// Who asks, as API Gateway has established it. Headers prove nothing and are not looked at.
    pub fn caller(&self) -> Caller {
        self.user_arn.as_deref().filter(|arn| !arn.is_empty()).map_or(Caller::Anonymous, Caller::from_arn)
    }

    /// What is asked, by route.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn command(&self) -> Result<Command, Problem> {
        // Whatever the stage or the base path in front of it, the last segment is the route.
        let name = self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let route = ROUTES.into_iter().find(|(_, action)| action.name() == name);
        let (allow, action) = route.ok_or(Problem::NoSuchPath)?;
        if self.method != allow {
            return Err(Problem::WrongMethod { allow });
        }
        let fields = if self.method == Method::GET {
            Fields::from_parameters(&self.query)?
        } else {
            self.fields_of_body(action)?
        };
        fields.command(action)
    }

    fn fields_of_body(&self, action: Action) -> Result<Fields, Problem> {
        let body = self.decoded_body()?;
        match self.media_type().as_str() {
            FORM if action == Action::Token => fields_of_form(&body),
            "application/json" if body.trim_ascii().is_empty() => Ok(Fields::default()),
            "application/json" => match serde_json::from_slice(&body) {
                Ok(Value::Object(object)) => Fields::from_object(object),
                _ => Err(Problem::invalid("the body has to be a JSON object")),
            },
            _ => Err(Problem::invalid(
                "the Content-Type has to be application/json, or application/x-www-form-urlencoded for a token",
            )),
        }
    }

    fn media_type(&self) -> String {
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }

    fn decoded_body(&self) -> Result<Vec<u8>, Problem> {
        let body = self.body.as_deref().unwrap_or_default();
        if self.is_base64_encoded {
            BASE64_STANDARD.decode(body).map_err(|_| Problem::invalid("the body has to be valid base64"))
        } else {
            Ok(body.as_bytes().to_vec())
        }
    }

    /// The response, in the shape in which the request came.
    pub fn respond(&self, result: Result<Value, Problem>, request_id: &str) -> Value {
        let (status, body, retry_after, allow) = match result {
            Ok(mut answer) => {
                // RFC 6749 §5.1 has no `expires_at`. OAuth 2.0 clients that know the name take it for a number, and
                // some (Authlib up to 1.6.4) refuse an answer where it is a date.
                if let (FORM, Value::Object(fields)) = (self.media_type().as_str(), &mut answer) {
                    fields.remove("expires_at");
                }
                (200, answer, None, None)
            }
            Err(problem) => {
                let allow = if let Problem::WrongMethod { allow } = problem { Some(allow) } else { None };
                (problem.status(), problem.body(request_id), problem.retry_after_seconds(), allow)
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        headers.extend(retry_after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
        headers.extend(allow.map(|method| (header::ALLOW, HeaderValue::from_static(method))));
        let body = Some(Body::Text(body.to_string()));
        let response = match self.shape {
            Shape::Rest => {
                let mut response = ApiGatewayProxyResponse::default();
                (response.status_code, response.headers, response.body) = (status, headers, body);
                serde_json::to_value(response)
            }
            Shape::Http => {
                let mut response = ApiGatewayV2httpResponse::default();
                (response.status_code, response.headers, response.body) = (status, headers, body);
                serde_json::to_value(response)
            }
        };
        response.unwrap_or_default()
    }
}

/// An OAuth 2.0 token request (RFC 6749 §4.4). Who the client is has been established by IAM, so its id and
/// secret, which stock clients send along, are not looked at.
fn fields_of_form(body: &[u8]) -> Result<Fields, Problem> {
    let parameters: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let mut grant_types =
        parameters.iter().filter(|(name, _)| name == "grant_type").map(|(_, value)| value.as_str());
    match (grant_types.next(), grant_types.next()) {
        (None, _) => Err(Problem::invalid("`grant_type` is missing; it has to be client_credentials")),
        (Some(_), Some(_)) => Err(Problem::invalid("`grant_type` is given twice")),
        (Some("client_credentials"), None) => Fields::from_parameters(&parameters),
        (Some(_), None) => Err(Problem::UnsupportedGrantType),
    }
}
