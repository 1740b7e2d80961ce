//! When a request may be repeated. Pure.

use contract::Generation;
use http::{Method, StatusCode};

/// Whether the API's answer says that it refused the token.
pub(crate) fn is_refused(status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED
}

/// Whether the broker's answer to a report justifies another try: only a newer token can be better.
pub(crate) fn is_better(renewed: Generation, refused: Generation) -> bool {
    renewed > refused
}

/// Whether a request that failed on a reused connection may be sent over a new one.
///
/// The server may have acted on it, so the method has to be safe (RFC 9110 §9.2.1). A server's timeout usually closes
/// an idle connection; if a new one breaks, the cause is another.
pub(crate) fn may_resend(method: &Method, body_is_empty: bool, reused: bool) -> bool {
    reused && body_is_empty && method.is_safe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_token_is_worth_another_try() {
        assert!(is_better(Generation(8), Generation(7)));
        assert!(!is_better(Generation(7), Generation(7)));
        assert!(!is_better(Generation(6), Generation(7)));
        assert!(is_refused(StatusCode::UNAUTHORIZED) && !is_refused(StatusCode::FORBIDDEN));
    }

    #[test]
    fn nothing_is_sent_twice_that_may_have_had_an_effect() {
        assert!(may_resend(&Method::GET, true, true));
        assert!(!may_resend(&Method::GET, true, false));
        assert!(!may_resend(&Method::GET, false, true));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::CONNECT] {
            assert!(!may_resend(&method, true, true), "{method}");
        }
    }
}
