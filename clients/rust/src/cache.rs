//! The cache of one account: its token, its last failure, and the decisions that follow. Pure: no clock, no I/O.

use crate::{Code, Error, Token};
use contract::{DEFAULT_MIN_TTL, Draw, ErrorCode, Generation, ServedFrom, Timestamp};
use std::time::Duration;

/// After the broker found a reported token alive, further reports of it are answered from the cache for this long.
/// An API that answers 401 for another reason must not cause a call for each of its answers.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How far the clock may step back before cached times are no longer trusted.
pub(crate) const CLOCK_STEP: Duration = Duration::from_secs(5);
/// The longest time in which a request is answered with the last failure instead of a call.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(10);
const FIRST_COOLDOWN: Duration = Duration::from_millis(250);
/// The pause after a renewal that returned an older token. An instance of the broker may lag behind for this long.
const OLDER_TOKEN_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between two failed renewals in the background.
const LONGEST_RENEWAL_PAUSE: Duration = Duration::from_secs(300);

/// The requirements of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The token must be valid for this long. Without it, a minute or half of the token's lifetime is enough.
    pub(crate) min_ttl: Option<Duration>,
    /// The API refused the token of this generation.
    pub(crate) rejected: Option<Generation>,
}

impl Demand {
    /// Whether the result of a call for `other` answers this one too.
    pub(crate) fn is_covered_by(self, other: Self) -> bool {
        let ttl = self.min_ttl.is_none() || other.min_ttl >= self.min_ttl;
        ttl && (self.rejected.is_none() || other.rejected >= self.rejected)
    }

    /// Whether the token is valid for long enough.
    pub(crate) fn is_met(self, token: &Token, now: Timestamp) -> bool {
        let left = token.expires_in(now);
        left > 0 && left >= self.wanted(token).as_secs()
    }

    fn wanted(self, token: &Token) -> Duration {
        self.min_ttl.unwrap_or_else(|| DEFAULT_MIN_TTL.min(token.granted / 2))
    }

    /// Judges the token that a call for this demand, or for one that covers it, has just returned.
    ///
    /// The broker's word counts if the answer took no longer than its own margin, so that a caller can have the
    /// longest lifetime that the broker grants.
    pub(crate) fn check(self, token: Token, now: Timestamp) -> Result<Token, Error> {
        const TRAVEL: Duration = Duration::from_secs(2);
        let wanted = self.wanted(&token);
        let left = token.time_left(now);
        if !left.is_zero() && token.granted >= wanted && left + TRAVEL >= wanted {
            return Ok(token);
        }
        Err(Error::TooShort { valid_for: token.expires_in(now), wanted: wanted.as_secs() })
    }
}

/// The result of a cache lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The token, and whether it is time to renew it in the background.
    Answer { token: Token, renew: bool },
    /// The last call failed recently.
    Fail(Error),
    /// The broker has to be asked.
    Miss,
}

#[derive(Debug, Default)]
pub(crate) struct CachedAccount {
    cached: Option<Cached>,
    failure: Option<Failed>,
}

#[derive(Debug)]
struct Cached {
    token: Token,
    requested_at: Timestamp,
    renew_at: Timestamp,
    /// The reported generation that the broker last answered with this token instead of a newer one, and when.
    confirmed: Option<(Generation, Timestamp)>,
}

#[derive(Debug)]
struct Failed {
    error: Error,
    /// When the broker's `retry_after` ends.
    retry_at: Timestamp,
    /// Until then, requests are answered with the error.
    until: Timestamp,
    /// Until then, nothing is renewed in the background.
    renew_after: Timestamp,
    in_a_row: u32,
}

impl CachedAccount {
    /// Answers a demand from the cache, if it can.
    pub(crate) fn look_up(&self, demand: Demand, now: Timestamp) -> Lookup {
        if let Some(cached) = self.cached.as_ref().filter(|cached| cached.answers(demand, now)) {
            let mut token = cached.token.clone();
            token.served_from = ServedFrom::Memory;
            return Lookup::Answer { token, renew: self.next_renewal(now).is_none_or(|due| due <= now) };
        }
        match &self.failure {
            Some(failed) if now < failed.until && failed.until.since(now) <= LONGEST_COOLDOWN * 2 => {
                Lookup::Fail(match failed.error.retry_after() {
                    Some(_) => failed.error.clone().with_retry_after(failed.retry_at.since(now)),
                    None => failed.error.clone(),
                })
            }
            _ => Lookup::Miss,
        }
    }

