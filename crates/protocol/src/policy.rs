//! The settings of the protocol, and the arithmetic of times that follows from them.

use crate::{AccountName, Draw, Lease, Pair, Timestamp, UpstreamFault};
use std::time::Duration;

/// The span over which the upstream counts logins: ten per minute and address.
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// Kept free for the conditional write that follows an upstream call. If the store takes longer, the pair is handed
/// out before it is saved, and the next request saves it.
pub const COMMIT_RESERVE: Duration = Duration::from_secs(1);
/// After the store failed, the cache answers for this long before the store is read again.
pub const STORE_RETRY: Duration = Duration::from_secs(1);
/// An operation of the store that takes longer has failed.
pub const STORE_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long an instance trusts that a rejected secret version is still the current one.
pub const REJECTED_SECRET_RECHECK: Duration = Duration::from_secs(30);
/// The assumed life of an access token whose expiry is missing, unreadable, in the past or impossibly far ahead.
pub(crate) const ASSUMED_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest believed life of an access token, ten times the documented one. A longer one counts as missing.
pub(crate) const LONGEST_ACCESS_LIFETIME: Duration = Duration::from_secs(10 * 7 * 86_400);
/// The longest believed life of a refresh token, likewise.
pub(crate) const LONGEST_REFRESH_LIFETIME: Duration = Duration::from_secs(10 * 180 * 86_400);
/// The shortest life that is handed out, because `expires_in` is in whole seconds.
pub(crate) const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// The longest lease that can be set.
const LONGEST_LEASE: Duration = Duration::from_secs(600);
/// A permit counts for at most the longest window, its freshness, the clock margin and two upstream calls, each at its
/// longest.
const LONGEST_PERMIT: Duration = Duration::from_secs(3600 + 60 + 60 + 2 * 25);
/// A call may arrive at most this long after the request that caused it: the longest function timeout, two upstream
/// calls and two clock margins, each at its longest.
const LONGEST_SETTLING: Duration = Duration::from_secs(15 * 60 + 2 * 25 + 2 * 60);
/// The largest clock margin that can be set.
const LONGEST_MARGIN: Duration = Duration::from_secs(60);
const LONGEST_RATE_LIMIT: Duration = Duration::from_secs(3600);
/// [`LONGEST_RATE_LIMIT`], with the tenth by which a pause may be stretched.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600 + 360);
const FIRST_SECRET_RETRY: Duration = Duration::from_secs(6 * 3600);
const LONGEST_SECRET_RETRY: Duration = Duration::from_secs(24 * 3600);
/// A little less than two intervals of maintenance, so that a run is not missed by moments.
const FIRST_REVOCATION_PAUSE: Duration = Duration::from_secs(10 * 60 - 30);
const LONGEST_REVOCATION_PAUSE: Duration = Duration::from_secs(6 * 3600);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// A pair found dead within this time of its issue died young.
pub(crate) const YOUNG: Duration = Duration::from_secs(2 * 3600);
/// The first early deaths are believed immediately, so that a real revocation heals at once.
const DEATHS_BELIEVED_AT_ONCE: u32 = 3;
const FIRST_TRUST: Duration = Duration::from_secs(60);
const LONGEST_TRUST: Duration = Duration::from_secs(3600);
/// One probe answers all reports for this long, or for a lease if that is longer. An API may refuse a request for
/// another reason, and a thousand callers may report that at once.
const SHORTEST_PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// An operator's refresh runs at most once in this time.
pub(crate) const REPLACE_INTERVAL: Duration = Duration::from_secs(60);
/// After a failed write of the record, other requests of the instance do not try again for this long.
pub(crate) const WRITE_RETRY: Duration = Duration::from_secs(3);
/// After a failed read of a secret, or a missing secret, it is not read again for this long.
pub(crate) const SECRET_RETRY: Duration = Duration::from_secs(3);
const EARLY_REFRESH_ATTEMPTS: u32 = 24;
const LONGEST_EARLY_REFRESH_PAUSE: Duration = Duration::from_secs(3600);
/// When a pair becomes due, a request refreshes it with probability 2^-N.
const EARLY_REFRESH_BITS: f64 = 20.0;
/// The longest pause of a request before it tries to take the lease.
const MAX_CONTENTION_JITTER: Duration = Duration::from_millis(250);
/// The contention jitter is designed for herds of 2^N requests.
const CONTENTION_BITS: f64 = 12.0;

