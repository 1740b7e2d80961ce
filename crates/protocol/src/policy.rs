//! The numbers that an operator may set, and the arithmetic of times that follows from them.

use super::{
    record::{AccountName, Cooldown, Lease, Pair},
    time::{Draw, Timestamp},
};
use std::time::Duration;

/// What the upstream counts logins over: ten in any minute, by address.
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// Kept free for the conditional write that follows an upstream call. Where the store takes longer, the pair
/// is handed out unsaved, and saved by the next request.
pub const COMMIT_RESERVE: Duration = Duration::from_secs(1);
/// After the store failed, memory answers this long before the store is asked again.
pub const STORE_RETRY: Duration = Duration::from_secs(1);
/// A secret version that is known to be parked is looked up again no sooner than this.
pub const PARKED_RECHECK: Duration = Duration::from_secs(30);
/// An access token whose expiry is missing, unreadable or past is taken to live this long.
pub const ASSUMED_LIFETIME: Duration = Duration::from_secs(3600);
/// The shortest lifetime worth handing out, since `expires_in` counts whole seconds.
pub const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// The function's timeout, as the template sets it.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);
/// API Gateway gives up after 29 s, and began to count a little earlier than the function.
const GATEWAY_LIMIT: Duration = Duration::from_secs(28);
/// Kept free for the answer's way back.
const ANSWER_RESERVE: Duration = Duration::from_millis(300);

/// No pause or lease that the protocol writes is ever longer than this. One that seems to be was written by
/// a clock that is wrong by hours, and is ignored: it must not lock anybody out.
const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 3600);
const LONGEST_RATE_LIMIT: Duration = Duration::from_secs(3600);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// How unlikely it is that one request renews a pair the moment it is due: one in 2 to this power.
const SHYNESS_BITS: f64 = 20.0;
/// How long one request stands back at most before it takes the lease.
const LONGEST_STAND_BACK: Duration = Duration::from_millis(250);
/// The crowd that standing back is made for: 2 to this power.
const CROWD_BITS: f64 = 12.0;

/// Which door a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A direct invoke.
    Direct,
    /// API Gateway or a Function URL.
    Http,
}

impl Entry {
    /// When the caller of a request that arrived at `arrived_at` is gone, given the instant at which Lambda
    /// ends the invocation. Less a reserve for the answer itself.
    pub fn deadline(self, lambda_deadline: Timestamp, arrived_at: Timestamp) -> Timestamp {
        // A deadline that is past when the request arrives is none: some local runtimes send zero.
        let given = Some(lambda_deadline).filter(|deadline| *deadline > arrived_at);
        let invocation = given.unwrap_or_else(|| arrived_at.plus(FUNCTION_TIMEOUT));
        match self {
            Self::Direct => invocation.minus(ANSWER_RESERVE),
            Self::Http => invocation.min(arrived_at.plus(GATEWAY_LIMIT)).minus(ANSWER_RESERVE),
        }
    }
}

/// What an operator may set. Checked by the configuration: see there for ranges and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Logins in any 60 s, over the whole fleet and all accounts.
    pub login_budget: usize,
    /// How long before its expiry a pair is renewed.
    pub refresh_ahead: Duration,
    /// The longest time a caller is told to keep a token.
    pub max_ttl: Duration,
    /// How long an instance serves its memory copy without a look at the table.
    pub memory_ttl: Duration,
    /// The longest that one upstream call takes, connecting included.
    pub upstream_timeout: Duration,
    /// How long one attempt may hold the right to renew.
    pub lease: Duration,
    /// The tolerated difference between two clocks.
    pub clock_margin: Duration,
}

impl Policy {
    /// When a pair is due for renewal: ahead of its expiry by the configured time, or by half of its lifetime
    /// where that is shorter, and later by up to a tenth of that, so that accounts which logged in together
    /// do not renew together. The same for every instance.
    pub fn due_at(&self, account: &AccountName, pair: &Pair) -> Timestamp {
        let ahead = self.refresh_ahead.min(lifetime(pair) / 2);
        let spread = ahead.mul_f64(spread_of(account, pair) / 10.0);
        pair.expires_at.minus(ahead.saturating_sub(spread))
    }

    /// How long a caller may still keep the token, by a clock that may be behind by the margin.
    pub fn time_left(&self, pair: &Pair, now: Timestamp) -> Duration {
        pair.expires_at.minus(self.clock_margin).since(now)
    }

    /// Whether the pair can be handed to a caller who wants to keep it for `min_ttl`. A pair that lives too
    /// short for that has to do with half of its lifetime, or it would be renewed at every request.
    pub fn usable(&self, pair: &Pair, min_ttl: Duration, now: Timestamp) -> bool {
        self.time_left(pair, now) >= wanted(pair, min_ttl)
    }

