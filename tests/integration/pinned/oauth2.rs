//! The dialect `oauth2` on a scripted host: what is sent, and what each response means.

use super::{
    host::{Host, Script, compressed, response},
    upstream::{send, url},
};
use protocol::{
    Call, Client, ClientAuth, Credentials, Endpoints, Expiry, Extra, GrantType, IssuedToken, Login,
    NewRefreshToken, Origin, Revocation, Secret, SecretVersion, Timestamp, TokenKind, TokenResponse, Unclear,
    UpstreamReply, UpstreamUrl, testing,
};
use std::time::Duration;

fn endpoints(host: &Host) -> Endpoints {
    let endpoint = |path| UpstreamUrl::parse_endpoint(&format!("{}{path}", host.url())).expect("a URL");
    Endpoints {
        token_url: endpoint("/o/token/"),
        revoke_url: Some(endpoint("/o/revoke")),
        probe_url: Some(endpoint("/me?limit=1")),
    }
}

/// A client whose name and secret are not safe in a header or a form.
fn client(auth: ClientAuth) -> Client {
    testing::client("the id:1", "c&d é", auth)
}

fn login_of(host: &Host, client: Client, grant: GrantType) -> Call {
    let (version, origin) = (SecretVersion("v1".to_owned()), Origin::OAuth2(endpoints(host)));
    Call::Login(Credentials { version, origin, login: Login::OAuth2 { client, grant } })
}

fn login(host: &Host) -> Call {
    login_of(host, client(ClientAuth::Basic), GrantType::ClientCredentials)
}

fn issued(host: &Host, token: &str) -> IssuedToken {
    IssuedToken { token: Secret::from(token), origin: Origin::OAuth2(endpoints(host)) }
}

fn refresh(host: &Host) -> Call {
    Call::Refresh(issued(host, "old refresh"), Some(client(ClientAuth::Basic)))
}

fn revoke(host: &Host, kind: TokenKind) -> Call {
    let IssuedToken { token, origin } = issued(host, "old");
    let revocation = Revocation { token, kind, origin, expires_at: Timestamp::from_millis(1), retry: None };
    Call::Revoke(revocation, Some(client(ClientAuth::Post)))
}

fn respond(status: u16, body: &str) -> Script {
    Script::Respond(response(status, &[], body))
}

async fn reply(call: impl Fn(&Host) -> Call, script: Script) -> UpstreamReply {
    let host = Host::start([script]).await;
    let call = call(&host);
    let reply = send(&host, &call).await;
    assert_eq!(host.requests().len(), 1, "{}", call.name());
    reply
}

mod requests {
    use super::*;

    /// Line, body and two headers of the one request.
    async fn sent(call: impl Fn(&Host) -> Call) -> [String; 4] {
        let host = Host::start([respond(500, "")]).await;
        send(&host, &call(&host)).await;
        let request = host.requests().pop().expect("a request");
        let header = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
        assert_eq!(header("accept-encoding"), "identity");
        [request.line.clone(), request.body.clone(), header("authorization"), header("accept")]
    }

    #[tokio::test]
    async fn basic_authentication_encodes_id_and_secret_first() {
        let [line, body, authorization, accept] = sent(login).await;
        assert_eq!(line, "POST /o/token/ HTTP/1.1");
        assert_eq!((body.as_str(), accept.as_str()), ("grant_type=client_credentials", "application/json"));
        // the+id%3A1:c%26d+%C3%A9
        assert_eq!(authorization, "Basic dGhlK2lkJTNBMTpjJTI2ZCslQzMlQTk=");
    }

