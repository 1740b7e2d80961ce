//! The HTTP client. Only the status of a response gets into a log.

use super::{
    body::{Body, LONGEST_BODY_BYTES},
    retry_after::retry_after,
};
use crate::ports::{Clock, Upstream};
use async_trait::async_trait;
use protocol::{Call, IssuedToken, Login, Origin, Unclear, UpstreamReply, UpstreamUrl};
use reqwest::{RequestBuilder, Response, StatusCode, header, header::HeaderValue};
use rustls::ClientConfig;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use zeroize::Zeroizing;

const LONGEST_CONNECT: Duration = Duration::from_secs(2);

/// The client of the upstream.
pub struct HttpUpstream {
    tls: ClientConfig,
    /// Built for the first call, because most instances send none.
    http: OnceLock<reqwest::Client>,
    pub(super) oauth_url: UpstreamUrl,
    pub(super) api_url: UpstreamUrl,
    pub(super) revoke_field: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl HttpUpstream {
    /// A client with these hosts for Convirza V3. `revoke_field` carries the token in a revoke call. A call takes at
    /// most `timeout`, connect included.
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

    pub(super) fn http(&self) -> Result<&reqwest::Client, UpstreamReply> {
        if self.http.get().is_none() {
            let client = builder(self.tls.clone(), self.timeout).build().map_err(|error| failed(&error))?;
            // Another request may have been faster.
            let _ = self.http.set(client);
        }
        self.http.get().ok_or(UpstreamReply::NeverLeft)
    }

    /// Sends a request once. A refusal is a response too.
    pub(super) async fn send_once(&self, request: RequestBuilder) -> Result<Response, UpstreamReply> {
        let response = request.send().await.map_err(|error| failed(&error))?;
        log_refusal(&response);
        Ok(response)
    }

    /// The reply if the status alone determines it; `None` for a success, and for a refusal that the body may explain.
    pub(super) fn by_status(&self, response: &Response) -> Option<UpstreamReply> {
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Some(UpstreamReply::RateLimited(self.pause(response))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Some(self.unclear(response)),
            status if status.is_server_error() => Some(self.unclear(response)),
            _ => None,
        }
    }

    pub(super) fn unclear(&self, response: &Response) -> UpstreamReply {
        UpstreamReply::Unclear(Unclear::Unexpected { retry_after: self.pause(response) })
    }

    pub(super) fn pause(&self, response: &Response) -> Option<Duration> {
        retry_after(response.headers(), self.clock.present().steady)
    }
}

/// The settings of each call's client.
pub(in crate::outbound) fn builder(tls: ClientConfig, timeout: Duration) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    // Limits how long the kernel keeps delivering a request that the client has given up. Lambda runs Linux;
    // other systems run the local stack only.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(timeout);
    builder
        .tls_backend_preconfigured(tls)
        .timeout(timeout)
        .connect_timeout(LONGEST_CONNECT.min(timeout / 2))
        .redirect(reqwest::redirect::Policy::none())
        // A retry that the protocol does not control could send a refresh token twice.
        .retry(reqwest::retry::never())
        // Calls are days apart, so a pooled connection would be dead.
        .pool_max_idle_per_host(0)
        // The login limit counts by address, so a proxy would change which logins count together.
        .no_proxy()
        .user_agent(concat!("token-broker/", env!("CARGO_PKG_VERSION")))
        // An unreadable head would lose the pair in the response.
        .http1_max_headers(1000)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        // Otherwise a host may compress the response.
        .default_headers(
            [(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))].into_iter().collect(),
        )
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn send(&self, call: &Call) -> UpstreamReply {
        let reply = match call {
            Call::Login(credentials) => match (&credentials.origin, &credentials.login) {
                (origin, Login::Convirza { email, password }) => self.log_in(origin, email, password).await,
                (Origin::OAuth2(endpoints), Login::OAuth2 { client, grant }) => {
                    self.log_in_by_oauth2(endpoints, client, grant).await
                }
                (origin, Login::OAuth2 { client, grant }) => self.log_in_v2(origin, client, grant).await,
            },
            Call::Refresh(IssuedToken { token, origin: Origin::OAuth2(endpoints) }, Some(client)) => {
                self.refresh_by_oauth2(endpoints, client, token).await
            }
            Call::Refresh(IssuedToken { origin: Origin::OAuth2(_), .. }, None) => {
                Err(UpstreamReply::NeverLeft)
            }
            Call::Refresh(refresh, _) => self.refresh(&refresh.token, &refresh.origin).await,
            Call::Revoke(revocation, client) => match (&revocation.origin, client) {
                (Origin::OAuth2(endpoints), client) => {
                    self.revoke_by_oauth2(endpoints, client.as_ref(), revocation).await
                }
                (Origin::Convirza { .. }, _) => self.revoke(revocation).await,
            },
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

/// The protocol's replies do not distinguish a wrong path from an outage, but the log does.
fn log_refusal(response: &Response) {
    if !response.status().is_success() {
        let (status, url) = (response.status().as_u16(), loggable(Some(response.url())));
        tracing::info!(status, url, "the upstream refused a request");
    }
}

/// A URL without its query, in which a secret might have put a key.
fn loggable(url: Option<&reqwest::Url>) -> String {
    url.map(|url| url.as_str().split('?').next().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// The reply for a request without a response.
pub(super) fn failed(error: &reqwest::Error) -> UpstreamReply {
    let url = loggable(error.url());
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

/// The body of a response, as far as it arrives: the missing part may come after the tokens.
pub(super) async fn read(mut response: Response) -> Body {
    let stated = response.content_length().and_then(|length| usize::try_from(length).ok());
    // Reserved at once: growing the buffer would leave copies of the tokens in freed memory.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(stated.unwrap_or(LONGEST_BODY_BYTES).min(LONGEST_BODY_BYTES)));
    let what = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = LONGEST_BODY_BYTES - bytes.len();
                bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    break "too long";
                }
            }
            Ok(None) => return Body::new(&bytes, true),
            Err(error) if error.is_timeout() => break "timeout",
            Err(_) => break "broken off",
        }
    };
    tracing::info!(what, "unreadable response from the upstream");
    Body::new(&bytes, false)
}
