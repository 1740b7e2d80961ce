//! The JSON of a secret.

use crate::{MARK, append};
use protocol::{Credentials, GrantType, Login, Origin, SecretVersion, UpstreamUrl};
use serde_json::Value;
use token_broker::outbound::{UpstreamHosts, parse_secret};

/// Checks one secret.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let value = serde_json::from_str::<Value>(text).ok();
    if let Ok(credentials) = parse(text) {
        check_accepted(&credentials, &value.clone().expect("a secret is JSON"));
    }
    if let Some(mut value) = value {
        append(&mut value, MARK);
        // The version and the hosts stay as they are, so that the later checks are reached.
        let original = serde_json::from_str::<Value>(text).unwrap_or_default();
        for kept in [
            &[][..],
            &["dialect"],
            &["dialect", "oauth_url"],
            &["dialect", "oauth_url", "api_url"],
            &["dialect", "token_url", "revoke_url", "probe_url"],
            &["dialect", "token_url", "revoke_url", "probe_url", "grant", "client_auth"],
        ] {
            let mut marked = value.clone();
            if let (Some(fields), Some(original)) = (marked.as_object_mut(), original.as_object()) {
                fields.extend(
                    kept.iter().filter_map(|name| Some(((*name).to_owned(), original.get(*name)?.clone()))),
                );
            }
            let shown = match parse(&marked.to_string()) {
                Ok(Credentials { mut login, .. }) => {
                    if let Login::OAuth2 { client, .. } = &mut login {
                        // Not confidential.
                        (client.scope, client.answer_fields) = (None, Vec::new());
                        client.parameters.iter_mut().for_each(|(name, _)| name.clear());
                    }
                    format!("{login:?}")
                }
                Err(error) => error,
            };
            assert!(!shown.contains(MARK), "{shown}");
        }
    }
}

fn parse(text: &str) -> Result<Credentials, String> {
    let url = |text| UpstreamUrl::parse(text).expect("a URL");
    let further = vec!["further.example:8443".to_owned()];
    let hosts = UpstreamHosts::new(&url("https://oauth.example"), &url("https://api.example"), further);
    parse_secret(text, SecretVersion("v1".to_owned()), &hosts)
}

fn check_accepted(credentials: &Credentials, value: &Value) {
    let field = |name: &str| value[name].as_str();
    let texts = match &credentials.login {
        Login::Convirza { email, password } => vec![("email", email), ("password", password)],
        Login::OAuth2 { client, grant } => {
            let user = if field("dialect") == Some("oauth2") { "username" } else { "email" };
            let grant = match grant {
                GrantType::Password { username, password } => vec![(user, username), ("password", password)],
                GrantType::RefreshToken { bootstrap } => vec![("refresh_token", bootstrap)],
                GrantType::ClientCredentials => Vec::new(),
            };
            let secret = client.secret.iter().map(|secret| ("client_secret", secret));
            [("client_id", &client.id)].into_iter().chain(secret).chain(grant).collect()
        }
    };
    for (name, text) in texts {
        assert_eq!(field(name), Some(text.expose()), "{name}");
        assert!(!text.expose().is_empty(), "{name}");
    }
    let dialect = field("dialect").unwrap_or("convirza-v3");
    assert_eq!(credentials.client().is_some(), dialect != "convirza-v3");
    assert_eq!(matches!(credentials.origin, Origin::OAuth2(_)), dialect == "oauth2");
    let names = match credentials.origin {
        Origin::Convirza { .. } => &["oauth_url", "api_url"][..],
        Origin::OAuth2(_) => &["token_url", "revoke_url", "probe_url"],
    };
    let count = names.iter().filter(|name| value.get(**name).is_some()).count();
    assert_eq!(credentials.origin.urls().count(), count, "a URL is not dropped");
    for url in credentials.origin.urls() {
        let url = url::Url::parse(url.as_str()).expect("a URL");
        let host = (url.host_str().unwrap_or_default(), url.port());
        let known = [
            ("oauth.example", None),
            ("api.example", None),
            ("apicfa.convirza.com", None),
            ("further.example", Some(8443)),
        ];
        assert!(url.scheme() == "https" && known.contains(&host), "{url}");
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        assert!(dialect == "oauth2" || url.query().is_none(), "{url}");
    }
}