    /// Whole seconds that a caller may keep the token.
    pub fn expires_in_seconds(&self, pair: &Pair, now: Timestamp) -> u64 {
        self.time_left(pair, now).min(self.max_ttl).as_secs()
    }

    /// Whether this request renews a pair that is due but still usable. The odds double every twentieth of
    /// the way to the instant at which such a request would have to wait: hardly ever at first, so that a
    /// thousand instances do not all try at once, and surely at the end, so that nobody waits.
    pub fn volunteers(
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
        let last = pair.expires_at.minus(self.clock_margin).minus(wanted(pair, min_ttl));
        if now >= last {
            return true;
        }
        let progress = now.since(due).as_secs_f64() / last.since(due).as_secs_f64();
        draw.fraction() < (-SHYNESS_BITS * (1.0 - progress)).exp2()
    }

    /// The latest instant at which an upstream call may leave: the lease must outlast it, by this clock, and
    /// the caller must still be there to commit what it brings. Where another clock is ahead, the lease may
    /// seem to lapse during the call; then a login too many is made, and the conditional writes sort it out.
    pub fn latest_send(&self, lease: &Lease, deadline: Timestamp) -> Timestamp {
        let by_lease = lease.until.minus(self.upstream_timeout);
        let by_caller = deadline.minus(self.upstream_timeout).minus(COMMIT_RESERVE);
        by_lease.min(by_caller)
    }

    /// How old a debit may be when its login leaves.
    pub fn debit_freshness(&self) -> Duration {
        self.clock_margin.max(Duration::from_secs(1))
    }

    /// How long a debit counts. Longer than the upstream's minute, because what the upstream counts is
    /// arrivals: a login may leave as late as its debit is fresh, be sent as late as a call may take, be
    /// delivered by the kernel as long again after the call was given up, and have been written down by a
    /// clock that is off by the margin.
    pub fn debit_window(&self) -> Duration {
        LOGIN_WINDOW + self.debit_freshness() + self.clock_margin + self.upstream_timeout * 2
    }

    /// The pause after so many failures in a row: doubled each time, jittered, at most a minute.
    pub fn backoff(&self, failures: u32, draw: Draw) -> Duration {
        let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16)));
        draw.jittered(doubled.min(LONGEST_BACKOFF))
    }

    /// The pause after a 429: what the upstream asks for, but at least the minute that it counts over and at
    /// most an hour, since nobody knows what it may send.
    pub fn rate_limit_pause(&self, asked: Option<Duration>, draw: Draw) -> Duration {
        draw.stretched(asked.unwrap_or_default().clamp(LOGIN_WINDOW, LONGEST_RATE_LIMIT))
    }

    /// How long a request stands back before it takes the lease, so that of a thousand which find the same
    /// pair used up at the same instant only a few try. The number of those that go ahead doubles every so
    /// often: few at first, whatever their number, and all after a quarter of a second.
    pub fn stand_back(&self, draw: Draw) -> Duration {
        let part = 1.0 + draw.fraction().log2() / CROWD_BITS;
        LONGEST_STAND_BACK.mul_f64(part.max(0.0))
    }

    /// The pause before the next look at a record that somebody else is renewing.
    pub fn poll_pause(&self, looks: u32, draw: Draw) -> Duration {
        let grown = FIRST_POLL.saturating_mul(2_u32.saturating_pow(looks.min(8)));
        draw.jittered(grown.min(LONGEST_POLL))
    }
}

/// Whether an instant that somebody wrote down lies ahead, and not so far that only a wrong clock explains it.
pub fn lies_ahead(until: Timestamp, now: Timestamp) -> bool {
    now < until && until.since(now) <= LONGEST_PAUSE
}

/// The lease, if it is held at this instant.
pub fn held(lease: Option<&Lease>, now: Timestamp) -> Option<Lease> {
    lease.copied().filter(|lease| lies_ahead(lease.until, now))
}

/// The cooldown, if it lasts at this instant.
pub fn cooling(cooldown: Option<&Cooldown>, now: Timestamp) -> Option<Cooldown> {
    cooldown.copied().filter(|cooldown| lies_ahead(cooldown.until, now))
}

fn lifetime(pair: &Pair) -> Duration {
    pair.expires_at.since(pair.issued_at)
}

fn wanted(pair: &Pair, min_ttl: Duration) -> Duration {
    min_ttl.min(lifetime(pair) / 2).max(SHORTEST_TTL)
}

/// A fraction that is the same for every instance, and different for every account and pair (FNV-1a, and the
/// first half of the finalizer of splitmix64 to spread it over the bits that count).
fn spread_of(account: &AccountName, pair: &Pair) -> f64 {
    let bytes = account.as_str().bytes().chain(pair.generation.0.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Draw((hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)).fraction()
}

#[cfg(test)]
mod tests;
