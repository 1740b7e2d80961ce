//! The JSON of an account's secret.

use super::UpstreamHosts;
use protocol::{
    ApiVersion, Client, ClientAuth, Credentials, Endpoints, GrantType, InvalidUrl, Login, Origin, Secret,
    SecretVersion, UpstreamUrl,
};
use serde_json::{Map, Value};
use std::time::Duration;

const DAY_SECONDS: u64 = 86_400;
/// The parameters that the broker sends itself.
const OWN_PARAMETERS: [&str; 7] =
    ["grant_type", "client_id", "client_secret", "username", "password", "refresh_token", "scope"];
/// What never leaves the broker under `extra`.
pub(super) const NOT_FOR_CALLERS: [&str; 6] =
    ["access_token", "refresh_token", "frontend_token", "user", "client_secret", "password"];
const MOST_ANSWER_FIELDS: usize = 32;

/// Parses the JSON of a secret. An error names the missing or malformed field, and never its value.
///
/// # Errors
/// The first rule that the text breaks.
pub fn parse(text: &str, version: SecretVersion, hosts: &UpstreamHosts) -> Result<Credentials, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut fields: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| "it must be a JSON object".to_owned())?;
    // As Terraform's `jsonencode` writes a value that is not set.
    fields.retain(|_, value| !value.is_null());
    let mut fields = Fields { fields, hosts };
    let (origin, login) = match fields.fields.remove("dialect").as_ref().map(Value::as_str) {
        None | Some(Some("convirza-v3")) => convirza_v3(&mut fields)?,
        Some(Some("convirza-v2")) => convirza_v2(&mut fields)?,
        Some(Some("oauth2")) => oauth2(&mut fields)?,
        Some(_) => return Err("`dialect` must be convirza-v3, convirza-v2 or oauth2".to_owned()),
    };
    Ok(Credentials { version, origin, login })
}

fn convirza_v3(fields: &mut Fields<'_>) -> Result<(Origin, Login), String> {
    let origin = fields.convirza(ApiVersion::V3)?;
    let login = Login::Convirza { email: fields.text("email")?, password: fields.text("password")? };
    Ok((origin, login))
}

fn convirza_v2(fields: &mut Fields<'_>) -> Result<(Origin, Login), String> {
    let origin = fields.convirza(ApiVersion::V2)?;
    let (id, secret) = (fields.text("client_id")?, fields.text("client_secret")?);
    let client = Client { secret: Some(secret), auth: ClientAuth::Post, ..bare_client(id) };
    let grant = GrantType::Password { username: fields.text("email")?, password: fields.text("password")? };
    Ok((origin, Login::OAuth2 { client, grant }))
}

fn oauth2(fields: &mut Fields<'_>) -> Result<(Origin, Login), String> {
    let token_url = fields.endpoint("token_url")?.ok_or_else(|| missing("token_url"))?;
    let (revoke_url, probe_url) = (fields.endpoint("revoke_url")?, fields.endpoint("probe_url")?);
    let client = Client {
        secret: fields.optional_text("client_secret")?,
        auth: match fields.optional_text("client_auth")?.as_ref().map(Secret::expose) {
            None | Some("client_secret_basic") => ClientAuth::Basic,
            Some("client_secret_post") => ClientAuth::Post,
            Some(_) => {
                return Err("`client_auth` must be client_secret_basic or client_secret_post".to_owned());
            }
        },
        scope: fields.optional_text("scope")?.map(|scope| scope.expose().to_owned()),
        parameters: fields.parameters()?,
        answer_fields: fields.answer_fields()?,
        refresh_ahead: fields.seconds("refresh_ahead_seconds", 180 * DAY_SECONDS)?,
        resend_within: fields.seconds("resend_within_seconds", DAY_SECONDS)?.unwrap_or_default(),
        ..bare_client(fields.text("client_id")?)
    };
    let grant = match fields.text("grant")?.expose() {
        "client_credentials" => {
            client.secret.as_ref().ok_or_else(|| missing("client_secret"))?;
            GrantType::ClientCredentials
        }
        "password" => {
            GrantType::Password { username: fields.text("username")?, password: fields.text("password")? }
        }
        "refresh_token" => GrantType::RefreshToken { bootstrap: fields.text("refresh_token")? },
        _ => return Err("`grant` must be client_credentials, password or refresh_token".to_owned()),
    };
    Ok((Origin::OAuth2(Endpoints { token_url, revoke_url, probe_url }), Login::OAuth2 { client, grant }))
}

fn bare_client(id: Secret) -> Client {
    Client {
        id,
        secret: None,
        auth: ClientAuth::Basic,
        scope: None,
        parameters: Vec::new(),
        answer_fields: Vec::new(),
        refresh_ahead: None,
        resend_within: Duration::ZERO,
    }
}

/// The fields of a secret. Reading a field removes it.
struct Fields<'a> {
    fields: Map<String, Value>,
    hosts: &'a UpstreamHosts,
}

