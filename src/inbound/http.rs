//! HTTP requests in the forms in which API Gateway and Function URLs pass them to a function, and responses.

use super::{
    authorization::Caller,
    response::{self, Reply, RequestError},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{Action, Call, TokenAnswer, Unknown, parameters};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, collections::HashMap, fmt, marker::PhantomData};

/// The media type of an OAuth 2.0 token request.
const FORM: &str = "application/x-www-form-urlencoded";

/// An HTTP request.
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
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpEvent {
    request_context: Option<RequestContext>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
    headers: Option<ContentType<Option<String>>>,
    // Version 1.
    http_method: Option<String>,
    path: Option<String>,
    multi_value_headers: Option<ContentType<Vec<String>>>,
    query_string_parameters: Option<HashMap<String, String>>,
    multi_value_query_string_parameters: Option<HashMap<String, Vec<String>>>,
    // Version 2.
    raw_path: Option<String>,
    raw_query_string: Option<String>,
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
    /// Parses the event of an HTTP request; none if it is of no known form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // An array would be accepted too, as the fields in their order. It has no key `requestContext`, so it is a
        // direct payload.
        let event: HttpEvent = serde_json::from_str(text).ok().filter(|_| text.starts_with('{'))?;
        let media_type = event.media_type();
        let body = event.body.unwrap_or_default();
        let is_base64_encoded = event.is_base64_encoded.unwrap_or_default();
        let context = event.request_context?;
        match (context.http, event.http_method) {
            (Some(http), _) => Some(Self {
                method: http.method,
                path: event.raw_path.unwrap_or_default(),
                media_type,
                query: parameters(event.raw_query_string.unwrap_or_default().as_bytes()),
                body,
                is_base64_encoded,
                user_arn: context.authorizer.and_then(|authorizer| authorizer.iam?.user_arn),
                is_version_2: true,
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
                Some(Self {
                    method,
                    path: event.path.unwrap_or_default(),
                    media_type,
                    query,
                    body,
                    is_base64_encoded,
                    user_arn: context.identity.and_then(|identity| identity.user_arn),
                    is_version_2: false,
                })
            }
            (None, None) => None,
        }
    }

    /// The caller that API Gateway has authenticated. Headers prove nothing.
    pub(super) fn caller(&self) -> Caller {
        self.user_arn.as_deref().filter(|arn| !arn.is_empty()).map_or(Caller::Anonymous, Caller::from_arn)
    }

    /// The call that the route and its fields stand for.
    pub(super) fn call(&self) -> Result<Call, RequestError> {
        // A stage or a base path may precede the route, which is the last segment.
        let name = self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let route = Action::parse(name).and_then(|action| Some((action, action.method()?)));
        let (action, allow) = route.ok_or(RequestError::NoSuchPath)?;
        if self.method != allow {
            return Err(RequestError::WrongMethod { allow });
        }
        if allow == "GET" {
            return Ok(Call::from_parameters(&self.query, action, Unknown::Ignore)?);
        }
        let body = self.decoded_body()?;
        match self.media_type.as_str() {
            FORM if action == Action::Token => Ok(Call::from_form(&parameters(&body))?),
            "application/json" if body.trim_ascii().is_empty() => Ok(Call::new(action, None)),
            "application/json" => Ok(Call::from_json(&body, Some(action))?),
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
    pub(super) fn respond(&self, result: Result<Reply, RequestError>, request_id: &str) -> HttpResponse {
        let result = result.map(|reply| match reply {
            Reply::Token(answer) if self.media_type == FORM => {
                Reply::Token(TokenAnswer { expires_at: None, ..answer })
            }
            other => other,
        });
        HttpResponse { cookies: self.is_version_2.then_some([]), ..respond(result, request_id) }
    }
}

/// A response to either payload version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpResponse {
    status_code: i64,
    headers: ResponseHeaders,
    body: String,
    is_base64_encoded: bool,
    /// Version 2 only, where cargo-lambda's emulator insists on it. The broker sets no cookies.
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

/// The response to a request whose event was understood or not.
pub(super) fn respond(result: Result<Reply, RequestError>, request_id: &str) -> HttpResponse {
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
        Ok(reply) => (200, response::text(&reply)),
        Err(error) => (error.status(), error.body(request_id).to_string()),
    };
    HttpResponse { status_code, headers, body, is_base64_encoded: false, cookies: None }
}

/// The value of the header `Content-Type`. The other headers are skipped.
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
