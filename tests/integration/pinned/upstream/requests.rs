//! What each call sends.

use super::*;

async fn sent(call: impl FnOnce(&Host) -> Call) -> (Host, Received) {
    let host = Host::start([respond(500, &[], "")]).await;
    let call = call(&host);
    send(&host, &call).await;
    let [request] = <[Received; 1]>::try_from(host.requests()).expect("one request");
    (host, request)
}

fn assert_headers(host: &Host, request: &Received, own: &[(&str, &str)]) {
    let length = request.body.len().to_string();
    let user_agent = concat!("token-broker/", env!("CARGO_PKG_VERSION"));
    let address = host.address().to_string();
    let mut expected = BTreeMap::from([
        ("accept", "*/*"),
        ("accept-encoding", "identity"),
        ("host", address.as_str()),
        ("user-agent", user_agent),
    ]);
    if !request.body.is_empty() {
        expected.insert("content-length", &length);
    }
    expected.extend(own.iter().copied());
    let actual: BTreeMap<_, _> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(actual, expected);
}

#[tokio::test]
async fn a_v3_login_is_json_with_email_and_password() {
    let (host, request) = sent(|_| login(v3())).await;
    assert_eq!(request.line, "POST /oauth/token HTTP/1.1");
    assert_eq!(request.body, r#"{"email":"a+b@example.invalid","password":"p\"=&%"}"#);
    assert_headers(&host, &request, &[("content-type", "application/json")]);
}

#[tokio::test]
async fn a_v2_login_is_a_form_with_client_credentials() {
    let (host, request) = sent(|host| login(v2(host))).await;
    assert_eq!(request.line, "POST /v2/oauth/token HTTP/1.1");
    assert_eq!(
        request.body,
        "grant_type=password&username=a%2Bb%40example.invalid&password=p%22%3D%26%25&client_id=the+id&client_secret=c%26d"
    );
    assert_headers(&host, &request, &[("content-type", "application/x-www-form-urlencoded")]);
}

#[tokio::test]
async fn a_refresh_carries_the_refresh_token_alone() {
    let (host, request) = sent(|_| refresh()).await;
    assert_eq!(request.line, "POST /oauth/refresh-token HTTP/1.1");
    assert_eq!(request.body, r#"{"refresh_token":"old-refresh"}"#);
    assert_headers(&host, &request, &[("content-type", "application/json")]);
}

#[tokio::test]
async fn a_revocation_uses_the_configured_field() {
    for (kind, name) in [(TokenKind::Access, "access"), (TokenKind::Refresh, "refresh")] {
        let (host, request) = sent(|_| revoke(kind)).await;
        assert_eq!(request.line, "POST /oauth/revoke-token HTTP/1.1");
        assert_eq!(request.body, format!(r#"{{"the_token":"old","token_type":"{name}"}}"#));
        assert_headers(&host, &request, &[("content-type", "application/json")]);
    }
}

#[tokio::test]
async fn a_probe_gets_the_profile() {
    let (host, request) = sent(|_| probe(v3())).await;
    assert_eq!(request.line, "GET /v3/auth/profile HTTP/1.1");
    assert_eq!(request.body, "");
    assert_headers(&host, &request, &[("authorization", "Bearer old-access")]);
}

#[tokio::test]
async fn a_probe_falls_back_to_one_user_after_404() {
    let host = Host::start([respond(404, &[], ""), respond(200, &[], "{}")]).await;
    assert_eq!(send(&host, &probe(v3())).await, UpstreamReply::Alive);
    let requests = host.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, ["GET /v3/auth/profile HTTP/1.1", "GET /v3/users/list?limit=1 HTTP/1.1"]);
    assert_headers(&host, &requests[1], &[("authorization", "Bearer old-access")]);
}

#[tokio::test]
async fn every_call_of_an_account_goes_to_its_own_hosts() {
    let (configured, own) = (Host::start([]).await, Host::start((0..4).map(|_| respond(500, &[], ""))).await);
    let origin = Origin::Convirza {
        api_version: ApiVersion::V3,
        oauth_url: Some(url(&format!("{}/own", own.url()))),
        api_url: Some(url(&format!("{}/api", own.url()))),
    };
    let mut all = calls();
    for call in &mut all {
        match call {
            Call::Login(credentials) => credentials.origin = origin.clone(),
            Call::Refresh(sent, _) | Call::Probe(sent) => sent.origin = origin.clone(),
            Call::Revoke(revocation, _) => revocation.origin = origin.clone(),
        }
        assert_eq!(send(&configured, call).await, UpstreamReply::UNEXPECTED);
    }
    let paths: Vec<_> = own.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        paths,
        [
            "POST /own/oauth/token HTTP/1.1",
            "POST /own/oauth/refresh-token HTTP/1.1",
            "POST /own/oauth/revoke-token HTTP/1.1",
            "GET /api/auth/profile HTTP/1.1",
        ]
    );
    assert_eq!(configured.connections(), 0);
}

#[tokio::test]
async fn a_token_is_not_probed_at_another_hosts_api() {
    let host = Host::start([]).await;
    let own = || Some(url("http://127.0.0.1:1"));
    for origin in [
        protocol::testing::origin_at(own()),
        Origin::Convirza { api_version: ApiVersion::V2, oauth_url: None, api_url: None },
        Origin::Convirza { api_version: ApiVersion::V2, oauth_url: own(), api_url: None },
    ] {
        assert_eq!(send(&host, &probe(origin)).await, UpstreamReply::NeverLeft);
    }
    assert_eq!(host.connections(), 0);
}