impl Fields<'_> {
    fn text(&mut self, name: &str) -> Result<Secret, String> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    fn optional_text(&mut self, name: &str) -> Result<Option<Secret>, String> {
        match self.fields.remove(name) {
            // From a file, perhaps. Sent like that, it would be a wrong password.
            Some(Value::String(text)) if text.contains(char::is_control) => {
                Err(format!("`{name}` must not contain a line end or another control character"))
            }
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(Secret::new(text))),
            Some(_) => Err(format!("`{name}` must be a non-empty string")),
            None => Ok(None),
        }
    }

    fn convirza(&mut self, api_version: ApiVersion) -> Result<Origin, String> {
        let oauth_url = self.url("oauth_url", UpstreamUrl::parse)?;
        let api_url = self.url("api_url", UpstreamUrl::parse)?;
        Ok(Origin::Convirza { api_version, oauth_url, api_url })
    }

    fn endpoint(&mut self, name: &str) -> Result<Option<UpstreamUrl>, String> {
        self.url(name, UpstreamUrl::parse_endpoint)
    }

    fn url(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<UpstreamUrl, InvalidUrl>,
    ) -> Result<Option<UpstreamUrl>, String> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| format!("`{name}` must be a string"))?;
        let url = parse(text).map_err(|error| format!("`{name}` {error}"))?;
        if !self.hosts.allow(&url) {
            return Err(format!(
                "`{name}` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS"
            ));
        }
        Ok(Some(url))
    }

    fn seconds(&mut self, name: &str, most: u64) -> Result<Option<Duration>, String> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        let seconds = contract::whole_number(&value).filter(|seconds| *seconds <= most);
        let seconds = seconds.ok_or_else(|| format!("`{name}` must be a whole number from 0 to {most}"))?;
        Ok(Some(Duration::from_secs(seconds)))
    }

    fn parameters(&mut self) -> Result<Vec<(String, Secret)>, String> {
        let rule = "`parameters` must be an object of strings, without those that the broker sends itself";
        let fields = match self.fields.remove("parameters") {
            None => return Ok(Vec::new()),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(rule.to_owned()),
        };
        let parameters = fields.into_iter().map(|(name, value)| match value {
            Value::String(text) if !OWN_PARAMETERS.contains(&name.as_str()) => Ok((name, Secret::new(text))),
            _ => Err(rule.to_owned()),
        });
        parameters.collect()
    }

    fn answer_fields(&mut self) -> Result<Vec<String>, String> {
        let rule = format!(
            "`answer_fields` must list at most {MOST_ANSWER_FIELDS} names, and none of a secret or the user"
        );
        let names = match self.fields.remove("answer_fields") {
            None => return Ok(Vec::new()),
            Some(Value::Array(names)) if names.len() <= MOST_ANSWER_FIELDS => names,
            Some(_) => return Err(rule),
        };
        let names = names.into_iter().map(|name| match name {
            Value::String(name) if !NOT_FOR_CALLERS.contains(&name.as_str()) => Ok(name),
            _ => Err(rule.clone()),
        });
        names.collect()
    }
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::testing;

    fn parsed(text: &str) -> Result<Credentials, String> {
        let url = UpstreamUrl::parse("https://oauth.example").unwrap();
        parse(text, SecretVersion("v1".to_owned()), &UpstreamHosts::new(&url, &url, vec![]))
    }

    #[test]
    fn a_secret_is_parsed() {
        let credentials = parsed(
            r#"{"email":"who@example.invalid","password":"p","dialect":"convirza-v3","oauth_url":"https://oauth.example/","note":"x"}"#,
        )
        .unwrap();
        let (email, password) = (Secret::from("who@example.invalid"), Secret::from("p"));
        assert_eq!(credentials.login, Login::Convirza { email, password });
        assert_eq!(credentials.origin, testing::origin_at(UpstreamUrl::parse("https://oauth.example").ok()));
    }

    #[test]
    fn a_bad_secret_names_the_field_and_never_its_value() {
        for (text, says) in [
            ("", "it must be a JSON object"),
            ("\"tell-tale\"", "it must be a JSON object"),
            ("{}", "`email` is missing"),
            (r#"{"email":"tell-tale"}"#, "`password` is missing"),
            (
                r#"{"email":"e","password":"tell-tale\n"}"#,
                "`password` must not contain a line end or another control character",
            ),
            (r#"{"email":"tell-tale","password":null}"#, "`password` is missing"),
            (r#"{"email":"tell-tale","password":7}"#, "`password` must be a non-empty string"),
            (r#"{"email":"","password":"tell-tale"}"#, "`email` must be a non-empty string"),
            (
                r#"{"email":"e","password":"p","dialect":"tell-tale"}"#,
                "`dialect` must be convirza-v3, convirza-v2 or oauth2",
            ),
            (r#"{"email":"e","password":"p","dialect":"convirza-v2"}"#, "`client_id` is missing"),
            (
                r#"{"email":"e","password":"p","oauth_url":"http://tell-tale.example"}"#,
                "`oauth_url` must be an https URL (http on loopback only) without credentials, query or fragment",
            ),
            (
                r#"{"email":"e","password":"p","api_url":"https://tell-tale.example"}"#,
                "`api_url` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error, says);
            assert!(!error.contains("tell-tale"));
        }
    }

    const BASE: &str = r#""dialect":"oauth2","token_url":"https://oauth.example/o/token/","client_id":"id""#;

    fn oauth2_secret(rest: &str) -> Result<(Endpoints, Client, GrantType), String> {
        let credentials = parsed(&format!("\u{feff}{{{BASE}{rest}}}"))?;
        match (credentials.origin, credentials.login) {
            (Origin::OAuth2(endpoints), Login::OAuth2 { client, grant }) => Ok((endpoints, client, grant)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_oauth2_secret_is_parsed() {
        let (endpoints, client, grant) = oauth2_secret(
            r#","grant":"client_credentials","client_secret":"s","scope":null,"parameters":null"#,
        )
        .unwrap();
        assert_eq!(endpoints.token_url.as_str(), "https://oauth.example/o/token/");
        assert_eq!((endpoints.revoke_url, endpoints.probe_url), (None, None));
        assert_eq!(client, testing::client("id", "s", ClientAuth::Basic));
        assert_eq!(grant, GrantType::ClientCredentials);

        let (endpoints, client, grant) = oauth2_secret(concat!(
            r#","grant":"password","username":"u","password":"p","client_auth":"client_secret_post","#,
            r#""revoke_url":"https://oauth.example/r","probe_url":"https://oauth.example/me?limit=1","#,
            r#""scope":"a b","parameters":{"audience":"x"},"answer_fields":["instance_url"],"#,
            r#""refresh_ahead_seconds":25,"resend_within_seconds":6.0E2"#
        ))
        .unwrap();
        assert_eq!(endpoints.probe_url.unwrap().as_str(), "https://oauth.example/me?limit=1");
        assert_eq!(endpoints.revoke_url.unwrap().as_str(), "https://oauth.example/r");
        let expected = Client {
            secret: None,
            scope: Some("a b".to_owned()),
            parameters: vec![("audience".to_owned(), Secret::from("x"))],
            answer_fields: vec!["instance_url".to_owned()],
            refresh_ahead: Some(Duration::from_secs(25)),
            resend_within: Duration::from_secs(600),
            ..testing::client("id", "", ClientAuth::Post)
        };
        assert_eq!(client, expected);
        let (username, password) = (Secret::from("u"), Secret::from("p"));
        assert_eq!(grant, GrantType::Password { username, password });

        let (.., grant) = oauth2_secret(r#","grant":"refresh_token","refresh_token":"start""#).unwrap();
        assert_eq!(grant, GrantType::RefreshToken { bootstrap: Secret::from("start") });
    }

    #[test]
    fn answer_fields_are_at_most_32() {
        let parsed = |count| {
            let names = serde_json::json!(vec!["name"; count]);
            oauth2_secret(&format!(
                r#","grant":"client_credentials","client_secret":"s","answer_fields":{names}"#
            ))
        };
        assert_eq!(parsed(32).unwrap().1.answer_fields.len(), 32);
        assert!(parsed(33).unwrap_err().contains("at most 32 names"));
    }

    #[test]
    fn a_bad_oauth2_secret_names_the_field() {
        let credentials = r#","grant":"client_credentials","client_secret":"tell-tale""#;
        for (rest, says) in [
            ("", "`grant` is missing"),
            (r#","grant":"tell-tale""#, "`grant` must be client_credentials, password or refresh_token"),
            (r#","grant":"client_credentials""#, "`client_secret` is missing"),
            (r#","grant":"password","password":"tell-tale""#, "`username` is missing"),
            (
                r#","grant":"password","client_auth":"tell-tale""#,
                "`client_auth` must be client_secret_basic or client_secret_post",
            ),
            (
                r#","revoke_url":"https://tell-tale.example/r""#,
                "`revoke_url` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS",
            ),
            (
                r#","probe_url":"https://tell-tale.example/""#,
                "`probe_url` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS",
            ),
            (
                r#","parameters":{"client_secret":"tell-tale"}"#,
                "`parameters` must be an object of strings, without those that the broker sends itself",
            ),
            (
                r#","answer_fields":["refresh_token"]"#,
                "`answer_fields` must list at most 32 names, and none of a secret or the user",
            ),
            (
                r#","refresh_ahead_seconds":"tell-tale""#,
                "`refresh_ahead_seconds` must be a whole number from 0 to 15552000",
            ),
            (
                r#","resend_within_seconds":86401"#,
                "`resend_within_seconds` must be a whole number from 0 to 86400",
            ),
        ] {
            let rest = if rest.contains("grant") || rest.is_empty() {
                rest.to_owned()
            } else {
                format!("{credentials}{rest}")
            };
            assert_eq!(oauth2_secret(&rest).unwrap_err(), says);
        }
        let elsewhere = r#"{"dialect":"oauth2","token_url":"https://tell-tale.example"}"#;
        assert!(parsed(elsewhere).unwrap_err().starts_with("`token_url` names a host"));
        assert_eq!(parsed(r#"{"dialect":"oauth2"}"#).unwrap_err(), "`token_url` is missing");
    }
}
