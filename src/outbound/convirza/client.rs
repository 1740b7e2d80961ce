//! The HTTP client. Decisions rest on the HTTP status alone, because Convirza documents no error body.
//!
//! The client reads no body of a refusal, and nothing of a response but its status gets into a log. The one exception is
//! a success: its body may hold no token, and V2 reports some refusals there.

use super::{
    response::{self, GrantBody},
    retry_after::retry_after,
};
use crate::ports::{Clock, Upstream};
use async_trait::async_trait;
use protocol::{
    ApiVersion, Call, Credentials, GrantType, IssuedToken, Login, Origin, Revocation, Secret, TokenKind,
    Unclear, UpstreamReply, UpstreamUrl,
};
use reqwest::{RequestBuilder, Response, StatusCode, header, header::HeaderValue};
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use zeroize::Zeroizing;

/// Far above the size of any documented response of these endpoints. Of a longer one, only this much is read.
const LONGEST_BODY_BYTES: usize = 1024 * 1024;
const LONGEST_CONNECT: Duration = Duration::from_secs(2);
/// The OAuth host of V2, unless the secret names another.
pub(crate) const V2_OAUTH_URL: &str = "https://apicfa.convirza.com";

/// The client of the upstream.
pub struct Convirza {
    tls: ClientConfig,
    /// Built with the first call: most instances send none.
    http: OnceLock<reqwest::Client>,
    oauth_url: UpstreamUrl,
    api_url: UpstreamUrl,
    revoke_field: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Convirza {
    /// A client for the given V3 hosts. `revoke_field` carries the token in a revoke call. A call takes `timeout` at
    /// most, connect included.
    pub fn new(
        tls: ClientConfig,
        oauth_url: UpstreamUrl,
        api_url: UpstreamUrl,
        revoke_field: String,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tls, http: OnceLock::new(), oauth_url, api_url, revoke_field, timeout, clock }
    }