    #[tokio::test]
    async fn a_form_has_grant_scope_parameters_and_client() {
        let client = Client {
            scope: Some("a b".to_owned()),
            parameters: vec![("audience".to_owned(), Secret::from("x&y"))],
            ..client(ClientAuth::Post)
        };
        let (username, password) = (Secret::from("a+b@example.invalid"), Secret::from("p&w"));
        let grant = GrantType::Password { username, password };
        let [_, body, authorization, _] = sent(|host| login_of(host, client.clone(), grant.clone())).await;
        assert_eq!(
            body,
            "grant_type=password&username=a%2Bb%40example.invalid&password=p%26w&scope=a+b&audience=x%26y\
             &client_id=the+id%3A1&client_secret=c%26d+%C3%A9"
        );
        assert_eq!(authorization, "");
    }

    #[tokio::test]
    async fn a_client_without_a_secret_is_named_in_the_form() {
        for auth in [ClientAuth::Basic, ClientAuth::Post] {
            let client = Client { secret: None, ..client(auth) };
            let [_, body, authorization, _] =
                sent(|host| Call::Refresh(issued(host, "r"), Some(client.clone()))).await;
            assert_eq!(body, "grant_type=refresh_token&refresh_token=r&client_id=the+id%3A1");
            assert_eq!(authorization, "");
        }
    }

    #[tokio::test]
    async fn a_revocation_has_token_hint_and_client() {
        for (kind, hint) in [(TokenKind::Access, "access_token"), (TokenKind::Refresh, "refresh_token")] {
            let [line, body, ..] = sent(|host| revoke(host, kind)).await;
            assert_eq!(line, "POST /o/revoke HTTP/1.1");
            let client = "client_id=the+id%3A1&client_secret=c%26d+%C3%A9";
            assert_eq!(body, format!("token=old&token_type_hint={hint}&{client}"));
        }
    }

    #[tokio::test]
    async fn a_probe_gets_its_url_with_the_token() {
        let [line, body, authorization, _] = sent(|host| Call::Probe(issued(host, "old"))).await;
        assert_eq!([line, body, authorization], ["GET /me?limit=1 HTTP/1.1", "", "Bearer old"]);
    }
}

mod responses {
    use super::*;

