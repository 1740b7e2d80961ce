//! The faults of Convirza, and the endpoints at which they can happen.

use std::fmt;

use contract::named;
use serde::{Serialize, Serializer};

/// The faults of Convirza.
pub type ConvirzaFaults = crate::faults::Faults<Endpoint, Fault>;

named! {
    /// Convirza's endpoints.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Endpoint, name {
        /// `POST /oauth/token`
        Login = "login",
        /// `POST /oauth/refresh-token`
        Refresh = "refresh",
        /// `POST /oauth/revoke-token`
        Revoke = "revoke",
        /// `GET /v3/auth/profile`
        Profile = "profile",
        /// Every other request: the emulated API.
        Api = "api",
    }
}

impl Endpoint {
    /// Whether this endpoint returns a pair.
    pub fn returns_a_pair(self) -> bool {
        matches!(self, Self::Login | Self::Refresh)
    }
}

/// A fault of Convirza.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 401; the request is not carried out.
    WrongPassword,
    /// 400 with a JSON body; the request is not carried out.
    BadRequest,
    /// 403 with an HTML body, as from a firewall; the request is not carried out.
    Forbidden,
    /// 429; the request is not carried out.
    RateLimited {
        /// The value of `Retry-After`, well-formed or not.
        retry_after: Option<String>,
    },
    /// 422 with a JSON body; the request is not carried out.
    Unprocessable,
    /// 200 with an error of OAuth 2.0 in its body; the request is not carried out.
    ErrorInSuccess,
    /// 200 with an HTML body; the request is not carried out.
    HtmlSuccess,
    /// 503; the request is not carried out.
    Unavailable {
        /// The value of `Retry-After`, well-formed or not.
        retry_after: Option<String>,
    },
    /// 500 with a text body; the request is not carried out.
    ServerError,
    /// 502 with an HTML body; the request is not carried out.
    BadGatewayHtml,
    /// No response while the client stays connected; the request is not carried out.
    Hang,
    /// The request is carried out, and the connection is closed without a response.
    LostReply,
    /// The connection is reset; the request is not carried out.
    Reset,
    /// The request is carried out, and the response body is cut in half.
    Truncated,
    /// The request is carried out, and the response body is 10 MiB long.
    Huge,
    /// 307 to another path, which counts its requests; the request is not carried out.
    Redirect,
    /// The pair comes without `expires_in`.
    ExpiryMissing,
    /// `expires_in` is the number 3600.
    ExpirySeconds,
    /// `expires_in` is the text `3600`.
    ExpirySecondsText,
    /// `expires_in` is an hour ago. The token is alive.
    ExpiryPast,
    /// `expires_in` is a text that is not a time.
    ExpiryGarbage,
    /// `expires_in` is an instant in microseconds, which read as milliseconds is 55 thousand years ahead.
    ExpiryMicroseconds,
    /// The pair follows a byte order mark, with line ends around its tokens, a duplicate field, and text after it.
    Untidy,
    /// The pair has `false` as its refresh token.
    BadRefreshToken,
    /// The pair comes without a refresh token. A refresh leaves the sent one usable.
    NoRefreshToken,
    /// A refresh returns the refresh token that was sent, and leaves it usable.
    KeepsRefreshToken,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 26] = [
        Self::WrongPassword,
        Self::BadRequest,
        Self::Forbidden,
        Self::RateLimited { retry_after: None },
        Self::Unprocessable,
        Self::ErrorInSuccess,
        Self::HtmlSuccess,
        Self::Unavailable { retry_after: None },
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
        Self::ExpiryMicroseconds,
        Self::Untidy,
        Self::BadRefreshToken,
        Self::NoRefreshToken,
        Self::KeepsRefreshToken,
    ];

    /// Finds a fault by name. Only `rate_limited` and `unavailable` use `retry_after`.
    pub fn from_name(name: &str, retry_after: Option<String>) -> Option<Self> {
        let fault = Self::ALL.into_iter().find(|known| known.name() == name)?;
        Some(match fault {
            Self::RateLimited { .. } => Self::RateLimited { retry_after },
            Self::Unavailable { .. } => Self::Unavailable { retry_after },
            other => other,
        })
    }

    /// The name in events and in the control interface.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unprocessable => "unprocessable",
            Self::ErrorInSuccess => "error_in_success",
            Self::HtmlSuccess => "html_success",
            Self::Unavailable { .. } => "unavailable",
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
            Self::ExpiryMicroseconds => "expiry_microseconds",
            Self::Untidy => "untidy",
            Self::BadRefreshToken => "bad_refresh_token",
            Self::NoRefreshToken => "no_refresh_token",
            Self::KeepsRefreshToken => "keeps_refresh_token",
        }
    }

    /// Whether the client does not receive the whole pair.
    pub(super) fn loses_the_pair(&self) -> bool {
        matches!(self, Self::LostReply | Self::Truncated)
    }

    /// Whether this fault can happen at an endpoint. Faults of a pair need an endpoint that returns pairs.
    pub fn fits(&self, endpoint: Endpoint) -> bool {
        match self {
            Self::KeepsRefreshToken => endpoint == Endpoint::Refresh,
            Self::ExpiryMissing
            | Self::ExpirySeconds
            | Self::ExpirySecondsText
            | Self::ExpiryPast
            | Self::ExpiryGarbage
            | Self::ExpiryMicroseconds
            | Self::Untidy
            | Self::BadRefreshToken
            | Self::NoRefreshToken => endpoint.returns_a_pair(),
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
