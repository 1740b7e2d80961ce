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
        // The version and the hosts remain those of the secret, so that the later checks are reached.
        let original = serde_json::from_str::<Value>(text).unwrap_or_default();
        for kept in [&[][..], &["dialect"], &["dialect", "oauth_url"], &["dialect", "oauth_url", "api_url"]] {
            let mut marked = value.clone();
            if let (Some(fields), Some(original)) = (marked.as_object_mut(), original.as_object()) {
                fields.extend(
                    kept.iter().filter_map(|name| Some(((*name).to_owned(), original.get(*name)?.clone()))),
                );
            }
            let shown = match parse(&marked.to_string()) {
                Ok(Credentials { login, .. }) => format!("{login:?}"),
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
    let (user, password) = match &credentials.login {
        Login::Convirza { email, password } => (email, password),
        Login::OAuth2 { grant: GrantType::Password { username, password }, .. } => (username, password),
        Login::OAuth2 { .. } => panic!("not with an email"),
    };
    assert_eq!(field("email"), Some(user.expose()));
    assert_eq!(field("password"), Some(password.expose()));
    assert!(!user.expose().is_empty() && !password.expose().is_empty());
    assert_eq!(credentials.client().is_some(), field("dialect") == Some("convirza-v2"));
    let Origin::Convirza { oauth_url, api_url, .. } = &credentials.origin else { panic!("not Convirza's") };
    for (name, url) in [("oauth_url", oauth_url), ("api_url", api_url)] {
        assert_eq!(value.get(name).is_some(), url.is_some(), "a URL is not dropped");
        if let Some(url) = url {
            let url = url::Url::parse(url.as_str()).expect("a URL");
            let host = (url.host_str().unwrap_or_default(), url.port());
            let known = [
                ("oauth.example", None),
                ("api.example", None),
                ("apicfa.convirza.com", None),
                ("further.example", Some(8443)),
            ];
            assert!(url.scheme() == "https" && known.contains(&host), "{url}");
            assert!(url.username().is_empty() && url.password().is_none() && url.query().is_none());
        }
    }
}
