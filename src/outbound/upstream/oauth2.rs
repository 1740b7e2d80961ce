//! OAuth 2.0: token requests (RFC 6749) and revocations (RFC 7009), and what servers do beyond them: an error in a
//! success, a refusal without a code, a limit without 429.

use super::{
    client::{HttpUpstream, read},
    oauth_error::{OAuthError, parse_error},
    response::{TokenBody, parse_tokens, token_reply},
};
use protocol::{
    Client, ClientAuth, Endpoints, GrantType, Revocation, Secret, TokenKind, Unclear, UpstreamReply,
};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use std::time::Duration;

/// The credentials of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presents {
    /// The stored credentials: 401 refuses them.
    Credentials,
    /// A token, which only `invalid_grant` declares dead.
    Token,
}

impl HttpUpstream {
    pub(super) async fn log_in_by_oauth2(
        &self,
        endpoints: &Endpoints,
        client: &Client,
        grant: &GrantType,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let request = self.http()?.post(endpoints.token_url.as_str());
        self.request_token(token_request(request, client, grant), client, Presents::Credentials).await
    }

    pub(super) async fn refresh_by_oauth2(
        &self,
        endpoints: &Endpoints,
        client: &Client,
        token: &Secret,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let grant = GrantType::RefreshToken { bootstrap: token.clone() };
        let request = self.http()?.post(endpoints.token_url.as_str());
        self.request_token(token_request(request, client, &grant), client, Presents::Token).await
    }

    pub(super) async fn revoke_by_oauth2(
        &self,
        endpoints: &Endpoints,
        client: Option<&Client>,
        revocation: &Revocation,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let (Some(url), Some(client)) = (&endpoints.revoke_url, client) else {
            return Err(UpstreamReply::NeverLeft);
        };
        let hint = match revocation.kind {
            TokenKind::Access => "access_token",
            TokenKind::Refresh => "refresh_token",
        };
        let form = [("token", revocation.token.expose()), ("token_type_hint", hint)];
        let response = self.send_once(authenticated(self.http()?.post(url.as_str()), client, &form)).await?;
        if response.status().is_success() {
            return Ok(UpstreamReply::Revoked);
        }
        Err(self.refusal(response, Presents::Token).await)
    }

    async fn request_token(
        &self,
        request: RequestBuilder,
        client: &Client,
        presents: Presents,
    ) -> Result<UpstreamReply, UpstreamReply> {
        let response = self.send_once(request.header(header::ACCEPT, "application/json")).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response, presents).await);
        }
        let (status, pause) = (response.status(), self.pause(&response));
        let body = read(response).await;
        match parse_tokens(&body, &client.answer_fields) {
            TokenBody::NoToken => Err(explained(parse_error(&body), status, presents, pause)),
            body => token_reply(body),
        }
    }

    /// The reply for a response that is not a success.
    async fn refusal(&self, response: Response, presents: Presents) -> UpstreamReply {
        if let Some(reply) = self.by_status(&response) {
            return reply;
        }
        let (status, pause) = (response.status(), self.pause(&response));
        let code = if status.is_client_error() { parse_error(&read(response).await) } else { None };
        explained(code, status, presents, pause)
    }
}

/// The reply for a refusal, by its code, or by its status if it has no known code.
fn explained(
    code: Option<OAuthError>,
    status: StatusCode,
    presents: Presents,
    pause: Option<Duration>,
) -> UpstreamReply {
    if let Some(code) = code {
        tracing::info!(code = code.name(), "the upstream explained its refusal");
    }
    match (code, status, presents) {
        (Some(OAuthError::Limited), ..) => UpstreamReply::RateLimited(pause),
        (Some(OAuthError::Unavailable), ..) => {
            UpstreamReply::Unclear(Unclear::Unexpected { retry_after: pause })
        }
        (Some(OAuthError::InvalidGrant), ..)
        | (Some(OAuthError::Client) | None, StatusCode::UNAUTHORIZED, Presents::Credentials) => {
            UpstreamReply::Unauthorized
        }
        (Some(OAuthError::Client), ..) | (None, StatusCode::FORBIDDEN, Presents::Token) => {
            UpstreamReply::ClientRefused
        }
        (None, ..) => UpstreamReply::Refused,
    }
}

pub(super) fn token_request(request: RequestBuilder, client: &Client, grant: &GrantType) -> RequestBuilder {
    let mut form = match grant {
        GrantType::ClientCredentials => vec![("grant_type", "client_credentials")],
        GrantType::Password { username, password } => {
            vec![("grant_type", "password"), ("username", username.expose()), ("password", password.expose())]
        }
        GrantType::RefreshToken { bootstrap } => {
            vec![("grant_type", "refresh_token"), ("refresh_token", bootstrap.expose())]
        }
    };
    form.extend(client.scope.iter().map(|scope| ("scope", scope.as_str())));
    form.extend(client.parameters.iter().map(|(name, value)| (name.as_str(), value.expose())));
    authenticated(request, client, &form)
}

/// The form, with the client's credentials in it or in a header (RFC 6749, section 2.3.1). A client without a secret is
/// named in the form.
fn authenticated(request: RequestBuilder, client: &Client, form: &[(&str, &str)]) -> RequestBuilder {
    let encoded =
        |text: &Secret| form_urlencoded::byte_serialize(text.expose().as_bytes()).collect::<String>();
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let request = match (&client.secret, client.auth) {
        (Some(secret), ClientAuth::Basic) => request.basic_auth(encoded(&client.id), Some(encoded(secret))),
        (secret, _) => {
            body.append_pair("client_id", client.id.expose());
            body.extend_pairs(secret.iter().map(|secret| ("client_secret", secret.expose())));
            request
        }
    };
    request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.finish())
}