/// The operator's settings. docs/CONFIGURATION.md has their ranges and variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Logins in any 60 s, for the whole fleet and all accounts.
    pub login_budget: usize,
    /// A pair is renewed this long before its expiry.
    pub refresh_ahead: Duration,
    /// The longest time for which a caller may keep a token.
    pub max_ttl: Duration,
    /// The longest time for which an instance answers from its cache without reading the table.
    pub memory_ttl: Duration,
    /// The longest duration of one upstream call, connect included.
    pub upstream_timeout: Duration,
    /// How long one attempt may hold the right to renew.
    pub lease: Duration,
    /// The tolerated difference between two clocks.
    pub clock_margin: Duration,
}

impl Policy {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        login_budget: 5,
        refresh_ahead: Duration::from_secs(86_400),
        max_ttl: Duration::from_secs(900),
        memory_ttl: Duration::from_secs(30),
        upstream_timeout: Duration::from_secs(5),
        lease: Duration::from_secs(15),
        clock_margin: Duration::from_secs(2),
    };

    /// Whether a lease outlasts a refresh and the login after it, by any clock within the margin. The protocol is safe
    /// only with such a policy.
    pub fn has_long_enough_lease(&self) -> bool {
        self.lease > self.upstream_timeout * 2 + self.clock_margin
    }

    /// When a pair is due for renewal: the configured time before its expiry, or the account's own, or half of its
    /// lifetime if that is shorter, and later by up to a tenth of that. The spread keeps accounts that logged in
    /// together from renewing together, and is the same for every instance.
    pub fn due_at(&self, account: &AccountName, pair: &Pair) -> Timestamp {
        let ahead = pair.refresh_ahead.unwrap_or(self.refresh_ahead).min(lifetime(pair) / 2);
        let spread = ahead.mul_f64(spread_of(account, pair) / 10.0);
        pair.expires_at.minus(ahead.saturating_sub(spread))
    }

    /// How long a caller may still keep the token, even if this clock is behind by the margin.
    pub fn time_left(&self, pair: &Pair, now: Timestamp) -> Duration {
        pair.expires_at.minus(self.clock_margin).since(now)
    }

    /// Whether the pair can be handed to a caller who wants to keep it for `min_ttl`. Half of the pair's lifetime is
    /// enough: otherwise a short-lived pair would be renewed at every request.
    pub fn usable(&self, pair: &Pair, min_ttl: Duration, now: Timestamp) -> bool {
        self.time_left(pair, now) >= self.wanted(pair, min_ttl)
    }

    /// The account's own renewal time may be the earliest that its upstream accepts. So until a pair is due by it, any
    /// remaining life is enough.
    fn wanted(&self, pair: &Pair, min_ttl: Duration) -> Duration {
        let when_due = |ahead: Duration| ahead.saturating_sub(ahead / 10).saturating_sub(self.clock_margin);
        let enough = pair.refresh_ahead.map_or(Duration::MAX, when_due).min(lifetime(pair) / 2);
        min_ttl.min(enough).max(SHORTEST_TTL)
    }

    /// Whole seconds for which a caller may keep the token.
    pub fn expires_in_seconds(&self, pair: &Pair, now: Timestamp) -> u64 {
        self.time_left(pair, now).min(self.max_ttl).as_secs()
    }

    /// Whether this request renews a pair that is due but still usable: probabilistic early refresh.
    ///
    /// The probability doubles every twentieth of the way to the instant at which such a request would have to wait. It
    /// is tiny at first, so that a thousand instances do not all try, and 1 at the end, so that no request has to wait.
    pub fn selects_early_refresh(
        &self,
        account: &AccountName,
        pair: &Pair,
        min_ttl: Duration,
        now: Timestamp,
        draw: Draw,
    ) -> bool {
        let due = self.due_at(account, pair);
        if now < due {
            return false;
        }
        let last = pair.expires_at.minus(self.clock_margin).minus(self.wanted(pair, min_ttl));
        if now >= last {
            return true;
        }
        let progress = now.since(due).as_secs_f64() / last.since(due).as_secs_f64();
        draw.fraction() < (-EARLY_REFRESH_BITS * (1.0 - progress)).exp2()
    }

    /// Whether enough time is left for an upstream call and the write that follows it.
    pub fn has_time_for_a_renewal(&self, now: Timestamp, deadline: Timestamp) -> bool {
        now.plus(self.upstream_timeout + COMMIT_RESERVE) <= deadline
    }

    /// The latest instant at which an upstream call may leave. The lease must outlast the call, even by a clock that is
    /// ahead by the margin, and there must be time left to save the result.
    pub fn latest_send(&self, lease: &Lease, deadline: Timestamp) -> Timestamp {
        let by_lease = lease.until.minus(self.upstream_timeout).minus(self.clock_margin);
        let by_caller = deadline.minus(self.upstream_timeout).minus(COMMIT_RESERVE);
        by_lease.min(by_caller)
    }

    /// How long after a call left it may still arrive, by a clock that is off by the margin: it may travel for one
    /// timeout, and the kernel may deliver it as long again after it was given up.
    pub fn longest_travel(&self) -> Duration {
        self.upstream_timeout * 2 + self.clock_margin
    }

    /// How old a permit may be when its login leaves.
    pub fn permit_freshness(&self) -> Duration {
        self.clock_margin.max(Duration::from_secs(1))
    }

    /// How long a permit counts. Longer than the window of the limit, because the upstream counts arrivals: a login may
    /// leave while its permit is fresh, travel for as long as a call may take, be delivered by the kernel that long
    /// again after the call was given up, and be dated by a clock that is off by the margin.
    pub fn permit_window(&self, window: Duration) -> Duration {
        window + self.permit_freshness() + self.longest_travel()
    }

    /// The cooldown after this many failures in a row. After a refused login, a minute, doubled each time up to an
    /// hour, and up to a tenth more: a provider may lock out a user after several. Otherwise 2 s, doubled each time up
    /// to a minute, jittered; or what the upstream asks for, if that is longer, but at most an hour, and up to a tenth
    /// more.
    pub fn cooldown(
        &self,
        fault: UpstreamFault,
        failures: u32,
        retry_after: Option<Duration>,
        draw: Draw,
    ) -> Duration {
        let own = match fault {
            UpstreamFault::Refused => {
                draw.stretched(doubled(LOGIN_WINDOW, failures.saturating_sub(1), LONGEST_RATE_LIMIT))
            }
            UpstreamFault::NoResponse | UpstreamFault::Unexpected => {
                draw.jittered(doubled(FIRST_BACKOFF, failures, LONGEST_BACKOFF))
            }
        };
        own.max(draw.stretched(retry_after.unwrap_or_default().min(LONGEST_RATE_LIMIT)))
    }

    /// How long a secret version is not tried again after this many rejections in a row: 6 h, doubled each time up to a
    /// day, and up to a tenth more.
    pub fn secret_retry(&self, refusals: u32, draw: Draw) -> Duration {
        draw.stretched(doubled(FIRST_SECRET_RETRY, refusals.saturating_sub(1), LONGEST_SECRET_RETRY))
    }

    /// How long maintenance does not try a revocation after this many failures in a row: the next run tries it, and then
    /// the pauses double up to 6 h. Most failures are refusals, which last until an operator corrects something.
    pub fn revocation_retry(&self, failures: u32) -> Duration {
        let doublings = failures.checked_sub(2);
        doublings
            .map_or(Duration::ZERO, |times| doubled(FIRST_REVOCATION_PAUSE, times, LONGEST_REVOCATION_PAUSE))
    }

    /// How long after its issue a pair is trusted, whatever callers report: not at all at first, then from a minute to
    /// an hour, doubled by each generation in a row that died young. A caller whose 401 has another cause, a probe that
    /// answers 401 for the same reason, or another login of the same user would otherwise cause a renewal each time.
    pub fn trusted_for(&self, young_deaths: u32) -> Duration {
        let doublings = young_deaths.checked_sub(DEATHS_BELIEVED_AT_ONCE);
        doublings.map_or(Duration::ZERO, |times| doubled(FIRST_TRUST, times, LONGEST_TRUST))
    }

    /// How long one probe answers all reports.
    pub fn probe_interval(&self) -> Duration {
        SHORTEST_PROBE_INTERVAL.max(self.lease)
    }

    /// How long no renewal is tried after an early renewal failed while the pair is usable: a part of the pair's
    /// remaining life.
    pub fn early_refresh_pause(&self, pair: &Pair, now: Timestamp) -> Duration {
        (self.time_left(pair, now) / EARLY_REFRESH_ATTEMPTS).min(LONGEST_EARLY_REFRESH_PAUSE)
    }

    /// The cooldown after a 429: what the upstream asks for, at least the minute over which it counts, at most an
    /// hour, and up to a tenth more.
    pub fn rate_limit_pause(&self, retry_after: Option<Duration>, draw: Draw) -> Duration {
        draw.stretched(retry_after.unwrap_or_default().clamp(LOGIN_WINDOW, LONGEST_RATE_LIMIT))
    }

    /// How long a request pauses before it tries to take the lease. In a herd that needs the same renewal, a few
    /// requests go first, and their number doubles every twelfth of a quarter second.
    pub fn contention_jitter(&self, draw: Draw) -> Duration {
        let part = 1.0 + draw.fraction().log2() / CONTENTION_BITS;
        MAX_CONTENTION_JITTER.mul_f64(part.max(0.0))
    }

    /// The pause before the next read of a record, or the next try of a write. Grows with `tries`, jittered.
    pub fn poll_pause(&self, tries: u32, draw: Draw) -> Duration {
        draw.jittered(doubled(FIRST_POLL, tries, LONGEST_POLL))
    }
}

