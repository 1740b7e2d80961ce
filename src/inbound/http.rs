//! HTTP requests as API Gateway and Function URLs pass them to a function, and responses.

use super::{
    authorization::Caller,
    response::{self, Reply, RequestError},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{Action, Call, CallError, TokenAnswer, Unknown, parameters};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, collections::HashMap, fmt, marker::PhantomData};

/// The media type of an OAuth 2.0 token request.
const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Debug)]
pub(super) struct HttpRequest {
    method: String,
    path: String,
    media_type: String,
    query: Vec<(String, String)>,
    body: String,
    is_base64_encoded: bool,
    user_arn: Option<String>,
    is_version_2: bool,
}

/// The fields of an event that the broker reads: payload version 1 of REST APIs, version 2 of HTTP APIs and Function URLs.
#[derive(Default)]
pub(super) struct HttpEvent {
    has_context: bool,
    context: Option<RequestContext>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
    headers: Option<ContentType<Option<String>>>,
    // Version 1.
    method: Option<String>,
    path: Option<String>,
    multi_value_headers: Option<ContentType<Vec<String>>>,
    query: Option<HashMap<String, String>>,
    multi_value_query: Option<HashMap<String, Vec<String>>>,
    // Version 2.
    raw_path: Option<String>,
    raw_query: Option<String>,
    has_any: bool,
}

impl HttpEvent {
    /// The key that every HTTP event has.
    pub(super) const CONTEXT: &str = "requestContext";

    /// Reads the value of a key, if HTTP events have that key.
    pub(super) fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            Self::CONTEXT if self.has_context => return Err(de::Error::duplicate_field(Self::CONTEXT)),
            Self::CONTEXT => (self.has_context, self.context) = (true, map.next_value()?),
            "body" => self.body = map.next_value()?,
            "isBase64Encoded" => self.is_base64_encoded = map.next_value()?,
            "headers" => self.headers = map.next_value()?,
            "httpMethod" => self.method = map.next_value()?,
            "path" => self.path = map.next_value()?,
            "multiValueHeaders" => self.multi_value_headers = map.next_value()?,
            "queryStringParameters" => self.query = map.next_value()?,
            "multiValueQueryStringParameters" => self.multi_value_query = map.next_value()?,
            "rawPath" => self.raw_path = map.next_value()?,
            "rawQueryString" => self.raw_query = map.next_value()?,
            _ => return Ok(false),
        }
        self.has_any = true;
        Ok(true)
    }

    pub(super) const fn has_context(&self) -> bool {
        self.has_context
    }

    pub(super) const fn is_empty(&self) -> bool {
        !self.has_any
    }
}

#[derive(Deserialize)]
struct RequestContext {
    // Version 1.
    identity: Option<Identity>,
    // Version 2.
    http: Option<Http>,
    authorizer: Option<Authorizer>,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

#[derive(Deserialize)]
struct Authorizer {
    iam: Option<Identity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    user_arn: Option<String>,
}

impl HttpRequest {
    /// The request of an event, or `None` if its form is unknown.
    pub(super) fn of(event: HttpEvent) -> Option<Self> {
        let media_type = event.media_type();
        let context = event.context?;
        let is_version_2 = context.http.is_some();
        let (method, path, query, identity) = match context.http {
            Some(http) => {
                let query = parameters(event.raw_query.unwrap_or_default().as_bytes());
                (http.method, event.raw_path, query, context.authorizer.and_then(|authorizer| authorizer.iam))
            }
            None => {
                let query =
                    query(event.query.unwrap_or_default(), event.multi_value_query.unwrap_or_default());
                (event.method?, event.path, query, context.identity)
            }
        };
        Some(Self {
            method,
            path: path.unwrap_or_default(),
            media_type,
            query,
            body: event.body.unwrap_or_default(),
            is_base64_encoded: event.is_base64_encoded.unwrap_or_default(),
            user_arn: identity.and_then(|identity| identity.user_arn),
            is_version_2,
        })
    }

    /// The caller that API Gateway authenticated. Headers prove nothing.
    pub(super) fn caller(&self) -> Caller {
        self.user_arn.as_deref().filter(|arn| !arn.is_empty()).map_or(Caller::Anonymous, Caller::from_arn)
    }

