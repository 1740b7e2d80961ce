//! How the agent judges a request before it needs a token or a connection. For `lab/fuzz`; not part of the API.

use crate::{
    gate, proxy,
    route::{Route, route},
};
use contract::{AccountName, CallError, Secret};
use http::{HeaderMap, Method, Uri, request::Parts};

/// Whether the request comes straight from a process on this machine.
pub fn is_local(head: &Parts) -> bool {
    gate::check_origin(head, false).is_ok()
}

/// The account and the request target for the API, if the request is for the proxy. `base` is the API's path.
pub fn proxied(base: &str, method: &Method, uri: &Uri) -> Option<(AccountName, Result<Uri, CallError>)> {
    match route(method, uri.path()) {
        Route::Proxy { account, rest } => Some((account, proxy::target(base, rest, method, uri))),
        _ => None,
    }
}

/// The headers with which a request reaches the API, apart from the token.
pub fn headers_for_api(headers: HeaderMap) -> HeaderMap {
    proxy::headers::for_api(headers)
}

/// Whether a header carries the guard token.
pub fn is_guarded(headers: &HeaderMap, guard: &Secret) -> bool {
    gate::is_guarded(headers, guard)
}

/// Whether the client of an OAuth 2.0 request presents the guard token.
pub fn is_client(headers: &HeaderMap, secret_in_form: Option<&str>, guard: &Secret) -> bool {
    gate::is_client(headers, secret_in_form, guard)
}
