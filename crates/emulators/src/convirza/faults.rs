//! What can go wrong at Convirza, and where.

use std::fmt;

use serde::{Serialize, Serializer};

/// The faults of Convirza.
pub type ConvirzaFaults = super::super::faults::Faults<Endpoint, Fault>;

/// Where a request can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /oauth/token`
    Login,
    /// `POST /oauth/refresh-token`
    Refresh,
    /// `POST /oauth/revoke-token`
    Revoke,
    /// `GET /v3/auth/profile`
    Profile,
    /// `GET /v3/users/list`
    Users,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 5] = [Self::Login, Self::Refresh, Self::Revoke, Self::Profile, Self::Users];

    /// The endpoint of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The name in events and in the control interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Profile => "profile",
            Self::Users => "users",
        }
    }

    /// Whether a token pair comes back from here.
    pub fn answers_a_pair(self) -> bool {
        matches!(self, Self::Login | Self::Refresh)
    }
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 401; nothing is done.
    WrongPassword,
    /// 429 with this `Retry-After`, be it seconds, an HTTP date or nonsense, or with none.
    RateLimited {
        /// The header's value.
        retry_after: Option<String>,
    },
    /// 500 with a text body; nothing is done.
    ServerError,
    /// 502 with an HTML body; nothing is done.
    BadGatewayHtml,
    /// No answer while the client stays connected; nothing is done.
    Hang,
    /// The request is carried out, and the connection closed without an answer.
    LostReply,
    /// The connection is reset; nothing is done.
    Reset,
    /// The request is carried out, and the first half of the answer sent as if it were all.
    Truncated,
    /// The request is carried out, and the answer is 10 MiB long.
    Huge,
    /// 307 to another place of this server, which counts who follows; nothing is done.
    Redirect,
    /// The pair comes without `expires_in`.
    ExpiryMissing,
    /// `expires_in` is the number 3600.
    ExpirySeconds,
    /// `expires_in` is the text `3600`.
    ExpirySecondsText,
    /// `expires_in` is an hour ago; the token is good nevertheless.
    ExpiryPast,
    /// `expires_in` is no time at all.
    ExpiryGarbage,
    /// The pair comes without a refresh token. A refresh then leaves the one sent usable.
    NoRefreshToken,
    /// A refresh gives the refresh token again that was sent, and leaves it usable.
    KeepsRefreshToken,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 17] = [
        Self::WrongPassword,
        Self::RateLimited { retry_after: None },
        Self::ServerError,
        Self::BadGatewayHtml,
        Self::Hang,
        Self::LostReply,
        Self::Reset,
        Self::Truncated,
        Self::Huge,
        Self::Redirect,
        Self::ExpiryMissing,
        Self::ExpirySeconds,
        Self::ExpirySecondsText,
        Self::ExpiryPast,
        Self::ExpiryGarbage,
        Self::NoRefreshToken,
        Self::KeepsRefreshToken,
    ];

    /// The fault of this name; `retry_after` matters to `rate_limited` only.
    pub fn from_name(name: &str, retry_after: Option<String>) -> Option<Self> {
        let fault = Self::ALL.into_iter().find(|known| known.name() == name)?;
        Some(match fault {
            Self::RateLimited { .. } => Self::RateLimited { retry_after },
            other => other,
        })
    }

    /// The name in events and in the control interface.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::RateLimited { .. } => "rate_limited",
            Self::ServerError => "server_error",
            Self::BadGatewayHtml => "bad_gateway_html",
            Self::Hang => "hang",
            Self::LostReply => "lost_reply",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Huge => "huge",
            Self::Redirect => "redirect",
            Self::ExpiryMissing => "expiry_missing",
            Self::ExpirySeconds => "expiry_seconds",
            Self::ExpirySecondsText => "expiry_seconds_text",
            Self::ExpiryPast => "expiry_past",
            Self::ExpiryGarbage => "expiry_garbage",
            Self::NoRefreshToken => "no_refresh_token",
            Self::KeepsRefreshToken => "keeps_refresh_token",
        }
    }

    /// Whether the client cannot learn what the answer said.
    pub(super) fn loses_the_answer(&self) -> bool {
        matches!(self, Self::LostReply | Self::Truncated | Self::Huge)
    }

    /// Whether this can happen at an endpoint: an odd pair needs one that answers pairs.
    pub fn fits(&self, endpoint: Endpoint) -> bool {
        match self {
            Self::KeepsRefreshToken => endpoint == Endpoint::Refresh,
            Self::ExpiryMissing
            | Self::ExpirySeconds
            | Self::ExpirySecondsText
            | Self::ExpiryPast
            | Self::ExpiryGarbage
            | Self::NoRefreshToken => endpoint.answers_a_pair(),
            _ => true,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
