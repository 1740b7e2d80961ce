//! Records for tests, in this crate and in those that use it. With the feature `testing` only.

pub mod strategies;

use crate::{
    Generation, Grant, Origin, Pair, RefreshToken, RejectedSecret, Secret, SecretVersion, Timestamp, Verdict,
};
use std::time::Duration;

/// A refresh token that may be sent.
pub fn refresh_token(text: &str) -> RefreshToken {
    RefreshToken { token: Secret::from(text), expires_at: None, consumed: false }
}

/// A pair of generation 7 that was issued for a week and expires at `expires_at`.
pub fn pair(expires_at: Timestamp) -> Pair {
    Pair {
        generation: Generation(7),
        access_token: Secret::from("access"),
        refresh_token: Some(refresh_token("refresh")),
        issued_at: expires_at.minus(Duration::from_secs(7 * 86_400)),
        expires_at,
        obtained_by: Grant::Login,
        replaces: None,
        origin: Origin::default(),
        secret_version: None,
        verdict: Verdict::Unverified,
    }
}

/// A secret version that was rejected for the first time, at this instant.
pub fn rejection(version: &str, at: Timestamp) -> RejectedSecret {
    let retry_at = Some(at.plus(Duration::from_secs(6 * 3600)));
    RejectedSecret { version: SecretVersion(version.to_owned()), refusals: 1, retry_at }
}
