//! HTTP requests in the forms in which API Gateway and Function URLs pass them to a function, and responses.

use super::{
    authorization::{Action, Caller},
    payload::{self, Command, Fields},
    response::RequestError,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::HashMap};

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

/// An HTTP request.
#[derive(Debug)]
pub(super) struct HttpRequest<'a> {
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    media_type: String,
    query: Vec<(String, String)>,
    body: Cow<'a, str>,
    is_base64_encoded: bool,
    user_arn: Option<Cow<'a, str>>,
}

/// The fields of an event that the broker reads: payload version 1 of REST APIs, version 2 of HTTP APIs and Function URLs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpEvent<'a> {
    #[serde(borrow)]
    request_context: RequestContext<'a>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: Option<bool>,
    headers: Option<HashMap<String, Option<String>>>,
    // Version 1.
    #[serde(borrow)]
    http_method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
    query_string_parameters: Option<HashMap<String, String>>,
    multi_value_query_string_parameters: Option<HashMap<String, Vec<String>>>,
    // Version 2.
    #[serde(borrow)]
    raw_path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    raw_query_string: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RequestContext<'a> {
    // Version 1.
    #[serde(borrow)]
    identity: Option<Identity<'a>>,
    // Version 2.
    #[serde(borrow)]
    http: Option<Http<'a>>,
    #[serde(borrow)]
    authorizer: Option<Authorizer<'a>>,
}

#[derive(Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Authorizer<'a> {
    #[serde(borrow)]
    iam: Option<Identity<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(borrow)]
    user_arn: Option<Cow<'a, str>>,
}

impl<'a> HttpRequest<'a> {
    /// Parses the text of an event.
    ///
    /// # Errors
    /// The event is of no known form.
    pub(super) fn parse(text: &'a str) -> Result<Self, RequestError> {
        let malformed =
            || RequestError::invalid("the event is neither payload version 1 nor 2 of an HTTP request");
        let event: HttpEvent<'a> = serde_json::from_str(text).map_err(|_| malformed())?;
        let media_type = event.media_type();
        let body = event.body.unwrap_or_default();
        let is_base64_encoded = event.is_base64_encoded.unwrap_or_default();
        let context = event.request_context;
        match (context.http, event.http_method) {
            (Some(http), _) => Ok(Self {
                method: http.method,
                path: event.raw_path.unwrap_or_default(),
                media_type,
                query: parameters(event.raw_query_string.unwrap_or_default().as_bytes()),
                body,
                is_base64_encoded,
                user_arn: context.authorizer.and_then(|authorizer| authorizer.iam?.user_arn),
            }),
            (None, Some(method)) => {
                let single = event.query_string_parameters.unwrap_or_default().into_iter();
                let multiple = event.multi_value_query_string_parameters.unwrap_or_default();
                let query = if multiple.is_empty() {
                    single.collect()
                } else {
                    let each = |(name, values): (String, Vec<String>)| {
                        values.into_iter().map(move |value| (name.clone(), value))
                    };
                    multiple.into_iter().flat_map(each).collect()
                };
                Ok(Self {
                    method,
                    path: event.path.unwrap_or_default(),
                    media_type,
                    query,
                    body,
                    is_base64_encoded,
                    user_arn: context.identity.and_then(|identity| identity.user_arn),
                })
            }
            (None, None) => Err(malformed()),
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
        if self.method != *allow {
            return Err(RequestError::WrongMethod { allow });
        }
        let fields = if self.method == "GET" {
            Fields::from_parameters(&self.query)?
        } else {
            self.fields_of_body(action)?
        };
        fields.command(action)
    }

    fn fields_of_body(&self, action: Action) -> Result<Fields, RequestError> {
        let body = self.decoded_body()?;
        match self.media_type.as_str() {
            FORM if action == Action::Token => fields_of_form(&body),
            "application/json" if body.trim_ascii().is_empty() => Ok(Fields::default()),
            "application/json" => match payload::json(&body, "body")? {
                Value::Object(object) => Fields::from_object(object),
                _ => Err(RequestError::invalid("the body has to be a JSON object")),
            },
            _ => Err(RequestError::invalid(
                "the Content-Type has to be application/json, or application/x-www-form-urlencoded for a token",
            )),
        }
    }

    fn decoded_body(&self) -> Result<Cow<'_, [u8]>, RequestError> {
        if self.is_base64_encoded {
            let decoded = BASE64_STANDARD.decode(self.body.as_bytes());
            decoded.map(Cow::Owned).map_err(|_| RequestError::invalid("the body has to be valid base64"))
        } else {
            Ok(Cow::Borrowed(self.body.as_bytes()))
        }
    }

    /// The response to this request.
    pub(super) fn respond(&self, result: Result<Value, RequestError>, request_id: &str) -> Value {
        let result = result.map(|mut answer| {
            // RFC 6749 §5.1 has no `expires_at`. Some OAuth 2.0 clients expect a number under that name, and Authlib up
            // to 1.6.4 refuses an answer in which it is a date.
            if let (FORM, Value::Object(fields)) = (self.media_type.as_str(), &mut answer) {
                fields.remove("expires_at");
            }
            answer
        });
        respond(result, request_id)
    }
}

/// A response in a form that both payload versions have.
pub(super) fn respond(result: Result<Value, RequestError>, request_id: &str) -> Value {
    let mut headers = Map::new();
    let mut add = |name: &str, value: String| headers.insert(name.to_owned(), value.into());
    add("content-type", "application/json".to_owned());
    add("cache-control", "no-store".to_owned());
    add("pragma", "no-cache".to_owned());
    let (status, body) = match result {
        Ok(answer) => (200, answer),
        Err(error) => {
            if let Some(seconds) = error.retry_after_seconds() {
                add("retry-after", seconds.to_string());
            }
            if let RequestError::WrongMethod { allow } = error {
                add("allow", allow.to_owned());
            }
            (error.status(), error.body(request_id))
        }
    };
    json!({"statusCode": status, "headers": headers, "body": body.to_string(), "isBase64Encoded": false})
}

impl HttpEvent<'_> {
    fn media_type(&self) -> String {
        let is_content_type = |name: &str| name.eq_ignore_ascii_case("content-type");
        let single = self.headers.iter().flatten().find(|(name, _)| is_content_type(name));
        let multiple = self.multi_value_headers.iter().flatten().find(|(name, _)| is_content_type(name));
        let content_type = single
            .and_then(|(_, value)| value.as_deref())
            .or_else(|| multiple.and_then(|(_, values)| values.first()).map(String::as_str));
        let media_type = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

fn parameters(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// The fields of an OAuth 2.0 token request (RFC 6749 §4.4). The client id and secret that stock clients send are
/// ignored, because IAM has authenticated the caller.
fn fields_of_form(body: &[u8]) -> Result<Fields, RequestError> {
    let parameters = parameters(body);
    let mut grant_types =
        parameters.iter().filter(|(name, _)| name == "grant_type").map(|(_, value)| value.as_str());
    match (grant_types.next(), grant_types.next()) {
        (None, _) => Err(RequestError::invalid("`grant_type` is missing; it has to be client_credentials")),
        (Some(_), Some(_)) => Err(RequestError::invalid("`grant_type` is given twice")),
        (Some("client_credentials"), None) => Fields::from_parameters(&parameters),
        (Some(_), None) => Err(RequestError::UnsupportedGrantType),
    }
}
