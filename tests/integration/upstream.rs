//! The upstream's client: every response of the upstream, and the reply that the protocol gets.

use crate::{front::context, handler, items, ports, world, world_with};
use emulators::{
    World,
    convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Endpoint, Fault, Settings},
};
use lambda_runtime::LambdaEvent;
use protocol::{
    Call, Credentials, Expiry, IssuedToken, Login, NewRefreshToken, Origin, Revocation, Secret, TokenKind,
    TokenResponse, Unclear, UpstreamReply, UpstreamUrl,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use token_broker::{
    outbound::{HttpUpstream, SystemClock},
    ports::{Clock, Upstream},
};

fn login() -> Call {
    let login =
        Login::Convirza { email: Secret::from(DEFAULT_EMAIL), password: Secret::from(DEFAULT_PASSWORD) };
    Call::Login(Credentials { login, ..protocol::testing::credentials("v1") })
}

fn upstream_url(text: &str) -> UpstreamUrl {
    UpstreamUrl::parse(text).expect("a URL")
}

async fn reply_to(world: &World, fault: Fault) -> UpstreamReply {
    world.convirza.faults().set(Endpoint::Login, fault, Some(1));
    ports(world).upstream.send(&login()).await
}

fn granted(reply: UpstreamReply) -> TokenResponse {
    match reply {
        UpstreamReply::Granted(granted) => granted,
        other => panic!("not a pair: {other:?}"),
    }
}

fn refresh_token(granted: &TokenResponse) -> Secret {
    match &granted.refresh_token {
        NewRefreshToken::Token(token) => token.clone(),
        other => panic!("not a refresh token: {other:?}"),
    }
}

#[tokio::test]
async fn login_refresh_and_revoke_get_their_replies() {
    let world = world().await;
    let upstream = ports(&world).upstream;
    let first = granted(upstream.send(&login()).await);
    let in_a_week = SystemClock.now().plus(Duration::from_secs(7 * 86_400));
    match first.access_expiry {
        Expiry::At(at) => assert!(in_a_week.since(at) < Duration::from_secs(60), "{at:?}"),
        other => panic!("the documented expiry is an instant: {other:?}"),
    }
    let refresh =
        Call::Refresh(IssuedToken { token: refresh_token(&first), origin: Origin::default() }, None);
    let second = granted(upstream.send(&refresh).await);
    assert_ne!(second.access_token, first.access_token);
    assert_eq!(upstream.send(&refresh).await, UpstreamReply::Unauthorized, "a refresh token is single-use");
    let successor = refresh_token(&second);
    for (token, kind) in [(second.access_token, TokenKind::Access), (successor.clone(), TokenKind::Refresh)] {
        assert_eq!(
            upstream
                .send(&Call::Revoke(
                    Revocation {
                        token,
                        kind,
                        origin: Origin::default(),
                        expires_at: SystemClock.now(),
                        retry: None
                    },
                    None
                ))
                .await,
            UpstreamReply::Revoked
        );
    }
    let revoked = Call::Refresh(IssuedToken { token: successor, origin: Origin::default() }, None);
    assert_eq!(upstream.send(&revoked).await, UpstreamReply::Unauthorized);
}

#[tokio::test]
async fn every_fault_has_its_reply() {
    let world = world_with(Settings { login_limit_per_minute: 20, ..Settings::default() }).await;
    assert_eq!(reply_to(&world, Fault::WrongPassword).await, UpstreamReply::Unauthorized);
    for refusal in
        [Fault::BadRequest, Fault::Forbidden, Fault::Unprocessable, Fault::Redirect, Fault::ErrorInSuccess]
    {
        assert_eq!(reply_to(&world, refusal.clone()).await, UpstreamReply::Refused, "{refusal:?}");
    }
    for unclear in [Fault::ServerError, Fault::BadGatewayHtml, Fault::HtmlSuccess] {
        assert_eq!(reply_to(&world, unclear.clone()).await, UpstreamReply::UNEXPECTED, "{unclear:?}");
    }
    for lost in [Fault::LostReply, Fault::Reset, Fault::Hang] {
        let reply = reply_to(&world, lost.clone()).await;
        assert_eq!(reply, UpstreamReply::Unclear(Unclear::NoResponse), "{lost:?}");
    }
    let observed = world.convirza.observed();
    assert_eq!(observed.redirects_followed, 0);
    assert_eq!(observed.logins_arrived, 12, "each login was sent once");
}

#[tokio::test]
async fn unusual_responses_are_read() {
    let world = world().await;
    for (fault, expiry) in [
        (Fault::ExpiryMissing, Expiry::Unknown),
        (Fault::ExpiryGarbage, Expiry::Unknown),
        (Fault::ExpirySeconds, Expiry::In(Duration::from_secs(3600))),
        (Fault::ExpirySecondsText, Expiry::In(Duration::from_secs(3600))),
    ] {
        assert_eq!(granted(reply_to(&world, fault.clone()).await).access_expiry, expiry, "{fault:?}");
    }
    let now = SystemClock.now();
    for fault in [Fault::ExpiryPast, Fault::ExpiryMicroseconds] {
        let granted = granted(reply_to(&world, fault.clone()).await);
        assert_eq!(granted.access_expires_at(now), None, "{fault:?}");
    }
    for (fault, refresh_token) in [
        (Fault::NoRefreshToken, NewRefreshToken::Absent),
        (Fault::BadRefreshToken, NewRefreshToken::Unusable),
        (Fault::Truncated, NewRefreshToken::Unusable),
    ] {
        assert_eq!(granted(reply_to(&world, fault.clone()).await).refresh_token, refresh_token, "{fault:?}");
    }

    let upstream = ports(&world).upstream;
    let kept = refresh_token(&granted(upstream.send(&login()).await));
    let refresh = Call::Refresh(IssuedToken { token: kept.clone(), origin: Origin::default() }, None);
    world.convirza.faults().set(Endpoint::Refresh, Fault::KeepsRefreshToken, Some(2));
    for _ in 0..2 {
        assert_eq!(
            granted(upstream.send(&refresh).await).refresh_token,
            NewRefreshToken::Token(kept.clone())
        );
    }
}

#[tokio::test]
async fn tokens_in_an_untidy_response_are_taken() {
    let world = world().await;
    for fault in [Fault::Untidy, Fault::Huge] {
        let granted = granted(reply_to(&world, fault.clone()).await);
        let probe =
            Call::Probe(IssuedToken { token: granted.access_token.clone(), origin: Origin::default() });
        let upstream = ports(&world).upstream;
        assert_eq!(upstream.send(&probe).await, UpstreamReply::Alive, "{fault:?}");
        let refresh = IssuedToken { token: refresh_token(&granted), origin: Origin::default() };
        self::granted(upstream.send(&Call::Refresh(refresh, None)).await);
    }
}

#[tokio::test]
async fn a_refresh_whose_successor_is_lost_grants_its_access_token() {
    let world = world().await;
    let handler = handler(&world);
    let invoke = |payload| handler.handle(LambdaEvent::new(payload, context()));
    let first = Value::from(invoke(json!({})).await.expect("a token"));
    world.convirza.faults().set(Endpoint::Refresh, Fault::BadRefreshToken, Some(1));
    let second = Value::from(invoke(json!({"action": "refresh"})).await.expect("a token"));
    assert_ne!(first["access_token"], second["access_token"]);
    let stored = items::get(&world, items::DEFAULT_ACCOUNT).await;
    assert_eq!(stored["pair"]["M"]["access_token"]["S"], second["access_token"]);
    assert_eq!(stored["pair"]["M"]["refresh_token_state"]["S"], "consumed", "it may have been used");
    assert_eq!(world.convirza.observed().refreshes, 1);
}

#[tokio::test]
async fn retry_after_is_read_in_every_form() {
    let world = world().await;
    for (text, seconds) in [(Some("7"), Some(7)), (Some("soon"), None), (None, None)] {
        let retry_after = text.map(str::to_owned);
        let pause = seconds.map(Duration::from_secs);
        let limited = Fault::RateLimited { retry_after: retry_after.clone() };
        assert_eq!(reply_to(&world, limited).await, UpstreamReply::RateLimited(pause), "{text:?}");
        let expected = UpstreamReply::Unclear(Unclear::Unexpected { retry_after: pause });
        assert_eq!(reply_to(&world, Fault::Unavailable { retry_after }).await, expected, "{text:?}");
    }
    let date = Fault::RateLimited { retry_after: Some("Fri, 31 Dec 2100 23:59:59 GMT".to_owned()) };
    match reply_to(&world, date).await {
        UpstreamReply::RateLimited(Some(pause)) => assert!(pause > Duration::from_secs(70 * 365 * 86_400)),
        other => panic!("not a pause: {other:?}"),
    }
    let past = Fault::RateLimited { retry_after: Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()) };
    assert_eq!(reply_to(&world, past).await, UpstreamReply::RateLimited(Some(Duration::ZERO)));
}