/// The kinds of stored instants, each with the longest span after its write. The spans follow from the longest settings
/// of any instance, never from the reader's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstantKind {
    Lease,
    Permit,
    /// A cooldown, a block, the pause before a probe or an early refresh, trust after young deaths.
    Pause,
    SecretRetry,
    RevocationRetry,
    /// When no call of a marked refresh token can arrive any more.
    Settling,
}

/// Whether a stored instant lies ahead, but not further than its kind can. A wrong clock or a restored backup wrote one
/// that lies further. It is ignored, so that it blocks no one.
pub(crate) fn lies_ahead(kind: InstantKind, until: Timestamp, now: Timestamp) -> bool {
    now < until && !lies_too_far(kind, until, now)
}

/// Whether a stored instant lies further ahead than its kind can.
pub(crate) fn lies_too_far(kind: InstantKind, until: Timestamp, now: Timestamp) -> bool {
    let longest = match kind {
        InstantKind::Lease => LONGEST_LEASE,
        InstantKind::Permit => LONGEST_PERMIT,
        InstantKind::Pause => LONGEST_PAUSE,
        InstantKind::Settling => LONGEST_SETTLING,
        InstantKind::RevocationRetry => LONGEST_REVOCATION_PAUSE,
        InstantKind::SecretRetry => LONGEST_SECRET_RETRY + LONGEST_SECRET_RETRY / 10,
    };
    until.since(now) > longest + LONGEST_MARGIN
}

/// A span, doubled this many times, up to the longest.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

fn lifetime(pair: &Pair) -> Duration {
    pair.expires_at.since(pair.issued_at)
}

/// A fraction that is the same for every instance, and differs by account and pair (FNV-1a, and the first half of the
/// finalizer of splitmix64, which spreads it over the significant bits).
fn spread_of(account: &AccountName, pair: &Pair) -> f64 {
    let bytes = account.as_str().bytes().chain(pair.generation.0.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Draw((hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)).fraction()
}

#[cfg(test)]
mod tests;
