//! The requests to the upstream, and how each response is read.

use super::host::{Host, Received, Script, compressed, response};
use protocol::{
    ApiVersion, Call, ClientAuth, Credentials, Expiry, GrantType, IssuedToken, Login, NewRefreshToken,
    Origin, Revocation, Secret, SecretVersion, Timestamp, TokenKind, TokenResponse, Unclear, UpstreamReply,
    UpstreamUrl,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use token_broker::{
    outbound::{HttpUpstream, SystemClock},
    ports::Upstream,
};

const GRANT: &str = r#"{"access_token":"new-access","refresh_token":"new-refresh","expires_in":3600,"refresh_expires_in":7200}"#;
const V2_ERROR: &str = r#"{"result":"error","err":"any"}"#;

pub(super) fn url(text: &str) -> UpstreamUrl {
    UpstreamUrl::parse(text).expect("a URL")
}

/// A client whose OAuth host is the host, and whose API is below `/v3` of it.
pub(super) fn client(base: &str, timeout: Duration) -> HttpUpstream {
    let (oauth_url, api_url) = (url(base), url(&format!("{base}/v3")));
    HttpUpstream::new(
        crate::tls(),
        oauth_url,
        api_url,
        "the_token".to_owned(),
        timeout,
        Arc::new(SystemClock),
    )
}

pub(super) async fn send(host: &Host, call: &Call) -> UpstreamReply {
    client(&host.url(), Duration::from_secs(60)).send(call).await
}

fn v3() -> Origin {
    Origin::default()
}

/// V2, with its OAuth host and its API on the host.
fn v2(host: &Host) -> Origin {
    Origin::Convirza {
        api_version: ApiVersion::V2,
        oauth_url: Some(url(&format!("{}/v2", host.url()))),
        api_url: Some(url(&format!("{}/api", host.url()))),
    }
}

pub(super) fn login(origin: Origin) -> Call {
    let (email, password) = (Secret::from("a+b@example.invalid"), Secret::from("p\"=&%"));
    let login = match origin {
        Origin::Convirza { api_version: ApiVersion::V3, .. } => Login::Convirza { email, password },
        _ => Login::OAuth2 {
            client: protocol::testing::client("the id", "c&d", ClientAuth::Post),
            grant: GrantType::Password { username: email, password },
        },
    };
    Call::Login(Credentials { version: SecretVersion("v1".to_owned()), origin, login })
}

pub(super) fn refresh() -> Call {
    Call::Refresh(IssuedToken { token: Secret::from("old-refresh"), origin: v3() }, None)
}

pub(super) fn revoke(kind: TokenKind) -> Call {
    let expires_at = Timestamp::from_millis(1);
    Call::Revoke(Revocation { token: Secret::from("old"), kind, origin: v3(), expires_at, retry: None }, None)
}

pub(super) fn probe(origin: Origin) -> Call {
    Call::Probe(IssuedToken { token: Secret::from("old-access"), origin })
}

pub(super) fn calls() -> [Call; 4] {
    [login(v3()), refresh(), revoke(TokenKind::Access), probe(v3())]
}

fn respond(status: u16, headers: &[(&str, &str)], body: &str) -> Script {
    Script::Respond(response(status, headers, body))
}

fn granted() -> UpstreamReply {
    UpstreamReply::Granted(TokenResponse {
        access_token: Secret::from("new-access"),
        refresh_token: NewRefreshToken::Token(Secret::from("new-refresh")),
        access_expiry: Expiry::In(Duration::from_secs(3600)),
        refresh_expiry: Expiry::In(Duration::from_secs(7200)),
        extra: None,
    })
}

mod requests;

mod statuses {
    use super::*;

    const SERVER_ERRORS: [u16; 5] = [500, 501, 502, 503, 504];
    const UNFINISHED: [u16; 2] = [408, 425];
    const REFUSALS: [u16; 11] = [300, 304, 400, 403, 404, 405, 409, 410, 415, 422, 499];
    const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

    /// The reply to the only response: a second request would hang.
    async fn reply(call: &Call, script: Script) -> UpstreamReply {
        let host = Host::start([script]).await;
        let reply = send(&host, call).await;
        assert_eq!(host.requests().len(), 1, "{}", call.name());
        reply
    }

    #[tokio::test]
    async fn of_success_grant_a_pair_or_end_a_token() {
        for status in [200, 201, 299] {
            for call in [login(v3()), refresh()] {
                assert_eq!(reply(&call, respond(status, &[], GRANT)).await, granted(), "{status}");
            }
            for kind in [TokenKind::Access, TokenKind::Refresh] {
                assert_eq!(reply(&revoke(kind), respond(status, &[], "any")).await, UpstreamReply::Revoked);
            }
            assert_eq!(reply(&probe(v3()), respond(status, &[], "any")).await, UpstreamReply::Alive);
        }
    }

    #[tokio::test]
    async fn of_success_without_a_token_are_refusals() {
        let no_token = r#"{"refresh_token":"r"}"#;
        for call in [login(v3()), refresh()] {
            for body in ["[]", "{}", no_token, V2_ERROR, r#"{"error":"invalid_grant"}"#] {
                assert_eq!(reply(&call, respond(200, &[], body)).await, UpstreamReply::Refused, "{body}");
            }
        }
    }

    #[tokio::test]
    async fn of_success_that_cannot_be_read_are_unclear() {
        for call in [login(v3()), refresh()] {
            for body in ["", "<html>", r#"{"access_token":"new"#, r#"{"error":"#] {
                assert_eq!(reply(&call, respond(200, &[], body)).await, UpstreamReply::UNEXPECTED, "{body}");
            }
        }
    }

    #[tokio::test]
    async fn of_401_reject_the_credentials_or_the_token() {
        for call in calls() {
            let reply = reply(&call, respond(401, &[], GRANT)).await;
            assert_eq!(reply, UpstreamReply::Unauthorized, "{}", call.name());
        }
    }

    #[tokio::test]
    async fn of_other_4xx_and_3xx_are_refusals_except_of_a_probe() {
        for call in [login(v3()), refresh(), revoke(TokenKind::Access)] {
            assert_all(&call, &REFUSALS, &UpstreamReply::Refused).await;
        }
        // A probe sends another request after 404.
        let refusals: Vec<_> = REFUSALS.into_iter().filter(|status| *status != 404).collect();
        assert_all(&probe(v3()), &refusals, &UpstreamReply::UNEXPECTED).await;
    }

    #[tokio::test]
    async fn of_429_carry_the_pause_if_there_is_one() {
        for call in calls() {
            for (headers, pause) in [
                (&[("retry-after", "7")][..], Some(Duration::from_secs(7))),
                (&[("retry-after", "soon")], None),
                (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(Duration::ZERO)),
                (&[], None),
            ] {
                let reply = reply(&call, respond(429, headers, GRANT)).await;
                assert_eq!(reply, UpstreamReply::RateLimited(pause), "{} {headers:?}", call.name());
            }
        }
    }

    #[tokio::test]
    async fn that_say_nothing_are_unclear() {
        for call in calls() {
            for statuses in [&SERVER_ERRORS[..], &UNFINISHED] {
                assert_all(&call, statuses, &UpstreamReply::UNEXPECTED).await;
            }
        }
    }

    /// Each status leads to this reply. A second request would hang.
    async fn assert_all(call: &Call, statuses: &[u16], expected: &UpstreamReply) {
        let host = Host::start(statuses.iter().map(|status| respond(*status, &[], GRANT))).await;
        // One client, because a new one takes a while.
        let client = client(&host.url(), Duration::from_secs(60));
        for (before, status) in statuses.iter().enumerate() {
            assert_eq!(client.send(call).await, *expected, "{} {status}", call.name());
            assert_eq!(host.requests().len(), before + 1, "{} {status}", call.name());
        }
    }

    #[tokio::test]
    async fn that_ask_for_a_pause_carry_it() {
        for status in [408, 503] {
            for call in [login(v3()), refresh(), revoke(TokenKind::Access)] {
                let reply = reply(&call, respond(status, &[("retry-after", "600")], "")).await;
                let retry_after = Some(Duration::from_secs(600));
                assert_eq!(reply, UpstreamReply::Unclear(Unclear::Unexpected { retry_after }), "{status}");
            }
        }
    }

    #[tokio::test]
    async fn that_redirect_are_not_followed() {
        let elsewhere = Host::start((0..20).map(|_| respond(200, &[], GRANT))).await;
        let location = format!("{}/oauth/token", elsewhere.url());
        for call in calls() {
            let redirects = REDIRECTS.map(|status| respond(status, &[("location", &location)], ""));
            let host = Host::start(redirects).await;
            let client = client(&host.url(), Duration::from_secs(60));
            let is_probe = matches!(call, Call::Probe(_));
            let expected = if is_probe { UpstreamReply::UNEXPECTED } else { UpstreamReply::Refused };
            for status in REDIRECTS {
                assert_eq!(client.send(&call).await, expected, "{} {status}", call.name());
            }
            assert_eq!((host.requests().len(), elsewhere.connections()), (5, 0), "{}", call.name());
        }
    }

    #[tokio::test]
    async fn of_the_second_probe_count_like_the_first() {
        for (status, expected) in [
            (200, UpstreamReply::Alive),
            (401, UpstreamReply::Unauthorized),
            (403, UpstreamReply::UNEXPECTED),
            (404, UpstreamReply::UNEXPECTED),
            (429, UpstreamReply::RateLimited(None)),
            (500, UpstreamReply::UNEXPECTED),
        ] {
            let host = Host::start([respond(404, &[], ""), respond(status, &[], "")]).await;
            assert_eq!(send(&host, &probe(v3())).await, expected, "{status}");
            assert_eq!(host.requests().len(), 2, "{status}");
        }
    }
}

mod v2 {
    use super::*;

    async fn reply(call: impl FnOnce(&Host) -> Call, body: &str) -> UpstreamReply {
        let host = Host::start([respond(200, &[], body)]).await;
        let call = call(&host);
        send(&host, &call).await
    }

    #[tokio::test]
    async fn reports_wrong_credentials_in_the_body() {
        let login = |host: &Host| login(v2(host));
        assert_eq!(reply(login, V2_ERROR).await, UpstreamReply::Unauthorized);
        assert_eq!(reply(login, GRANT).await, granted());
        assert_eq!(reply(login, "<html>").await, UpstreamReply::UNEXPECTED);
    }

    #[tokio::test]
    async fn never_proves_a_token_alive_by_an_error_body() {
        let probe = |host: &Host| probe(v2(host));
        assert_eq!(reply(probe, V2_ERROR).await, UpstreamReply::UNEXPECTED);
        assert_eq!(reply(probe, r#"{"result":"success"}"#).await, UpstreamReply::Alive);
    }
}

mod heads {
    use super::*;

    #[tokio::test]
    async fn lose_no_pair_in_any_form() {
        let many = (0..200).fold(String::new(), |text, number| format!("{text}x-{number}: any\r\n"));
        for odd in
            [many.as_str(), "no header\r\n", "x-folded: any\r\n thing\r\n", "x-blank : any\r\n", "x-é: é\r\n"]
        {
            let text = response(200, &[], GRANT).replacen("\r\n", &format!("\r\n{odd}"), 1);
            let host = Host::start([Script::Respond(text)]).await;
            assert_eq!(send(&host, &login(v3())).await, granted(), "{odd}");
        }
    }
}

mod bodies {
    use super::*;

    const LIMIT: usize = 1024 * 1024;

    #[tokio::test]
    async fn are_read_up_to_one_mib() {
        let before = LIMIT - GRANT.len();
        // With one more byte, the end of the object is missing after the tokens.
        for (blanks, expected) in
            [(before, granted()), (before + 1, granted()), (LIMIT, UpstreamReply::UNEXPECTED)]
        {
            for call in [login(v3()), refresh()] {
                let body = format!("{}{GRANT}", " ".repeat(blanks));
                let host = Host::start([respond(200, &[], &body)]).await;
                assert_eq!(send(&host, &call).await, expected, "{} {blanks}", call.name());
            }
        }
    }

    #[tokio::test]
    async fn are_decompressed_whatever_the_header_says() {
        let gzip = &[("content-encoding", "gzip")][..];
        for call in [login(v3()), refresh()] {
            for script in
                [compressed(200, gzip, GRANT), compressed(200, &[], GRANT), respond(200, gzip, GRANT)]
            {
                let host = Host::start([script]).await;
                assert_eq!(send(&host, &call).await, granted(), "{}", call.name());
            }
            let host = Host::start([compressed(200, gzip, r#"{"error":"invalid_grant"}"#)]).await;
            assert_eq!(send(&host, &call).await, UpstreamReply::Refused, "{}", call.name());
        }
        let host = Host::start([compressed(200, gzip, V2_ERROR)]).await;
        assert_eq!(send(&host, &login(v2(&host))).await, UpstreamReply::Unauthorized);
    }

    #[tokio::test]
    async fn of_forms_are_known_to_be_cut_off() {
        let form = "access_token=new-access&expires_in=3600";
        let cut = response(200, &[], form).replace("content-length: ", "content-length: 9");
        for (text, expected) in
            [(response(200, &[], form), NewRefreshToken::Absent), (cut, NewRefreshToken::Unusable)]
        {
            let host = Host::start([Script::Respond(text), Script::Close]).await;
            let reply = client(&host.url(), Duration::from_millis(200)).send(&login(v3())).await;
            let UpstreamReply::Granted(TokenResponse { refresh_token, .. }) = reply else {
                panic!("{reply:?}")
            };
            assert_eq!(refresh_token, expected);
        }
    }

    #[tokio::test]
    async fn that_break_off_after_the_tokens_grant_them() {
        let cut = |text: &str| {
            let whole = response(200, &[], text);
            Script::Respond(whole.replace("content-length: ", "connection: close\r\ncontent-length: 9"))
        };
        for (text, expected) in [(GRANT, granted()), (r#"{"access_token":"new"#, UpstreamReply::UNEXPECTED)] {
            for call in [login(v3()), refresh()] {
                let host = Host::start([cut(text), Script::Close]).await;
                let client = client(&host.url(), Duration::from_millis(200));
                assert_eq!(client.send(&call).await, expected, "{} {text}", call.name());
            }
        }
    }
}