#[tokio::test]
async fn a_request_that_never_left_is_distinguished() {
    // Bound without listening, so that no other process can take the port.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let closed = format!("http://{}", socket.local_addr().expect("an address"));
    // This port speaks no TLS: the handshake fails before the request is sent.
    let world = world().await;
    let no_tls = world.convirza.url().replace("http://", "https://");
    for url in [closed, no_tls, "https://no-such-host.invalid".to_owned()] {
        let base = upstream_url(&url);
        let timeout = Duration::from_secs(5);
        let upstream = HttpUpstream::new(
            crate::tls(),
            base.clone(),
            base,
            "token".to_owned(),
            timeout,
            Arc::new(SystemClock),
        );
        assert_eq!(upstream.send(&login()).await, UpstreamReply::NeverLeft, "{url}");
    }
    assert_eq!(world.convirza.observed().logins_arrived, 0);
}

#[tokio::test]
async fn an_account_may_have_its_own_oauth_host() {
    let (world, other) = (world().await, world().await);
    let upstream = ports(&world).upstream;
    let Call::Login(credentials) = login() else { unreachable!("a login") };
    let elsewhere = Call::Login(Credentials {
        origin: protocol::testing::origin_at(Some(upstream_url(&other.convirza.url()))),
        ..credentials
    });
    granted(upstream.send(&elsewhere).await);
    assert_eq!((world.convirza.observed().logins_arrived, other.convirza.observed().logins_arrived), (0, 1));
}