    fn http(&self) -> Result<&reqwest::Client, UpstreamReply> {
        if self.http.get().is_none() {
            let client = self.client().map_err(|error| failed(&error))?;
            // Another request may have been faster.
            let _ = self.http.set(client);
        }
        self.http.get().ok_or(UpstreamReply::NeverLeft)
    }

    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        let timeout = self.timeout;
        let builder = reqwest::Client::builder();
        // Limits how long the kernel keeps delivering a request that the client has given up. Lambda runs Linux;
        // other systems run the local stack only.
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(timeout);
        builder
            .tls_backend_preconfigured(self.tls.clone())
            .timeout(timeout)
            .connect_timeout(LONGEST_CONNECT.min(timeout / 2))
            .redirect(reqwest::redirect::Policy::none())
            // A retry that the protocol does not know of could send a refresh token twice.
            .retry(reqwest::retry::never())
            // Calls are days apart, so a pooled connection would be dead.
            .pool_max_idle_per_host(0)
            // The login limit counts by address, so a proxy would change which logins count together.
            .no_proxy()
            .user_agent(concat!("token-broker/", env!("CARGO_PKG_VERSION")))
            // A response whose head cannot be read would lose the pair in it.
            .http1_max_headers(1000)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            // Otherwise a host may compress the response.
            .default_headers(
                [(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))].into_iter().collect(),
            )
            .build()
    }

    async fn log_in(&self, credentials: &Credentials) -> Result<UpstreamReply, UpstreamReply> {
        let response = match &credentials.login {
            Login::Convirza { email, password } => {
                let body = json!({"email": email.expose(), "password": password.expose()});
                self.post_json(&credentials.origin, "/oauth/token", &body).await?
            }
            Login::OAuth2 { client, grant } => {
                let (Some(secret), GrantType::Password { username, password }) = (&client.secret, grant)
                else {
                    return Err(UpstreamReply::NeverLeft);
                };
                let body = form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", "password")
                    .append_pair("username", username.expose())
                    .append_pair("password", password.expose())
                    .append_pair("client_id", client.id.expose())
                    .append_pair("client_secret", secret.expose())
                    .finish();
                let request = self.http()?.post(self.oauth_url(&credentials.origin, "/oauth/token"));
                let form =
                    request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
                self.send_request(form).await?
            }
        };
        let body = read(response).await;
        if is_v2(&credentials.origin) && response::is_v2_error(&body) {
            // This is how V2 answers wrong credentials.
            return Err(UpstreamReply::Unauthorized);
        }
        granted(&body)
    }

    async fn refresh(&self, refresh_token: &Secret, origin: &Origin) -> Result<UpstreamReply, UpstreamReply> {
        let body = json!({"refresh_token": refresh_token.expose()});
        let response = self.post_json(origin, "/oauth/refresh-token", &body).await?;
        granted(&read(response).await)
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<UpstreamReply, UpstreamReply> {
        let kind = match revocation.kind {
            TokenKind::Access => "access",
            TokenKind::Refresh => "refresh",
        };
        let body = json!({&self.revoke_field: revocation.token.expose(), "token_type": kind});
        self.post_json(&revocation.origin, "/oauth/revoke-token", &body).await.map(|_| UpstreamReply::Revoked)
    }

    /// Requests the profile, or one user if that path does not exist: the cheapest requests that need a token. Only
    /// 401 means that the token is dead.
    async fn probe(&self, access_token: &Secret, origin: &Origin) -> Result<UpstreamReply, UpstreamReply> {
        let api_url = match origin {
            Origin::Convirza { api_url: Some(api_url), .. } => api_url,
            Origin::Convirza { api_version: ApiVersion::V3, oauth_url: None, .. } => &self.api_url,
            // V2 documents no such request, and the configured API refuses a token that another host issued.
            _ => return Err(UpstreamReply::NeverLeft),
        };
        for path in ["/auth/profile", "/users/list?limit=1"] {
            let request = self.http()?.get(format!("{api_url}{path}")).bearer_auth(access_token.expose());
            let response = request.send().await.map_err(|error| failed(&error))?;
            log_refusal(&response);
            match response.status() {
                status if status.is_success() => {
                    let refused = is_v2(origin) && response::is_v2_error(&read(response).await);
                    return if refused { Err(UpstreamReply::UNEXPECTED) } else { Ok(UpstreamReply::Alive) };
                }
                StatusCode::UNAUTHORIZED => return Err(UpstreamReply::Unauthorized),
                StatusCode::TOO_MANY_REQUESTS => {
                    return Err(UpstreamReply::RateLimited(self.pause(&response)));
                }
                StatusCode::NOT_FOUND => {}
                _ => return Err(UpstreamReply::UNEXPECTED),
            }
        }
        Err(UpstreamReply::UNEXPECTED)
    }

    fn oauth_url(&self, origin: &Origin, path: &str) -> String {
        let base = match origin {
            Origin::Convirza { oauth_url: Some(url), .. } => url.as_str(),
            Origin::Convirza { api_version: ApiVersion::V2, .. } => V2_OAUTH_URL,
            _ => self.oauth_url.as_str(),
        };
        format!("{base}{path}")
    }

    async fn post_json(&self, origin: &Origin, path: &str, body: &Value) -> Result<Response, UpstreamReply> {
        let request = self.http()?.post(self.oauth_url(origin, path));
        self.send_request(request.header(header::CONTENT_TYPE, "application/json").body(body.to_string()))
            .await
    }

    async fn send_request(&self, request: RequestBuilder) -> Result<Response, UpstreamReply> {
        let response = request.send().await.map_err(|error| failed(&error))?;
        log_refusal(&response);
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED => Err(UpstreamReply::Unauthorized),
            StatusCode::TOO_MANY_REQUESTS => Err(UpstreamReply::RateLimited(self.pause(&response))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(self.unclear(&response)),
            status if status.is_server_error() => Err(self.unclear(&response)),
            _ => Err(UpstreamReply::Refused),
        }
    }

    fn unclear(&self, response: &Response) -> UpstreamReply {
        UpstreamReply::Unclear(Unclear::Unexpected { retry_after: self.pause(response) })
    }

    fn pause(&self, response: &Response) -> Option<Duration> {
        retry_after(response.headers(), self.clock.now())
    }
}

#[async_trait]
impl Upstream for Convirza {
    async fn send(&self, call: &Call) -> UpstreamReply {
        let reply = match call {
            // The dialect `oauth2` is not spoken yet.
            Call::Login(Credentials { origin: Origin::OAuth2(_), .. })
            | Call::Refresh(IssuedToken { origin: Origin::OAuth2(_), .. }, _)
            | Call::Revoke(Revocation { origin: Origin::OAuth2(_), .. }, _)
            | Call::Probe(IssuedToken { origin: Origin::OAuth2(_), .. }) => Err(UpstreamReply::NeverLeft),
            Call::Login(credentials) => self.log_in(credentials).await,
            Call::Refresh(refresh, _) => self.refresh(&refresh.token, &refresh.origin).await,
            Call::Revoke(revocation, _) => self.revoke(revocation).await,
            Call::Probe(IssuedToken { token, origin }) => {
                // A probe sends up to two requests, which together may take as long as one call.
                let probe = tokio::time::timeout(self.timeout, self.probe(token, origin));
                probe.await.unwrap_or_else(|_| {
                    tracing::info!(cause = "timeout", "no response from the upstream");
                    Err(UpstreamReply::Unclear(Unclear::NoResponse))
                })
            }
        };
        reply.unwrap_or_else(|refusal| refusal)
    }
}

