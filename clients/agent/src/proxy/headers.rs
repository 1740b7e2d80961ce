//! Which headers pass. Pure.

use crate::reply::GENERATION;
use contract::{Generation, agent::GUARD_HEADERS};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers of one connection (RFC 9110 §7.6.1). `Trailer` is not among them, because trailers are passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The headers of a request, on their way to the API.
pub fn for_api(mut headers: HeaderMap) -> HeaderMap {
    // Each hop has to state for itself that it accepts trailers.
    let takes_trailers = list(&headers, &header::TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    drop_length_of_chunks(&mut headers);
    drop_hop_by_hop(&mut headers);
    for name in GUARD_HEADERS {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::HOST);
    // The agent has already told the caller to continue.
    headers.remove(header::EXPECT);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers
}

/// The headers of a response, on their way to the caller.
pub(crate) fn for_caller(headers: &mut HeaderMap, generation: Generation) {
    drop_length_of_chunks(headers);
    drop_hop_by_hop(headers);
    headers.insert(GENERATION, generation.0.into());
}

/// A chunked body must have no other length (RFC 9112 §6.3). A second one allows request smuggling, and truncates
/// responses.
fn drop_length_of_chunks(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        list(headers, &header::CONNECTION).filter_map(|name| name.parse().ok()).collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The elements of a comma-separated header.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_belongs_to_the_agent_stays_with_it() {
        let passed = for_api(headers(&[
            ("authorization", "Basic x"),
            ("host", "localhost"),
            ("x-token-broker-token", "guard"),
            ("x-aws-parameters-secrets-token", "guard"),
            ("expect", "100-continue"),
            ("accept", "a"),
            ("accept", "b"),
            ("content-type", "text/plain"),
        ]));
        assert_eq!(names(&passed), ["accept", "content-type"]);
        assert_eq!(passed.get_all("accept").iter().count(), 2);
    }

    #[test]
    fn hop_by_hop_headers_stay_on_their_connection() {
        let both_ways = headers(&[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("trailer", "x-checksum"),
            ("etag", "3"),
        ]);
        assert_eq!(names(&for_api(both_ways.clone())), ["etag", "trailer"]);
        let mut response = both_ways;
        for_caller(&mut response, Generation(7));
        assert_eq!(names(&response), ["etag", "trailer", "x-token-broker-generation"]);
    }

    #[test]
    fn the_api_learns_that_the_caller_accepts_trailers() {
        let passed = for_api(headers(&[("te", "deflate, trailers"), ("connection", "te")]));
        assert_eq!(passed.get("te").unwrap(), "trailers");
    }

    #[test]
    fn a_chunked_body_has_no_other_length() {
        let both = headers(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
        assert!(for_api(both.clone()).is_empty());
        let mut response = both;
        for_caller(&mut response, Generation(7));
        assert_eq!(names(&response), ["x-token-broker-generation"]);
        assert_eq!(names(&for_api(headers(&[("content-length", "5")]))), ["content-length"]);
    }

    #[test]
    fn only_the_agent_sets_the_generation() {
        let mut response = headers(&[("x-token-broker-generation", "99")]);
        for_caller(&mut response, Generation(7));
        assert_eq!(response.get_all(&GENERATION).iter().collect::<Vec<_>>(), ["7"]);
    }
}
