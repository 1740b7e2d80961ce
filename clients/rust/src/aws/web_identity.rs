//! Credentials for a web identity, as EKS gives one to each pod: one unsigned call to STS.

use super::{Keys, metadata::instant};
use crate::http::{BaseUrl, HttpClient, collect, full};
use contract::Secret;
use http::{HeaderValue, Method, Request, header};
use std::{fmt::Write as _, path::Path};

const LONGEST_ANSWER: usize = 64 * 1024;

/// Exchanges the token in the file for keys of the role.
pub(super) async fn assume(
    http: &HttpClient,
    endpoint: &str,
    token_file: &Path,
    role_arn: &str,
    session: &str,
) -> Result<Keys, String> {
    let url = BaseUrl::parse(endpoint).map_err(|error| format!("the STS endpoint is {error}"))?;
    let token =
        std::fs::read_to_string(token_file).map_err(|error| format!("{}: {error}", token_file.display()))?;
    let mut request = Request::new(full(form(role_arn, session, token.trim())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{}/", url.path).parse().map_err(|_| "the STS endpoint is malformed")?;
    let content = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, content);
    let response = http.send(&url.target, request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = collect(response.into_body(), LONGEST_ANSWER).await.map_err(|error| error.to_string())?;
    let body = String::from_utf8(body).map_err(|_| "STS answered no text".to_owned())?;
    if status.is_success() {
        keys(&body).ok_or_else(|| "STS answered without credentials".to_owned())
    } else {
        Err(format!(
            "STS refused the web identity: HTTP {status} {}",
            element(&body, "Code").unwrap_or_default()
        ))
    }
}

fn form(role_arn: &str, session: &str, token: &str) -> String {
    let mut form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15".to_owned();
    for (name, value) in [("RoleArn", role_arn), ("RoleSessionName", session), ("WebIdentityToken", token)] {
        let _ = write!(form, "&{name}=");
        for byte in value.bytes() {
            let _ = if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                write!(form, "{}", char::from(byte))
            } else {
                write!(form, "%{byte:02X}")
            };
        }
    }
    form
}

fn keys(xml: &str) -> Option<Keys> {
    Some(Keys {
        access_key_id: element(xml, "AccessKeyId")?.to_owned(),
        secret_access_key: Secret::from(element(xml, "SecretAccessKey")?),
        session_token: element(xml, "SessionToken").map(Secret::from),
        expires_at: instant(element(xml, "Expiration")?).ok(),
    })
}

/// The text of the first element of this name. None of the texts that are needed here is ever escaped.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let rest = xml.split_once(&format!("<{name}>"))?.1;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_sts_holds_keys() {
        let xml = "<R><Credentials><SessionToken>t/+=</SessionToken><SecretAccessKey>s</SecretAccessKey>\
                   <Expiration>2026-04-06T12:34:56Z</Expiration><AccessKeyId>id</AccessKeyId></Credentials></R>";
        let keys = keys(xml).unwrap();
        assert_eq!((keys.access_key_id.as_str(), keys.session_token), ("id", Some(Secret::from("t/+="))));
        assert!(keys.expires_at.is_some());
        assert_eq!(element("<Code>ExpiredToken</Code>", "Code"), Some("ExpiredToken"));
    }

    #[test]
    fn the_form_is_escaped() {
        assert!(
            form("arn:aws:iam::1:role/x", "s", "a.b").ends_with(
                "&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&RoleSessionName=s&WebIdentityToken=a.b"
            )
        );
    }
}