    const GRANT: &str = r#"{"access_token":"new","token_type":"bearer","expires_in":"3600","scope":"a",
        "refresh_token":"next","refresh_token_expires_in":"7200","api_domain":"https://x.example"}"#;

    #[tokio::test]
    async fn of_success_are_read_as_servers_write_them() {
        let client = Client { answer_fields: vec!["api_domain".to_owned()], ..client(ClientAuth::Basic) };
        let granted = UpstreamReply::Granted(TokenResponse {
            access_token: Secret::from("new"),
            refresh_token: NewRefreshToken::Token(Secret::from("next")),
            access_expiry: Expiry::In(Duration::from_secs(3600)),
            refresh_expiry: Expiry::In(Duration::from_secs(7200)),
            extra: Extra::parse(r#"{"api_domain":"https://x.example"}"#),
        });
        let login = |host: &Host| login_of(host, client.clone(), GrantType::ClientCredentials);
        let refresh = |host: &Host| Call::Refresh(issued(host, "r"), Some(client.clone()));
        assert_eq!(reply(login, respond(200, GRANT)).await, granted);
        assert_eq!(reply(refresh, respond(200, GRANT)).await, granted);
    }

    /// What a login and a refresh make of each refusal.
    #[tokio::test]
    async fn of_refusal_are_distinguished_by_code_then_status() {
        use UpstreamReply::{ClientRefused, RateLimited, Refused, Unauthorized};
        let unclear = || UpstreamReply::UNEXPECTED;
        for (status, code, of_login, of_refresh) in [
            (400, "invalid_grant", Unauthorized, Unauthorized),
            (403, "invalid_grant", Unauthorized, Unauthorized),
            (200, "invalid_grant", Unauthorized, Unauthorized),
            (401, "invalid_client", Unauthorized, ClientRefused),
            (400, "invalid_client", ClientRefused, ClientRefused),
            (200, "invalid_client", ClientRefused, ClientRefused),
            (400, "invalid_scope", ClientRefused, ClientRefused),
            (400, "unauthorized_client", ClientRefused, ClientRefused),
            (400, "invalid_request", ClientRefused, ClientRefused),
            (400, "slow_down", RateLimited(None), RateLimited(None)),
            (400, "too_many_requests", RateLimited(None), RateLimited(None)),
            (200, "rate_limit_exceeded", RateLimited(None), RateLimited(None)),
            (400, "temporarily_unavailable", unclear(), unclear()),
            (400, "", Refused, Refused),
            (401, "", Unauthorized, Refused),
            (403, "", Refused, ClientRefused),
            (404, "", Refused, Refused),
            (302, "invalid_grant", Refused, Refused),
            (429, "invalid_grant", RateLimited(None), RateLimited(None)),
            (500, "invalid_grant", unclear(), unclear()),
            (408, "invalid_client", unclear(), unclear()),
            (200, "", unclear(), unclear()),
            (200, "any", Refused, Refused),
        ] {
            let (json, form) = (format!(r#"{{"error":"{code}"}}"#), format!("error={code}"));
            let packings = if code.is_empty() { ["", ""] } else { [json.as_str(), &form] };
            for body in packings {
                for respond in [respond, |status, body: &_| compressed(status, &[], body)] {
                    assert_eq!(reply(login, respond(status, body)).await, of_login, "login {status} {body}");
                    let reply = reply(refresh, respond(status, body)).await;
                    assert_eq!(reply, of_refresh, "refresh {status} {body}");
                }
            }
        }
    }

    #[tokio::test]
    async fn that_limit_carry_the_pause() {
        let limited = |status| {
            let body = r#"{"error":"slow_down"}"#;
            Script::Respond(response(status, &[("retry-after", "7")], body))
        };
        for status in [400, 429] {
            let pause = Some(Duration::from_secs(7));
            assert_eq!(reply(refresh, limited(status)).await, UpstreamReply::RateLimited(pause), "{status}");
        }
        let unclear =
            UpstreamReply::Unclear(Unclear::Unexpected { retry_after: Some(Duration::from_secs(7)) });
        assert_eq!(reply(refresh, limited(503)).await, unclear);
    }

    #[tokio::test]
    async fn of_a_revocation_and_a_probe() {
        let revoke = |host: &Host| revoke(host, TokenKind::Refresh);
        for (status, body, expected) in [
            (200, "", UpstreamReply::Revoked),
            (401, r#"{"error":"invalid_client"}"#, UpstreamReply::ClientRefused),
            (400, r#"{"error":"unsupported_token_type"}"#, UpstreamReply::Refused),
            (503, "", UpstreamReply::UNEXPECTED),
        ] {
            assert_eq!(reply(revoke, respond(status, body)).await, expected, "{status}");
        }
        let probe = |host: &Host| Call::Probe(issued(host, "old"));
        for (status, expected) in [
            (200, UpstreamReply::Alive),
            (401, UpstreamReply::Unauthorized),
            (403, UpstreamReply::UNEXPECTED),
            (404, UpstreamReply::UNEXPECTED),
            (429, UpstreamReply::RateLimited(None)),
        ] {
            assert_eq!(reply(probe, respond(status, "")).await, expected, "{status}");
        }
    }
}

#[tokio::test]
async fn a_token_is_sent_nowhere_without_its_url_or_client() {
    let host = Host::start([]).await;
    let bare = Endpoints { token_url: url(&host.url()), revoke_url: None, probe_url: None };
    let origin = Origin::OAuth2(bare);
    let token = IssuedToken { token: Secret::from("old"), origin: origin.clone() };
    let expires_at = Timestamp::from_millis(1);
    let revocation =
        Revocation { token: token.token.clone(), kind: TokenKind::Access, origin, expires_at, retry: None };
    let client = Some(client(ClientAuth::Basic));
    for call in [Call::Revoke(revocation, client), Call::Refresh(token.clone(), None), Call::Probe(token)] {
        assert_eq!(send(&host, &call).await, UpstreamReply::NeverLeft, "{}", call.name());
    }
    assert_eq!(host.connections(), 0);
}
