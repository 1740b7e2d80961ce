//! What the upstream is asked, and what its answers mean for the protocol.

use super::{
    policy::ASSUMED_LIFETIME,
    record::{Dialect, Generation, Grant, Origin, Pair, Revocation, SecretVersion},
    time::Timestamp,
};
use crate::secret::Secret;
use std::time::Duration;

/// What is in an account's secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Which version of the secret this is.
    pub version: SecretVersion,
    /// The address that logs in.
    pub email: Secret,
    /// Its password.
    pub password: Secret,
    /// The OAuth client, which V2 asks for.
    pub client: Option<ClientCredentials>,
    /// Whom to log in to.
    pub origin: Origin,
}

/// An OAuth client, as V2 knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCredentials {
    /// Its id.
    pub id: Secret,
    /// Its secret.
    pub secret: Secret,
}

/// One request to the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Log in.
    Login(Credentials),
    /// Trade the refresh token for a new pair.
    Refresh {
        /// The token that is spent by this.
        refresh_token: Secret,
        /// Who issued it.
        origin: Origin,
    },
    /// Make a token worthless.
    Revoke(Revocation),
    /// Find out whether an access token is alive.
    Probe {
        /// The token.
        access_token: Secret,
        /// Who issued it.
        origin: Origin,
    },
}

/// What became of a [`Call`], as far as the protocol has to know. Bodies and statuses stay in the adapter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// A pair.
    Granted(Granted),
    /// The token is worthless now.
    Revoked,
    /// The token that was probed is alive.
    Alive,
    /// 400, 401 or 403: the token or the credentials are not accepted. For a probe, 401 alone: the token is
    /// dead.
    Refused,
    /// 429, with the pause that was asked for if it could be read.
    RateLimited(Option<Duration>),
    /// A timeout, a 5xx, an answer that cannot be read: the request may have been carried out.
    Unclear,
    /// The request never left: no name, no connection, no TLS.
    NeverLeft,
    /// The request was not sent, because its latest instant had passed when it was about to leave.
    TooLate,
}

/// The tokens of a successful answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Granted {
    /// The bearer token.
    pub access_token: Secret,
    /// The refresh token, if one came.
    pub refresh_token: Option<Secret>,
    /// When the access token dies.
    pub access_expiry: Expiry,
    /// When the refresh token dies.
    pub refresh_expiry: Expiry,
}

/// An expiry in the forms in which it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// At an instant.
    At(Timestamp),
    /// That long after the request left.
    In(Duration),
    /// Missing, or not to be read.
    Unknown,
}

impl Expiry {
    /// The instant, for a request that left at `left_at`; none where it is unknown or already past.
    pub fn resolve(self, left_at: Timestamp) -> Option<Timestamp> {
        let at = match self {
            Self::At(at) => at,
            Self::In(span) => left_at.plus(span),
            Self::Unknown => return None,
        };
        (at > left_at).then_some(at)
    }
}

/// Which grant renews the pair: a refresh where there is a token for it that is neither spent nor expired.
pub fn grant_for(pair: Option<&Pair>, clock_margin: Duration, now: Timestamp) -> Grant {
    let refreshable = pair.is_some_and(|pair| {
        pair.refresh_token.is_some()
            && pair.origin.dialect == Dialect::V3
            && !pair.refresh_spent
            && pair.refresh_expires_at.is_none_or(|at| at.minus(clock_margin) > now)
    });
    if refreshable { Grant::Refresh } else { Grant::Login }
}