    /// The call for this route and these fields.
    pub(super) fn call(&self) -> Result<Call, RequestError> {
        // The route is the last segment; a stage or base path may precede it.
        let name = self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let route = Action::parse(name).and_then(|action| Some((action, action.method()?)));
        let (action, allow) = route.ok_or(RequestError::NoSuchPath)?;
        if self.method != allow {
            return Err(RequestError::WrongMethod { allow });
        }
        if allow == "GET" {
            return Ok(Call::from_parameters(&self.query, action, Unknown::Refuse)?);
        }
        if !self.query.is_empty() {
            return Err(RequestError::invalid(format!(
                "{allow} takes no query; send the fields in the body"
            )));
        }
        let body = self.decoded_body()?;
        match self.media_type.as_str() {
            FORM if action == Action::Token => Call::from_form(&parameters(&body)).map_err(of_form),
            "application/json" if body.trim_ascii().is_empty() => Ok(Call::new(action, None)),
            "application/json" => Ok(Call::from_json(&body, Some(action))?),
            _ => Err(RequestError::invalid(
                "the Content-Type must be application/json, or application/x-www-form-urlencoded for a token",
            )),
        }
    }

    fn decoded_body(&self) -> Result<Cow<'_, [u8]>, RequestError> {
        if self.is_base64_encoded {
            let decoded = BASE64_STANDARD.decode(self.body.as_bytes());
            decoded.map(Cow::Owned).map_err(|_| RequestError::invalid("the body must be valid base64"))
        } else {
            Ok(Cow::Borrowed(self.body.as_bytes()))
        }
    }

    pub(super) fn form(&self) -> HttpForm {
        HttpForm { is_version_2: self.is_version_2, is_oauth: self.media_type == FORM }
    }
}

/// Callers often send JSON with the Content-Type of a form, since that is the default of their tools.
fn of_form(error: CallError) -> RequestError {
    match error {
        CallError::Invalid(what) => RequestError::invalid(format!("{what} (the Content-Type is {FORM})")),
        other @ CallError::UnsupportedGrantType => other.into(),
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HttpForm {
    is_version_2: bool,
    /// Required by RFC 6749 §5.1.
    is_oauth: bool,
}

/// The query of payload version 1, which lists each parameter either once or with all its values.
fn query(single: HashMap<String, String>, multiple: HashMap<String, Vec<String>>) -> Vec<(String, String)> {
    if multiple.is_empty() {
        return single.into_iter().collect();
    }
    let each =
        |(name, values): (String, Vec<String>)| values.into_iter().map(move |value| (name.clone(), value));
    multiple.into_iter().flat_map(each).collect()
}

/// A response to either payload version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpResponse {
    status_code: i64,
    headers: ResponseHeaders,
    body: String,
    is_base64_encoded: bool,
    /// For version 2 only: cargo-lambda's emulator requires it. The broker sets no cookies.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<[&'static str; 0]>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ResponseHeaders {
    content_type: &'static str,
    cache_control: &'static str,
    pragma: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<&'static str>,
}

/// The HTTP response to a request.
pub(super) fn respond(result: Result<Reply, RequestError>, form: HttpForm, request_id: &str) -> HttpResponse {
    let error = result.as_ref().err();
    let retry_after = error.and_then(RequestError::retry_after_seconds).map(|seconds| seconds.to_string());
    let allow = match error {
        Some(RequestError::WrongMethod { allow }) => Some(*allow),
        _ => None,
    };
    let headers = ResponseHeaders {
        content_type: "application/json",
        cache_control: "no-store",
        pragma: "no-cache",
        retry_after,
        allow,
    };
    let (status_code, body) = match result {
        Ok(Reply::Token(answer)) if form.is_oauth => {
            (200, response::text(&Reply::Token(TokenAnswer { expires_at: None, ..answer })))
        }
        Ok(reply) => (200, response::text(&reply)),
        Err(error) => (error.status(), error.answer(Some(request_id)).to_json()),
    };
    let cookies = form.is_version_2.then_some([]);
    HttpResponse { status_code, headers, body, is_base64_encoded: false, cookies }
}

/// Reads the header `Content-Type` and skips the others.
struct ContentType<T>(Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for ContentType<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Headers<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Headers<T> {
            type Value = ContentType<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut content_type = None;
                while let Some(IsContentType(is_it)) = map.next_key()? {
                    if is_it && content_type.is_none() {
                        content_type = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(ContentType(content_type))
            }
        }
        deserializer.deserialize_map(Headers(PhantomData))
    }
}

struct IsContentType(bool);

impl<'de> Deserialize<'de> for IsContentType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = IsContentType;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a header")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(IsContentType(name.eq_ignore_ascii_case("content-type")))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl HttpEvent {
    fn media_type(&self) -> String {
        let single = self.headers.as_ref().and_then(|ContentType(value)| value.as_ref()?.as_deref());
        let multiple = self.multi_value_headers.as_ref();
        let multiple = multiple.and_then(|ContentType(values)| values.as_ref()?.first()).map(String::as_str);
        let content_type = single.or(multiple);
        let media_type = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests;
