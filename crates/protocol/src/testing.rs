//! Records for tests in this crate and others. Needs the feature `testing`.

pub mod strategies;

use crate::{
    ApiVersion, Client, ClientAuth, Credentials, Endpoints, Generation, GrantType, Login, ObtainedBy, Origin,
    Pair, RefreshToken, RejectedSecret, Secret, SecretVersion, Timestamp, UpstreamUrl, Verdict,
};
use std::time::Duration;

/// A refresh token that may be sent.
pub fn refresh_token(text: &str) -> RefreshToken {
    RefreshToken { token: Secret::from(text), expires_at: None, consumed: false, earlier_life: None }
}

/// A pair of generation 7, issued for a week, that expires at `expires_at`.
pub fn pair(expires_at: Timestamp) -> Pair {
    Pair {
        generation: Generation(7),
        access_token: Secret::from("access"),
        refresh_token: Some(refresh_token("refresh")),
        issued_at: expires_at.minus(Duration::from_secs(7 * 86_400)),
        expires_at,
        obtained_by: ObtainedBy::Login,
        replaces: None,
        origin: Origin::default(),
        secret_version: None,
        verdict: Verdict::Unverified,
        extra: None,
        refresh_ahead: None,
    }
}

/// A user's email and password, with the default upstream.
pub fn credentials(version: &str) -> Credentials {
    let login = Login::Convirza { email: Secret::from("email"), password: Secret::from("password") };
    Credentials { version: SecretVersion(version.to_owned()), origin: Origin::default(), login }
}

/// The password or the client secret that a login sends.
///
/// # Panics
/// If it sends neither.
#[expect(clippy::expect_used, reason = "for tests")]
pub fn password(credentials: &Credentials) -> &Secret {
    let password = match &credentials.login {
        Login::Convirza { password, .. }
        | Login::OAuth2 { grant: GrantType::Password { password, .. }, .. } => Some(password),
        Login::OAuth2 { client, .. } => client.secret.as_ref(),
    };
    password.expect("a password")
}

/// A grant that only a person can renew, in this version of the secret.
pub fn grant(version: &str, bootstrap: &str) -> Credentials {
    let url = |path| UpstreamUrl::parse_endpoint(&format!("https://as.example/{path}")).ok();
    let origin = match url("token") {
        Some(token_url) => {
            Origin::OAuth2(Endpoints { token_url, revoke_url: url("revoke"), probe_url: None })
        }
        None => Origin::default(),
    };
    let grant = GrantType::RefreshToken { bootstrap: Secret::from(bootstrap) };
    let login = Login::OAuth2 { client: client("id", "secret", ClientAuth::Basic), grant };
    Credentials { version: SecretVersion(version.to_owned()), origin, login }
}

/// A client without special settings.
pub fn client(id: &str, secret: &str, auth: ClientAuth) -> Client {
    Client {
        id: Secret::from(id),
        secret: Some(Secret::from(secret)),
        auth,
        scope: None,
        parameters: Vec::new(),
        answer_fields: Vec::new(),
        refresh_ahead: None,
        resend_within: Duration::ZERO,
    }
}

/// Convirza V3 with an OAuth host of the account's own.
pub fn origin_at(oauth_url: Option<UpstreamUrl>) -> Origin {
    Origin::Convirza { api_version: ApiVersion::V3, oauth_url, api_url: None }
}

/// A secret version that was rejected for the first time, at this instant.
pub fn rejection(version: &str, at: Timestamp) -> RejectedSecret {
    let retry_at = Some(at.plus(Duration::from_secs(6 * 3600)));
    RejectedSecret { version: SecretVersion(version.to_owned()), refusals: 1, retry_at }
}
