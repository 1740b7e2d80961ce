//! The emulated API: a test's answers, by method and path.

use std::collections::BTreeMap;

use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::response::Reply;

/// The emulator itself answers below these paths.
const RESERVED: [&str; 4] = ["/_emulator/", "/oauth/", "/v2/oauth/", "/v3/auth/"];

/// An answer of the emulated API to a request with a live token.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RouteText")]
pub struct Route {
    text: RouteText,
    /// Every method if there is none.
    method: Option<Method>,
    pattern: Regex,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

/// A route as written by the test.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteText {
    /// `*` means every method.
    #[serde(default = "get")]
    method: String,
    /// `*` matches any text without a slash, `**` any text. If it contains a `?`, the query has to match too.
    path: String,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// A string is sent unchanged, everything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

fn get() -> String {
    Method::GET.to_string()
}

fn ok() -> u16 {
    StatusCode::OK.as_u16()
}

impl TryFrom<RouteText> for Route {
    type Error = String;

    fn try_from(text: RouteText) -> Result<Self, String> {
        let wrong = |what: &str| format!("the route {} {}: {what}", text.method, text.path);
        if !text.path.starts_with('/') {
            return Err(wrong("the path must begin with /"));
        }
        if let Some(reserved) = RESERVED.iter().find(|reserved| text.path.starts_with(*reserved)) {
            return Err(wrong(&format!("the emulator itself answers below {reserved}")));
        }
        let method = match text.method.as_str() {
            "*" => None,
            method => Some(Method::from_bytes(method.as_bytes()).map_err(|_| wrong("not a method"))?),
        };
        let escaped = regex_lite::escape(&text.path).replace(r"\*\*", ".*").replace(r"\*", "[^/]*");
        let pattern = Regex::new(&format!("^{escaped}$")).map_err(|_| wrong("the path is too long"))?;
        let status = match text.status {
            200..=599 => StatusCode::from_u16(text.status).ok(),
            _ => None,
        };
        let status = status.ok_or_else(|| wrong("the status must be a number from 200 to 599"))?;
        let (content_type, body) = match &text.body {
            None => (None, Vec::new()),
            Some(Value::String(body)) => (Some("text/plain"), body.clone().into_bytes()),
            Some(body) => (Some("application/json"), body.to_string().into_bytes()),
        };
        let mut headers = Vec::new();
        if let Some(content_type) = content_type {
            headers.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
        }
        for (name, value) in &text.headers {
            let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            headers.push(header.ok_or_else(|| wrong(&format!("{name} is not a valid header")))?);
        }
        Ok(Self { text, method, pattern, status, headers, body })
    }
}

impl Route {
    fn matches(&self, method: &Method, uri: &Uri) -> bool {
        let target = match uri.path_and_query() {
            Some(target) if self.text.path.contains('?') => target.as_str(),
            _ => uri.path(),
        };
        self.method.as_ref().is_none_or(|own| own == method) && self.pattern.is_match(target)
    }
}

/// The routes, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Routes(Vec<Route>);

impl Default for Routes {
    /// One route exists from the start.
    fn default() -> Self {
        let users = json!({"path": "/v3/users/list", "body": {"result": "success", "data": []}});
        Self(serde_json::from_value(users).into_iter().collect())
    }
}

impl Routes {
    /// Adds routes. If several match a request, the latest answers.
    pub(super) fn set(&mut self, routes: Vec<Route>) {
        for route in routes {
            let key = |route: &Route| (route.text.method.clone(), route.text.path.clone());
            self.0.retain(|other| key(other) != key(&route));
            self.0.push(route);
        }
    }

    pub(super) fn as_json(&self) -> Value {
        json!(self.0.iter().map(|route| &route.text).collect::<Vec<_>>())
    }

    /// The answer to a request that presents a live token.
    pub(super) fn answer(&self, method: &Method, uri: &Uri) -> Option<Reply> {
        let route = self.0.iter().rev().find(|route| route.matches(method, uri))?;
        Some(Reply::of(route.status, route.headers.clone(), route.body.clone()))
    }

