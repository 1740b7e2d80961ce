//! Calls to the upstream, and what its replies mean for the protocol.

use crate::{
    Client, Credentials, Extra, Generation, IssuedToken, MAX_TOKEN_BYTES, ObtainedBy, Pair, RefreshToken,
    Revocation, Secret, Timestamp, Verdict,
    policy::{ASSUMED_LIFETIME, LONGEST_ACCESS_LIFETIME, LONGEST_REFRESH_LIFETIME},
};
use std::time::Duration;

/// One call to the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Obtain a pair with the secret's credentials. Counted against the login limit.
    Login(Credentials),
    /// Trade a refresh token for a new pair. The call consumes it. The client authenticates if the upstream asks for
    /// one.
    Refresh(IssuedToken, Option<Client>),
    /// Make a token worthless.
    Revoke(Revocation, Option<Client>),
    /// Find out whether an access token is alive.
    Probe(IssuedToken),
}

/// The kind of call that obtains a pair, without its token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// A login with these credentials.
    Login(Credentials),
    /// A refresh, with the secret if it was read for the client's credentials.
    Refresh(Option<Credentials>),
}

impl Call {
    /// The call's name in logs and diagrams.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Login(_) => "login",
            Self::Refresh(..) => "refresh",
            Self::Revoke(..) => "revoke",
            Self::Probe(_) => "probe",
        }
    }
}

/// How a [`Call`] ended, as far as the protocol has to know. Bodies and statuses stay in the adapter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamReply {
    /// A new pair.
    Granted(TokenResponse),
    /// The token is worthless now.
    Revoked,
    /// The probed token is alive.
    Alive,
    /// 401, or `invalid_grant` of OAuth 2.0: the token or the credentials are not accepted. Of a probe: the token is
    /// dead. Of a refresh by OAuth 2.0, only `invalid_grant` says so.
    Unauthorized,
    /// The upstream refuses the OAuth 2.0 client or its request, whatever the grant: `invalid_client`, `invalid_scope`,
    /// `unauthorized_client`, `invalid_request`, `unsupported_grant_type`, or 403 without a code. The call was
    /// certainly not carried out, so a refresh token stays usable. An operator has to repair the secret or the client.
    ClientRefused,
    /// Refused, for a reason that says nothing certain about a password: a firewall or a maintenance page may have
    /// answered. A 4xx other than 401, 408, 425 and 429, a 3xx, or a 2xx that should hold a token and certainly does
    /// not.
    Refused,
    /// 429, with the requested pause if it can be read.
    RateLimited(Option<Duration>),
    /// The call may have been carried out.
    Unclear(Unclear),
    /// The request never left: name resolution, connection or TLS failed.
    NeverLeft,
    /// Not sent, because `not_after` had passed when it was about to leave.
    TooLate,
}

/// Why a call that left may or may not have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unclear {
    /// Nothing came back in time, or the connection broke.
    NoResponse,
    /// 408, 425, a 5xx, or a response that cannot be read.
    Unexpected {
        /// The requested pause (`Retry-After` of 408 and 503), if it can be read.
        retry_after: Option<Duration>,
    },
}

/// How the upstream failed, for the caller's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum UpstreamFault {
    /// Nothing came back.
    #[error("the upstream did not respond")]
    NoResponse,
    /// It refused the login or the OAuth 2.0 client, but not certainly because of the credentials.
    #[error("the upstream refused the request without saying that the credentials are wrong")]
    Refused,
    /// It returned something else.
    #[error("the upstream returned an unexpected response")]
    Unexpected,
}

impl UpstreamReply {
    /// The reply without tokens that a record cannot hold, and whether there were any. Without its access token, a grant
    /// is a reply that cannot be read.
    pub(crate) fn within_bounds(self) -> (Self, bool) {
        let is_long = |token: &Secret| token.expose().len() > MAX_TOKEN_BYTES;
        let Self::Granted(mut granted) = self else { return (self, false) };
        if is_long(&granted.access_token) {
            return (Self::UNEXPECTED, true);
        }
        let is_dropped = matches!(&granted.refresh_token, NewRefreshToken::Token(token) if is_long(token));
        if is_dropped {
            granted.refresh_token = NewRefreshToken::Unusable;
        }
        (Self::Granted(granted), is_dropped)
    }