fn is_v2(origin: &Origin) -> bool {
    matches!(origin, Origin::Convirza { api_version: ApiVersion::V2, .. })
}

/// The protocol's replies do not tell a wrong path from an outage. The log does.
fn log_refusal(response: &Response) {
    if !response.status().is_success() {
        let (status, url) = (response.status().as_u16(), response.url().as_str());
        tracing::info!(status, url, "the upstream refused a request");
    }
}

/// The reply that stands for a request without a response.
fn failed(error: &reqwest::Error) -> UpstreamReply {
    let url = error.url().map_or("", |url| url.as_str());
    // Name resolution, connect and the TLS handshake all count as connect errors.
    let (cause, reply) = match (error.is_dns(), error.is_connect(), error.is_timeout()) {
        (true, _, _) => ("name resolution", UpstreamReply::NeverLeft),
        (_, true, true) => ("timeout of the connection", UpstreamReply::NeverLeft),
        (_, true, false) => ("connection or TLS", UpstreamReply::NeverLeft),
        (_, _, true) => ("timeout", UpstreamReply::Unclear(Unclear::NoResponse)),
        _ if error.is_builder() => ("request", UpstreamReply::NeverLeft),
        _ => ("broken off", UpstreamReply::Unclear(Unclear::NoResponse)),
    };
    tracing::info!(cause, url, "no response from the upstream");
    reply
}

fn unreadable(what: &'static str) -> UpstreamReply {
    tracing::info!(what, "unreadable response of the upstream");
    UpstreamReply::UNEXPECTED
}

fn granted(body: &[u8]) -> Result<UpstreamReply, UpstreamReply> {
    match response::parse_grant(body) {
        GrantBody::Granted(granted) => Ok(UpstreamReply::Granted(granted)),
        GrantBody::NoToken => {
            tracing::info!("the upstream's success holds no token");
            Err(UpstreamReply::Refused)
        }
        GrantBody::Unreadable => Err(unreadable("no access token")),
    }
}

/// The body of a response, as far as it arrives: what is missing may stand behind the tokens.
async fn read(mut response: Response) -> Zeroizing<Vec<u8>> {
    let stated = response.content_length().and_then(|length| usize::try_from(length).ok());
    // Reserved at once: growing the buffer would leave copies of the tokens in freed memory.
    let mut body =
        Zeroizing::new(Vec::with_capacity(stated.unwrap_or(LONGEST_BODY_BYTES).min(LONGEST_BODY_BYTES)));
    let what = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = LONGEST_BODY_BYTES - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    break "too long";
                }
            }
            Ok(None) => return body,
            Err(error) if error.is_timeout() => break "timeout",
            Err(_) => break "broken off",
        }
    };
    tracing::info!(what, "unreadable response of the upstream");
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::{Roots, SystemClock};

    #[test]
    fn each_api_version_has_its_own_oauth_host() {
        let url = |text| UpstreamUrl::parse(text).unwrap();
        let (oauth_url, api_url) = (url("https://oauth.example"), url("https://api.example"));
        let (tls, timeout) = (Roots::default().tls_config().unwrap(), Duration::from_secs(1));
        let upstream =
            Convirza::new(tls, oauth_url, api_url, "token".to_owned(), timeout, Arc::new(SystemClock));
        let v3 = Origin::default();
        let v2 = |oauth_url| Origin::Convirza { api_version: ApiVersion::V2, oauth_url, api_url: None };
        let (v2, own) = (v2(None), v2(Some(url("https://own.example"))));
        assert_eq!(upstream.oauth_url(&v3, "/path"), "https://oauth.example/path");
        assert_eq!(upstream.oauth_url(&v2, "/path"), "https://apicfa.convirza.com/path");
        assert_eq!(upstream.oauth_url(&own, "/path"), "https://own.example/path");
    }
}
