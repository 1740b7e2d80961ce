//! Which upstream issued a pair, and where its tokens may be sent.

use crate::UpstreamUrl;

/// The version of Convirza's API that an account logs in to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiVersion {
    /// Convirza V3.
    #[default]
    V3,
    /// Convirza V2: deprecated but in use. It documents neither refreshing nor revoking.
    V2,
}

/// Which upstream issued a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Convirza. Its hosts are set only if the account's secret names other hosts than the configuration.
    Convirza {
        /// Decides how to log in, and whether a pair can be refreshed and revoked.
        api_version: ApiVersion,
        /// The OAuth host of the account, instead of the configured one.
        oauth_url: Option<UpstreamUrl>,
        /// The API of the account, instead of the configured one.
        api_url: Option<UpstreamUrl>,
    },
    /// An OAuth 2.0 token endpoint.
    OAuth2(Endpoints),
}

/// The URLs of an OAuth 2.0 upstream, to which tokens are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The token endpoint.
    pub token_url: UpstreamUrl,
    /// The revocation endpoint (RFC 7009). Without it, nothing is revoked.
    pub revoke_url: Option<UpstreamUrl>,
    /// Answers 401 to a dead token. Without it, nothing is probed, and reports are believed.
    pub probe_url: Option<UpstreamUrl>,
}

impl Default for Origin {
    fn default() -> Self {
        Self::Convirza { api_version: ApiVersion::V3, oauth_url: None, api_url: None }
    }
}

impl Origin {
    /// Whether a refresh token may be sent.
    pub fn refreshes(&self) -> bool {
        !self.is_v2()
    }

    /// Whether a token can be revoked.
    pub fn revokes(&self) -> bool {
        match self {
            Self::Convirza { .. } => !self.is_v2(),
            Self::OAuth2(endpoints) => endpoints.revoke_url.is_some(),
        }
    }

    /// Whether no call can find out if a token is dead, so that a caller's report is believed.
    pub fn believes_reports(&self) -> bool {
        matches!(self, Self::OAuth2(endpoints) if endpoints.probe_url.is_none())
    }

    /// Whether refreshing and revoking need the client's credentials, which are in the secret.
    pub fn needs_client(&self) -> bool {
        matches!(self, Self::OAuth2(_))
    }

    /// Every URL that gets a token or a secret.
    pub fn urls(&self) -> impl Iterator<Item = &UpstreamUrl> {
        let (first, rest) = match self {
            Self::Convirza { oauth_url, api_url, .. } => (oauth_url.as_ref(), [api_url.as_ref(), None]),
            Self::OAuth2(Endpoints { token_url, revoke_url, probe_url }) => {
                (Some(token_url), [revoke_url.as_ref(), probe_url.as_ref()])
            }
        };
        first.into_iter().chain(rest.into_iter().flatten())
    }

    fn is_v2(&self) -> bool {
        matches!(self, Self::Convirza { api_version: ApiVersion::V2, .. })
    }
}
