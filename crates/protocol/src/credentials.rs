//! The content of an account's secret, by kind of upstream.

use crate::{Origin, Secret};
use std::{fmt, time::Duration};

/// The version id that Secrets Manager gave a secret's value. Not confidential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(pub String);

impl fmt::Display for SecretVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The content of an account's secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Recorded as rejected if the upstream refuses these credentials.
    pub version: SecretVersion,
    /// The upstream to log in to.
    pub origin: Origin,
    /// What a login sends.
    pub login: Login,
}

/// What a login sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Login {
    /// Convirza V3: email and password.
    Convirza {
        /// The user who logs in.
        email: Secret,
        /// The user's password.
        password: Secret,
    },
    /// A token request as in RFC 6749, which Convirza V2 expects too.
    OAuth2 {
        /// The client that sends it.
        client: Client,
        /// The grant that it presents.
        grant: GrantType,
    },
}

/// The grant of an OAuth 2.0 token request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrantType {
    /// The client's own credentials. Each renewal is a login.
    ClientCredentials,
    /// A user's name and password.
    Password {
        /// The user who logs in.
        username: Secret,
        /// The user's password.
        password: Secret,
    },
    /// A refresh token that a person obtained. No login exists: only a person can repair such a grant.
    RefreshToken {
        /// The token in the secret. It is sent only if it was never sent before.
        bootstrap: Secret,
    },
}

/// An OAuth 2.0 client, and what its token requests have in common. Never stored: the secret is read before each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// The client's name at the upstream.
    pub id: Secret,
    /// Its secret; a public client has none.
    pub secret: Option<Secret>,
    /// How the secret is sent.
    pub auth: ClientAuth,
    /// Sent with each token request.
    pub scope: Option<String>,
    /// Further parameters of each token request.
    pub parameters: Vec<(String, Secret)>,
    /// Fields of the token answer that callers get.
    pub answer_fields: Vec<String>,
    /// Renew this long before expiry, instead of the policy's time.
    pub refresh_ahead: Option<Duration>,
    /// How long the provider takes a used refresh token again.
    pub resend_within: Duration,
}

/// How a client authenticates (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// `client_secret_basic`: in the header `Authorization`.
    Basic,
    /// `client_secret_post`: in the form.
    Post,
}

impl Credentials {
    /// The OAuth 2.0 client, if the upstream asks for one.
    pub fn client(&self) -> Option<&Client> {
        match &self.login {
            Login::Convirza { .. } => None,
            Login::OAuth2 { client, .. } => Some(client),
        }
    }

    /// Whether the client's own credentials are the grant. Such a client can always log in, so it keeps no refresh token
    /// (RFC 6749, section 4.4.3).
    pub(crate) fn are_a_machines(&self) -> bool {
        matches!(self.login, Login::OAuth2 { grant: GrantType::ClientCredentials, .. })
    }

    /// The client that authenticates at this origin. `None` for an upstream other than the secret's, which must not
    /// learn the client's secret.
    pub fn client_at(&self, origin: &Origin) -> Option<&Client> {
        let same = match (&self.origin, origin) {
            (Origin::OAuth2(own), Origin::OAuth2(other)) => own.token_url == other.token_url,
            _ => false,
        };
        self.client().filter(|_| same)
    }

    /// The refresh token that a person obtained, if only a person can renew the grant: no login exists then.
    pub fn bootstrap(&self) -> Option<&Secret> {
        match &self.login {
            Login::OAuth2 { grant: GrantType::RefreshToken { bootstrap }, .. } => Some(bootstrap),
            Login::Convirza { .. } | Login::OAuth2 { .. } => None,
        }
    }
}