    /// A reply to a call that may have been carried out, without a requested pause.
    pub const UNEXPECTED: Self = Self::Unclear(Unclear::Unexpected { retry_after: None });

    /// The reply's name in logs and diagrams.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Granted(_) => "granted",
            Self::Revoked => "revoked",
            Self::Alive => "alive",
            Self::Unauthorized => "unauthorized",
            Self::ClientRefused => "client_refused",
            Self::Refused => "refused",
            Self::RateLimited(_) => "rate_limited",
            Self::Unclear(Unclear::NoResponse) => "no_response",
            Self::Unclear(Unclear::Unexpected { .. }) => "unclear",
            Self::NeverLeft => "never_left",
            Self::TooLate => "too_late",
        }
    }
}

/// The tokens of a successful login or refresh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenResponse {
    /// The bearer token.
    pub access_token: Secret,
    /// The single-use refresh token.
    pub refresh_token: NewRefreshToken,
    /// As the upstream stated it.
    pub access_expiry: Expiry,
    /// As the upstream stated it. Never derived from the access token's.
    pub refresh_expiry: Expiry,
    /// The fields of the answer that callers get.
    pub extra: Option<Extra>,
}

/// What a response holds in place of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NewRefreshToken {
    /// A refresh token.
    Token(Secret),
    /// Nothing, or null: the token that the refresh sent stays usable.
    Absent,
    /// Something else. The upstream took the token that a refresh sent, and its successor is lost.
    Unusable,
}

/// An expiry in the forms in which upstreams state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// An instant.
    At(Timestamp),
    /// A span that begins when the request left.
    In(Duration),
    /// Missing or unreadable.
    Unknown,
}

impl Expiry {
    /// The instant, for a request that left at `sent_at`; `None` if it is unknown, already past, or further ahead than
    /// `longest`.
    pub fn resolve(self, sent_at: Timestamp, longest: Duration) -> Option<Timestamp> {
        let at = match self {
            Self::At(at) => at,
            Self::In(span) => sent_at.plus(span),
            Self::Unknown => return None,
        };
        (at > sent_at && at.since(sent_at) <= longest).then_some(at)
    }
}

impl TokenResponse {
    /// When the access token expires, for a request that left at `sent_at`; `None` if the response does not say.
    pub fn access_expires_at(&self, sent_at: Timestamp) -> Option<Timestamp> {
        self.access_expiry.resolve(sent_at, LONGEST_ACCESS_LIFETIME)
    }

    /// When the refresh token expires, likewise.
    pub fn refresh_expires_at(&self, sent_at: Timestamp) -> Option<Timestamp> {
        self.refresh_expiry.resolve(sent_at, LONGEST_REFRESH_LIFETIME)
    }