/// The pair that an answer brings, obtained under the fence `generation` by a request that left at `left_at`.
///
/// `before` is the pair that it replaces. Where that was refreshed, and the upstream gave no refresh token in
/// its stead, the last one that it gave is kept, with its expiry. Nothing is derived from anything else: the two expiries are
/// independent, and tokens are never decoded.
pub fn pair_from(
    granted: Granted,
    generation: Generation,
    left_at: Timestamp,
    obtained_by: Grant,
    before: Option<&Pair>,
    origin: Origin,
) -> Pair {
    let kept = before.filter(|_| obtained_by == Grant::Refresh && granted.refresh_token.is_none());
    Pair {
        generation,
        access_token: granted.access_token,
        refresh_token: granted.refresh_token.or_else(|| kept.and_then(|pair| pair.refresh_token.clone())),
        refresh_spent: false,
        issued_at: left_at,
        expires_at: granted.access_expiry.resolve(left_at).unwrap_or_else(|| left_at.plus(ASSUMED_LIFETIME)),
        refresh_expires_at: granted
            .refresh_expiry
            .resolve(left_at)
            .or_else(|| kept.and_then(|pair| pair.refresh_expires_at)),
        obtained_by,
        replaces: before.map(|pair| pair.generation),
        origin,
        dead: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Timestamp = Timestamp::from_millis(1_000_000);

    fn granted(refresh_token: Option<&str>, access_expiry: Expiry, refresh_expiry: Expiry) -> Granted {
        Granted {
            access_token: Secret::from("access"),
            refresh_token: refresh_token.map(Secret::from),
            access_expiry,
            refresh_expiry,
        }
    }

    #[test]
    fn f17_no_expiry_in_the_answer_counts_as_one_hour() {
        for unusable in [Expiry::Unknown, Expiry::At(LEFT), Expiry::In(Duration::ZERO)] {
            let pair = pair_from(
                granted(None, unusable, Expiry::Unknown),
                Generation(1),
                LEFT,
                Grant::Login,
                None,
                Origin::default(),
            );
            assert_eq!(pair.expires_at, LEFT.plus(ASSUMED_LIFETIME), "{unusable:?}");
        }
    }

    #[test]
    fn f10_an_omitted_refresh_token_does_not_wipe_the_stored_one() {
        let until = LEFT.plus(Duration::from_secs(1000));
        let first = granted(Some("first"), Expiry::Unknown, Expiry::At(until));
        let before = Pair {
            refresh_spent: true,
            ..pair_from(first, Generation(1), LEFT, Grant::Login, None, Origin::default())
        };
        let silent = granted(None, Expiry::Unknown, Expiry::Unknown);
        let after = pair_from(silent, Generation(2), LEFT, Grant::Refresh, Some(&before), Origin::default());
        assert_eq!(after.refresh_token, Some(Secret::from("first")));
        assert_eq!(after.refresh_expires_at, Some(until));
        assert!(!after.refresh_spent, "the upstream gave none in its stead, so it may be sent again");
    }

    #[test]
    fn nothing_is_kept_of_a_pair_that_was_not_refreshed_or_that_got_a_successor() {
        let until = Expiry::In(Duration::from_secs(1000));
        let [first, second] = ["first", "second"].map(|token| granted(Some(token), Expiry::Unknown, until));
        let before = pair_from(first, Generation(1), LEFT, Grant::Login, None, Origin::default());
        let silent = granted(None, Expiry::Unknown, Expiry::Unknown);
        let later =
            |granted, grant| pair_from(granted, Generation(2), LEFT, grant, Some(&before), Origin::default());
        assert_eq!(
            later(silent, Grant::Login).refresh_token,
            None,
            "a login made the old session's tokens moot"
        );
        let second = Granted { refresh_expiry: Expiry::Unknown, ..second };
        let refreshed = later(second, Grant::Refresh);
        assert_eq!(refreshed.refresh_token, Some(Secret::from("second")));
        assert_eq!(refreshed.refresh_expires_at, None, "it is another token's");
    }

    #[test]
    fn the_expiry_of_one_token_says_nothing_about_the_other() {
        let new = granted(Some("second"), Expiry::In(Duration::from_secs(5)), Expiry::Unknown);
        let pair = pair_from(new, Generation(2), LEFT, Grant::Refresh, None, Origin::default());
        assert_eq!(pair.refresh_expires_at, None);
        assert_eq!(grant_for(Some(&pair), Duration::ZERO, LEFT), Grant::Refresh, "unknown is worth a try");
    }

    #[test]
    fn a_spent_or_expired_refresh_token_means_a_login() {
        let margin = Duration::from_secs(2);
        let good = pair_from(
            granted(Some("r"), Expiry::Unknown, Expiry::In(Duration::from_secs(10))),
            Generation(1),
            LEFT,
            Grant::Login,
            None,
            Origin::default(),
        );
        let almost = LEFT.plus(Duration::from_secs(8));
        assert_eq!(grant_for(Some(&good), margin, almost.minus(Duration::from_millis(1))), Grant::Refresh);
        assert_eq!(grant_for(Some(&good), margin, almost), Grant::Login);
        let spent = Pair { refresh_spent: true, ..good };
        assert_eq!(grant_for(Some(&spent), margin, LEFT), Grant::Login);
        assert_eq!(grant_for(None, margin, LEFT), Grant::Login);
    }
}
