//! Convirza's own calls. Convirza documents no error body, so only the HTTP status decides, and the body of a refusal
//! is not read. The only exception is a success: its body may hold no token, and V2 reports some refusals there.

use super::{
    client::{HttpUpstream, read},
    oauth2,
    response::{has_field, parse_tokens, token_reply},
};
use protocol::{ApiVersion, Client, GrantType, Origin, Revocation, Secret, TokenKind, UpstreamReply};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};

/// How a token endpoint differs from RFC 6749.
pub(in crate::outbound) struct Deviation {
    /// Its host, unless the secret names another.
    pub(in crate::outbound) oauth_url: &'static str,
    token_path: &'static str,
    /// A field of a refusal, which may have the status of a success.
    refusal: (&'static str, &'static str),
}

/// Convirza V2: a password grant. It documents neither refreshing nor revoking.
pub(in crate::outbound) const V2: Deviation = Deviation {
    oauth_url: "https://apicfa.convirza.com",
    token_path: "/oauth/token",
    refusal: ("result", "error"),
};

impl HttpUpstream {
    pub(super) async fn log_in(
        &self,
        origin: &Origin,
        email: &Secret,
        password: &Secret,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let body = json!({"email": email.expose(), "password": password.expose()});
        let response = self.post_json(origin, "/oauth/token", &body).await?;
        token_reply(parse_tokens(&read(response).await, &[]))
    }

    pub(super) async fn log_in_v2(
        &self,
        origin: &Origin,
        client: &Client,
        grant: &GrantType,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let request = self.http()?.post(self.url(origin, V2.token_path));
        let response = self.send_request(oauth2::token_request(request, client, grant)).await?;
        let body = read(response).await;
        if has_field(&body, V2.refusal) {
            return Err(UpstreamReply::Unauthorized);
        }
        token_reply(parse_tokens(&body, &[]))
    }

    pub(super) async fn refresh(
        &self,
        refresh_token: &Secret,
        origin: &Origin,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let body = json!({"refresh_token": refresh_token.expose()});
        let response = self.post_json(origin, "/oauth/refresh-token", &body).await?;
        token_reply(parse_tokens(&read(response).await, &[]))
    }

    pub(super) async fn revoke(&self, revocation: &Revocation) -> Result<UpstreamReply, UpstreamReply> {
        let kind = match revocation.kind {
            TokenKind::Access => "access",
            TokenKind::Refresh => "refresh",
        };
        let body = json!({&self.revoke_field: revocation.token.expose(), "token_type": kind});
        self.post_json(&revocation.origin, "/oauth/revoke-token", &body).await.map(|_| UpstreamReply::Revoked)
    }

    /// Makes a request that needs a token. Only 401 means that the token is dead. At Convirza the cheapest such request
    /// is the profile, or one user if that path does not exist.
    pub(super) async fn probe(
        &self,
        access_token: &Secret,
        origin: &Origin,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let api_url = match origin {
            Origin::Convirza { api_url: Some(api_url), .. } => api_url,
            Origin::Convirza { api_version: ApiVersion::V3, oauth_url: None, .. } => &self.api_url,
            // V2 documents no such request, and the configured API refuses a token that another host issued.
            Origin::Convirza { .. } => return Err(UpstreamReply::NeverLeft),
            Origin::OAuth2(endpoints) => {
                let url = endpoints.probe_url.as_ref().ok_or(UpstreamReply::NeverLeft)?;
                let found = self.probe_at(url.as_str(), access_token).await?;
                return found.map(|_| UpstreamReply::Alive).ok_or(UpstreamReply::UNEXPECTED);
            }
        };
        for path in ["/auth/profile", "/users/list?limit=1"] {
            if let Some(response) = self.probe_at(&format!("{api_url}{path}"), access_token).await? {
                let is_v2 = matches!(origin, Origin::Convirza { api_version: ApiVersion::V2, .. });
                let refused = is_v2 && has_field(&read(response).await, V2.refusal);
                return if refused { Err(UpstreamReply::UNEXPECTED) } else { Ok(UpstreamReply::Alive) };
            }
        }
        Err(UpstreamReply::UNEXPECTED)
    }

    /// The response of a success, or `None` if the path does not exist.
    async fn probe_at(&self, url: &str, access_token: &Secret) -> Result<Option<Response>, UpstreamReply> {
        let response = self.send_once(self.http()?.get(url).bearer_auth(access_token.expose())).await?;
        match response.status() {
            status if status.is_success() => Ok(Some(response)),
            StatusCode::UNAUTHORIZED => Err(UpstreamReply::Unauthorized),
            StatusCode::TOO_MANY_REQUESTS => Err(UpstreamReply::RateLimited(self.pause(&response))),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(UpstreamReply::UNEXPECTED),
        }
    }

    fn url(&self, origin: &Origin, path: &str) -> String {
        let base = match origin {
            Origin::Convirza { oauth_url: Some(url), .. } => url.as_str(),
            Origin::Convirza { api_version: ApiVersion::V2, .. } => V2.oauth_url,
            _ => self.oauth_url.as_str(),
        };
        format!("{base}{path}")
    }

    async fn post_json(&self, origin: &Origin, path: &str, body: &Value) -> Result<Response, UpstreamReply> {
        let request = self.http()?.post(self.url(origin, path));
        self.send_request(request.header(header::CONTENT_TYPE, "application/json").body(body.to_string()))
            .await
    }

    /// The response of a success, or the reply for the status.
    async fn send_request(&self, request: RequestBuilder) -> Result<Response, UpstreamReply> {
        let response = self.send_once(request).await?;
        match (self.by_status(&response), response.status()) {
            (Some(reply), _) => Err(reply),
            (None, status) if status.is_success() => Ok(response),
            (None, StatusCode::UNAUTHORIZED) => Err(UpstreamReply::Unauthorized),
            (None, _) => Err(UpstreamReply::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::{Roots, SystemClock};
    use protocol::UpstreamUrl;
    use std::{sync::Arc, time::Duration};

    #[test]
    fn each_api_version_has_its_own_oauth_host() {
        let url = |text| UpstreamUrl::parse(text).unwrap();
        let (oauth_url, api_url) = (url("https://oauth.example"), url("https://api.example"));
        let (tls, timeout) = (Roots::default().tls_config().unwrap(), Duration::from_secs(1));
        let upstream =
            HttpUpstream::new(tls, oauth_url, api_url, "token".to_owned(), timeout, Arc::new(SystemClock));
        let v3 = Origin::default();
        let v2 = |oauth_url| Origin::Convirza { api_version: ApiVersion::V2, oauth_url, api_url: None };
        let (v2, own) = (v2(None), v2(Some(url("https://own.example"))));
        assert_eq!(upstream.url(&v3, "/path"), "https://oauth.example/path");
        assert_eq!(upstream.url(&v2, "/path"), "https://apicfa.convirza.com/path");
        assert_eq!(upstream.url(&own, "/path"), "https://own.example/path");
    }
}
