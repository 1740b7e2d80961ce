//! Credentials and Region from services on link-local addresses: of the container and of the instance.

use super::{Keys, plan::Authorization};
use crate::http::{BaseUrl, HttpClient, collect, empty};
use contract::{Secret, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

const LONGEST_ANSWER: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// The keys of a task, a pod or a restored snapshot.
pub(super) async fn container(
    http: &HttpClient,
    server: &BaseUrl,
    path: &str,
    authorization: Option<&Authorization>,
) -> Result<Keys, String> {
    let mut headers = HeaderMap::new();
    let token = match authorization {
        None => None,
        Some(Authorization::Token(token)) => Some(token.clone()),
        Some(Authorization::File(file)) => {
            let text =
                std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            Some(Secret::from(text.trim()))
        }
    };
    if let Some(token) = token {
        let value =
            HeaderValue::from_str(token.expose()).map_err(|_| "the authorization token is malformed")?;
        headers.insert(header::AUTHORIZATION, value);
    }
    keys(&fetch(http, server, Method::GET, path, headers).await?)
}

/// The keys of the instance's role.
pub(super) async fn instance(http: &HttpClient, endpoint: &BaseUrl) -> Result<Keys, String> {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let session = session(http, endpoint).await?;
    let role = fetch(http, endpoint, Method::GET, ROLES, session.clone()).await?;
    let role = std::str::from_utf8(&role).unwrap_or_default().lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        return Err("the instance has no role".to_owned());
    }
    keys(&fetch(http, endpoint, Method::GET, &format!("{ROLES}{role}"), session).await?)
}

/// The instance's Region.
pub(crate) async fn region(http: &HttpClient, environment: &super::Environment) -> Option<String> {
    let endpoint = super::plan::instance_endpoint(environment)?;
    let session = session(http, &endpoint).await.ok()?;
    let region =
        fetch(http, &endpoint, Method::GET, "/latest/meta-data/placement/region", session).await.ok()?;
    String::from_utf8(region.to_vec()).ok()
}

async fn session(http: &HttpClient, endpoint: &BaseUrl) -> Result<HeaderMap, String> {
    let ttl = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    let headers = HeaderMap::from_iter([(ttl, HeaderValue::from_static("300"))]);
    let token = fetch(http, endpoint, Method::PUT, "/latest/api/token", headers).await?;
    let token = HeaderValue::from_bytes(&token).map_err(|_| "the metadata session token is malformed")?;
    Ok(HeaderMap::from_iter([(HeaderName::from_static("x-aws-ec2-metadata-token"), token)]))
}

async fn fetch(
    http: &HttpClient,
    url: &BaseUrl,
    method: Method,
    path: &str,
    headers: HeaderMap,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut request = Request::new(empty());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| "the metadata path is malformed".to_owned())?;
    *request.headers_mut() = headers;
    let response = http.send(&url.target, request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = collect(response.into_body(), LONGEST_ANSWER).await.map_err(|error| error.to_string())?;
    if status.is_success() {
        Ok(Zeroizing::new(body))
    } else {
        Err(format!("{} answered HTTP {status} for credentials", url.target))
    }
}

fn keys(body: &[u8]) -> Result<Keys, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_quotes_the_body| "the metadata service's answer holds no credentials".to_owned())?;
    let expires_at = answer.expiration.as_deref().map(instant).transpose()?;
    Ok(Keys {
        access_key_id: answer.access_key_id,
        secret_access_key: Secret::new(answer.secret_access_key),
        session_token: answer.token.map(Secret::new),
        expires_at,
    })
}

/// Parses RFC 3339.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "an expiry cannot be read".to_owned())?;
    Ok(Timestamp::from_millis(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_their_expiry() {
        let body = br#"{"Code":"Success","AccessKeyId":"id","SecretAccessKey":"s","Token":"t",
                        "Expiration":"2026-04-06T12:34:56Z"}"#;
        let keys = keys(body).unwrap();
        assert_eq!(keys.expires_at, Some(Timestamp::from_millis(1_775_478_896_000)));
        assert_eq!(keys.session_token, Some(Secret::from("t")));
    }

    #[test]
    fn an_unreadable_answer_is_not_repeated() {
        let error = keys(br#"{"SecretAccessKey":"tell-tale"}"#).unwrap_err();
        assert!(!error.contains("tell-tale"), "{error}");
    }
}