    /// When to renew the token in the background. `None` if there is no token and no failure to wait for; times from
    /// before the clock stepped back do not count.
    pub(crate) fn next_renewal(&self, now: Timestamp) -> Option<Timestamp> {
        let due =
            self.cached.as_ref().filter(|cached| cached.clock_is_sane(now)).map(|cached| cached.renew_at);
        let pause = self.failure.as_ref().map(|failed| failed.renew_after);
        due.max(pause.filter(|pause| pause.since(now) <= LONGEST_RENEWAL_PAUSE * 2))
    }

    /// When the token expires; the epoch without one.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.cached.as_ref().map_or_else(Timestamp::default, |cached| cached.token.expires_at)
    }

    /// Records the result of a call.
    pub(crate) fn store(&mut self, demand: Demand, token: Token, now: Timestamp, draw: Draw) {
        self.failure = None;
        if let Some(cached) = self.cached.as_mut().filter(|cached| cached.outlasts(&token, demand, now)) {
            cached.renew_at = cached.renew_at.max(now.plus(OLDER_TOKEN_PAUSE));
            return;
        }
        let confirmed = demand.rejected.filter(|rejected| token.generation <= *rejected);
        let confirmed = confirmed.map(|rejected| (rejected, now));
        let requested_at = token.expires_at.minus(token.granted);
        let renew_at = requested_at.plus(renewal_age(token.granted, draw));
        self.cached = Some(Cached { token, requested_at, renew_at, confirmed });
    }

    /// Records the failure of a call. The token stays, because it is valid until it expires.
    pub(crate) fn fail(&mut self, demand: Demand, error: &Error, now: Timestamp, draw: Draw) {
        // A fault in one caller's options must not delay others.
        if demand != Demand::default() && is_of_the_request(error) {
            return;
        }
        let in_a_row = self.failure.as_ref().map_or(0, |failed| failed.in_a_row.saturating_add(1));
        let backoff = FIRST_COOLDOWN.saturating_mul(2_u32.saturating_pow(in_a_row.min(16)));
        let requested = error.retry_after().unwrap_or_default();
        let pause =
            if requested.is_zero() { draw.jittered(backoff.min(LONGEST_COOLDOWN)) } else { requested };
        let pause = pause.min(LONGEST_COOLDOWN);
        let renewal_pause = draw.stretched(requested.max(backoff).min(LONGEST_RENEWAL_PAUSE));
        self.failure = Some(Failed {
            error: error.clone(),
            retry_at: now.plus(requested),
            until: now.plus(pause),
            renew_after: now.plus(renewal_pause),
            in_a_row,
        });
    }
}

impl Cached {
    fn answers(&self, demand: Demand, now: Timestamp) -> bool {
        self.clock_is_sane(now) && demand.is_met(&self.token, now) && self.settles(demand.rejected, now)
    }

    /// Whether the token's times fit the current clock.
    fn clock_is_sane(&self, now: Timestamp) -> bool {
        self.requested_at <= now.plus(CLOCK_STEP)
    }

    /// Whether this token stays although a call returned `token`. An outdated call, after a stopped clock or a later
    /// report, returns an older one; so does an instance of the broker that lags behind.
    ///
    /// But if the API refused this token, and the broker still answers the report with an older one, the broker's table
    /// was restored. Then this token would be refused until it expires.
    fn outlasts(&self, token: &Token, demand: Demand, now: Timestamp) -> bool {
        let is_refused = demand.rejected.is_some_and(|rejected| rejected >= self.token.generation);
        self.token.generation > token.generation && demand.is_met(&self.token, now) && !is_refused
    }

    /// Whether the cached token answers a report without a call.
    fn settles(&self, rejected: Option<Generation>, now: Timestamp) -> bool {
        let Some(rejected) = rejected else { return true };
        let confirmed_lately = self.confirmed.is_some_and(|(generation, at)| {
            generation == rejected && now < at.plus(REPORT_INTERVAL) && at <= now.plus(CLOCK_STEP)
        });
        self.token.generation > rejected || confirmed_lately
    }
}

/// The age at which a token is renewed: two thirds of its lifetime, or up to a tenth of that earlier, so that a fleet
/// that started together does not renew together.
fn renewal_age(lifetime: Duration, draw: Draw) -> Duration {
    (lifetime * 2 / 3).mul_f64(1.0 - draw.fraction() / 10.0)
}

/// Whether an error concerns only this request, and not the next one.
pub(crate) fn is_of_the_request(error: &Error) -> bool {
    matches!(error, Error::TooShort { .. } | Error::StillWaiting(_))
        || matches!(error.code(), Code::Broker(ErrorCode::InvalidRequest | ErrorCode::UnsupportedGrantType))
}

#[cfg(test)]
mod tests;
