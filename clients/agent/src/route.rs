//! Routes by method and path. Pure.

use contract::{AccountName, agent::TOKEN_PATH};
use http::Method;

/// Where a request leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/ping`
    Ping,
    /// `/readyz`
    Ready,
    /// [`TOKEN_PATH`]
    Token,
    /// `/oauth/token`
    OAuth,
    /// `/proxy/{account}{rest}`
    Proxy {
        /// Whose token the request gets.
        account: AccountName,
        /// Begins with a slash, or is empty.
        rest: &'a str,
    },
    /// The first segment after `/proxy/` is not an account.
    NoAccount,
    /// The path needs another method.
    Wrong {
        /// The methods of the path.
        allow: &'static str,
    },
    /// No route has this path.
    Unknown,
}

/// Routes by method and undecoded path.
pub fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let only = |allowed: &Method, allow, route| {
        if method == allowed { route } else { Route::Wrong { allow } }
    };
    let probe = |route| match *method {
        Method::GET | Method::HEAD => route,
        _ => Route::Wrong { allow: "GET, HEAD" },
    };
    match path {
        "/ping" => probe(Route::Ping),
        "/readyz" => probe(Route::Ready),
        TOKEN_PATH => only(&Method::GET, "GET", Route::Token),
        "/oauth/token" => only(&Method::POST, "POST", Route::OAuth),
        _ => match path.strip_prefix("/proxy/") {
            Some(rest) => {
                let (account, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                AccountName::parse(account).map_or(Route::NoAccount, |account| Route::Proxy { account, rest })
            }
            None => Route::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_method() {
        assert_eq!(route(&Method::GET, "/ping"), Route::Ping);
        assert_eq!(route(&Method::GET, "/readyz"), Route::Ready);
        assert_eq!(route(&Method::HEAD, "/ping"), Route::Ping);
        assert_eq!(route(&Method::HEAD, "/readyz"), Route::Ready);
        assert_eq!(route(&Method::POST, "/ping"), Route::Wrong { allow: "GET, HEAD" });
        assert_eq!(route(&Method::GET, "/v1/token"), Route::Token);
        assert_eq!(route(&Method::POST, "/oauth/token"), Route::OAuth);
        assert_eq!(route(&Method::POST, "/v1/token"), Route::Wrong { allow: "GET" });
        assert_eq!(route(&Method::GET, "/oauth/token"), Route::Wrong { allow: "POST" });
        for path in ["/", "/v1/token/", "/proxy", "//proxy/default/x", "/PROXY/default/x"] {
            assert_eq!(route(&Method::GET, path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn the_proxy_takes_any_method_and_a_literal_account() {
        let to = |path| match route(&Method::DELETE, path) {
            Route::Proxy { account, rest } => Some((account.to_string(), rest)),
            _ => None,
        };
        assert_eq!(to("/proxy/emea/v3/calls"), Some(("emea".to_owned(), "/v3/calls")));
        assert_eq!(to("/proxy/emea"), Some(("emea".to_owned(), "")));
        assert_eq!(to("/proxy/emea//x"), Some(("emea".to_owned(), "//x")));
        for path in
            ["/proxy/", "/proxy//x", "/proxy/../x", "/proxy/EMEA/x", "/proxy/%65mea/x", "/proxy/a@b/x"]
        {
            assert_eq!(route(&Method::GET, path), Route::NoAccount, "{path}");
        }
    }
}