    /// The answer to a request that no route matches.
    pub(super) fn hint(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Reply {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7071");
        let example = json!([{"method": method.as_str(), "path": uri.path(), "body": {}}]);
        let body = json!({
            "error": "no_route",
            "message": format!("The emulated API has no answer to {method} {}. Add a route.", uri.path()),
            "example": format!("curl -X PUT http://{host}/_emulator/routes -d '{example}'"),
            "routes": self.0.iter().map(|route| format!("{} {}", route.text.method, route.text.path)).collect::<Vec<_>>(),
        });
        Reply::json(StatusCode::NOT_FOUND, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(text: &Value) -> Routes {
        let mut routes = Routes::default();
        routes.set(serde_json::from_value(text.clone()).expect("valid routes"));
        routes
    }

    fn status(routes: &Routes, method: &str, target: &str) -> u16 {
        let uri = target.parse().expect("a target");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        routes.answer(&method, &uri).map_or(404, |reply| reply.status.as_u16())
    }

    #[test]
    fn wildcards_stop_at_a_slash_unless_they_are_double() {
        let routes =
            routes(&json!([{"path": "/v3/calls/*", "status": 201}, {"path": "/v3/deep/**", "status": 202}]));
        for (target, expected) in [
            ("/v3/calls/7", 201),
            ("/v3/calls/", 201),
            ("/v3/calls/7?page=2", 201),
            ("/v3/calls", 404),
            ("/v3/calls/7/notes", 404),
            ("/v3/deep/7/notes", 202),
            ("/v3/users/list", 200),
        ] {
            assert_eq!(status(&routes, "GET", target), expected, "{target}");
        }
    }

    #[test]
    fn the_route_that_was_set_last_answers() {
        let routes = routes(&json!([
            {"path": "/v3/a", "status": 201},
            {"path": "/v3/*", "status": 202},
            {"path": "/v3/a", "status": 203},
            {"path": "/v3/users/list", "status": 204},
        ]));
        assert_eq!((status(&routes, "GET", "/v3/a"), status(&routes, "GET", "/v3/b")), (203, 202));
        assert_eq!(status(&routes, "GET", "/v3/users/list"), 204, "the first route can be replaced");
    }

    #[test]
    fn method_and_query_decide_where_a_route_names_them() {
        let routes = routes(&json!([
            {"method": "*", "path": "/v3/any", "status": 201},
            {"method": "POST", "path": "/v3/posted", "status": 202},
            {"path": "/v3/list?page=2", "status": 203},
        ]));
        for (method, target, expected) in [
            ("DELETE", "/v3/any", 201),
            ("POST", "/v3/posted", 202),
            ("GET", "/v3/posted", 404),
            ("GET", "/v3/list?page=2", 203),
            ("GET", "/v3/list?page=3", 404),
            ("GET", "/v3/list", 404),
        ] {
            assert_eq!(status(&routes, method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn a_route_that_cannot_answer_is_refused_by_name() {
        for (route, reason) in [
            (json!({"path": "v3/calls"}), "begin with /"),
            (json!({"path": "/oauth/token"}), "itself answers below /oauth/"),
            (json!({"path": "/_emulator/x"}), "itself answers below /_emulator/"),
            (json!({"path": "/a", "method": "G ET"}), "not a method"),
            (json!({"path": "/a", "status": 99}), "from 200 to 599"),
            (json!({"path": "/a", "status": 101}), "from 200 to 599"),
            (json!({"path": "/a", "headers": {"a b": "c"}}), "not a valid header"),
            (json!({"path": "/a", "boddy": 1}), "boddy"),
        ] {
            let error = serde_json::from_value::<Route>(route.clone()).expect_err("refused").to_string();
            assert!(error.contains(reason), "{route}: {error}");
        }
    }
}