    /// The pair of a response, obtained under the fence `generation` by a request that left at `sent_at`.
    ///
    /// `before` is the pair that it replaces. A refreshed pair keeps three things of it: its origin, unless the secret
    /// was read; the extra fields that did not come back; and, if no refresh token came back, the refresh token with
    /// its expiry. That token stays consumed if its successor is unusable. The two expiries are independent, and tokens
    /// are never decoded.
    pub fn into_pair(
        self,
        generation: Generation,
        sent_at: Timestamp,
        before: Option<&Pair>,
        renewal: Renewal,
    ) -> Pair {
        let refreshed = before.filter(|_| matches!(renewal, Renewal::Refresh(_)));
        let kept_version = refreshed.and_then(|pair| pair.secret_version.clone());
        let kept_origin = || refreshed.map(|pair| pair.origin.clone()).unwrap_or_default();
        let (obtained_by, credentials, secret_version) = match renewal {
            Renewal::Login(credentials) => {
                let version = credentials.version.clone();
                (ObtainedBy::Login, Some(credentials), Some(version))
            }
            Renewal::Refresh(credentials) => (ObtainedBy::Refresh, credentials, kept_version),
        };
        let is_machine = credentials.as_ref().is_some_and(Credentials::are_a_machines);
        let client = credentials.as_ref().and_then(Credentials::client);
        let refresh_ahead = client.and_then(|client| client.refresh_ahead);
        let origin = credentials.map_or_else(kept_origin, |credentials| credentials.origin);
        let expires_at = self.access_expires_at(sent_at).unwrap_or_else(|| sent_at.plus(ASSUMED_LIFETIME));
        let stated = self.refresh_expires_at(sent_at);
        let extra = Extra::merged(refreshed.and_then(|pair| pair.extra.as_ref()), self.extra);
        let kept = refreshed.and_then(|pair| pair.refresh_token.clone());
        let earlier_life = refreshed.and_then(Pair::longest_refresh_life);
        let refresh_token = match (self.refresh_token, kept) {
            _ if is_machine => None,
            (NewRefreshToken::Token(token), _) => {
                Some(RefreshToken { token, expires_at: stated, consumed: false, earlier_life })
            }
            (NewRefreshToken::Absent, Some(kept)) => {
                let expires_at = stated.or(kept.expires_at);
                Some(RefreshToken { expires_at, consumed: false, earlier_life, ..kept })
            }
            (NewRefreshToken::Unusable, Some(kept)) => {
                Some(RefreshToken { consumed: true, earlier_life, ..kept })
            }
            (_, None) => None,
        };
        Pair {
            generation,
            access_token: self.access_token,
            refresh_token,
            issued_at: sent_at,
            expires_at,
            obtained_by,
            replaces: before.map(|pair| pair.generation),
            origin,
            secret_version,
            verdict: Verdict::Unverified,
            extra,
            refresh_ahead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiVersion, testing};
    use crate::{Login, Origin, SecretVersion};

    const SENT: Timestamp = Timestamp::from_millis(1_000_000);

    fn granted(refresh_token: Option<&str>, access_expiry: Expiry, refresh_expiry: Expiry) -> TokenResponse {
        TokenResponse {
            access_token: Secret::from("access"),
            refresh_token: refresh_token
                .map_or(NewRefreshToken::Absent, |token| NewRefreshToken::Token(token.into())),
            access_expiry,
            refresh_expiry,
            extra: None,
        }
    }

    fn login(granted: TokenResponse) -> Pair {
        granted.into_pair(Generation(1), SENT, None, Renewal::Login(credentials()))
    }

    fn refreshed(before: &Pair, granted: TokenResponse) -> Pair {
        granted.into_pair(Generation(2), SENT, Some(before), Renewal::Refresh(None))
    }

    fn credentials() -> Credentials {
        Credentials {
            version: SecretVersion("v1".to_owned()),
            login: Login::Convirza { email: Secret::from("email"), password: Secret::from("password") },
            origin: Origin::Convirza { api_version: ApiVersion::V2, oauth_url: None, api_url: None },
        }
    }

    #[test]
    fn a_refreshed_pair_keeps_the_secret_version_of_its_login() {
        let silent = || granted(None, Expiry::Unknown, Expiry::Unknown);
        let first = login(silent());
        let second = refreshed(&first, silent());
        assert_eq!((first.obtained_by, second.obtained_by), (ObtainedBy::Login, ObtainedBy::Refresh));
        for pair in [&first, &second] {
            assert_eq!(pair.secret_version, Some(credentials().version));
            assert_eq!(pair.origin, credentials().origin);
        }
        assert_eq!((first.replaces, second.replaces), (None, Some(first.generation)));
    }

    #[test]
    fn f17_a_missing_expiry_counts_as_one_hour() {
        let impossible = LONGEST_ACCESS_LIFETIME + Duration::from_secs(1);
        for unusable in [
            Expiry::Unknown,
            Expiry::At(SENT),
            Expiry::In(Duration::ZERO),
            Expiry::In(impossible),
            Expiry::At(SENT.plus(impossible)),
        ] {
            let pair = login(granted(None, unusable, Expiry::Unknown));
            assert_eq!(pair.expires_at, SENT.plus(ASSUMED_LIFETIME), "{unusable:?}");
        }
    }

    #[test]
    fn f10_an_omitted_refresh_token_does_not_wipe_the_stored_one() {
        let until = SENT.plus(Duration::from_secs(1000));
        let mut before = login(granted(Some("first"), Expiry::Unknown, Expiry::At(until)));
        before.refresh_token.as_mut().unwrap().consumed = true;
        let silent = granted(None, Expiry::Unknown, Expiry::Unknown);
        let successor = refreshed(&before, silent);
        let kept = Some(RefreshToken { expires_at: Some(until), ..testing::refresh_token("first") });
        assert_eq!(successor.refresh_token, kept, "the upstream gave no successor, so it may be sent again");
        let later = Expiry::In(Duration::from_secs(2000));
        let dated = refreshed(&before, granted(None, Expiry::Unknown, later));
        assert_eq!(dated.refresh_token.unwrap().expires_at, Some(SENT.plus(Duration::from_secs(2000))));
    }

    #[test]
    fn an_unusable_successor_leaves_the_refresh_token_consumed() {
        let before = login(granted(Some("first"), Expiry::Unknown, Expiry::In(Duration::from_secs(1000))));
        let unusable = || TokenResponse {
            refresh_token: NewRefreshToken::Unusable,
            ..granted(None, Expiry::Unknown, Expiry::In(Duration::from_secs(2000)))
        };
        let kept = before.refresh_token.clone().map(|kept| RefreshToken { consumed: true, ..kept });
        assert_eq!(refreshed(&before, unusable()).refresh_token, kept, "it may have been used");
        assert_eq!(login(unusable()).refresh_token, None);
    }

    #[test]
    fn the_longest_believed_lives_are_ten_times_the_documented_ones() {
        let week = Duration::from_secs(7 * 86_400);
        let pair = login(granted(Some("r"), Expiry::In(10 * week), Expiry::In(1800 * week / 7)));
        assert_eq!(pair.expires_at, SENT.plus(10 * week));
        assert_eq!(pair.refresh_token.unwrap().expires_at, Some(SENT.plus(1800 * week / 7)));
        let beyond = Expiry::In(1800 * week / 7 + Duration::from_millis(1));
        assert_eq!(login(granted(Some("r"), beyond, beyond)).refresh_token.unwrap().expires_at, None);
    }

    #[test]
    fn a_login_or_a_successor_replaces_the_refresh_token() {
        let until = Expiry::In(Duration::from_secs(1000));
        let before = login(granted(Some("first"), Expiry::Unknown, until));
        let silent = granted(None, Expiry::Unknown, Expiry::Unknown);
        assert_eq!(
            silent.into_pair(Generation(2), SENT, Some(&before), Renewal::Login(credentials())).refresh_token,
            None,
            "another session"
        );
        let second = granted(Some("second"), Expiry::Unknown, Expiry::Unknown);
        let successor = Some(testing::refresh_token("second"));
        assert_eq!(refreshed(&before, second).refresh_token, successor, "the expiry was the other's");
    }

    #[test]
    fn a_session_keeps_its_longest_refresh_life() {
        let [half_a_year, most_of_it] = [180, 179].map(|days| Duration::from_secs(days * 86_400));
        let before = login(granted(Some("r"), Expiry::Unknown, Expiry::In(half_a_year)));
        let late = SENT.plus(most_of_it);
        for refresh_token in [NewRefreshToken::Absent, NewRefreshToken::Unusable] {
            let silent = TokenResponse { refresh_token, ..granted(None, Expiry::Unknown, Expiry::Unknown) };
            let after = silent.into_pair(Generation(2), late, Some(&before), Renewal::Refresh(None));
            assert_eq!(after.longest_refresh_life(), Some(half_a_year));
        }
    }

    #[test]
    fn one_expiry_says_nothing_about_the_other() {
        let pair = login(granted(Some("r"), Expiry::In(Duration::from_secs(5)), Expiry::Unknown));
        assert_eq!(pair.refresh_token.unwrap().expires_at, None);
    }
}
