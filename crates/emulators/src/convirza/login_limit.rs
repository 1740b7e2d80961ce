//! The login limit: the number of logins per address in any 60 seconds. Refused logins count too.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use time::OffsetDateTime;

const WINDOW: Duration = Duration::from_mins(1);

/// The logins of the last minute, by address.
#[derive(Debug)]
pub(super) struct LoginLimit {
    limit_per_minute: u32,
    arrivals: HashMap<IpAddr, VecDeque<OffsetDateTime>>,
    most_in_a_minute: usize,
}

impl LoginLimit {
    pub(super) fn new(limit_per_minute: u32) -> Self {
        Self { limit_per_minute, arrivals: HashMap::new(), most_in_a_minute: 0 }
    }

    /// Counts a login that arrives now. If it exceeds the limit, returns the seconds until the next one may pass, if
    /// none arrives before.
    pub(super) fn arrive(&mut self, address: IpAddr, now: OffsetDateTime) -> Option<u64> {
        let arrivals = self.arrivals.entry(address).or_default();
        while arrivals.front().is_some_and(|first| *first + WINDOW <= now) {
            arrivals.pop_front();
        }
        arrivals.push_back(now);
        // A minute with the most arrivals ends with an arrival, so checking at each arrival is enough.
        self.most_in_a_minute = self.most_in_a_minute.max(arrivals.len());

        let limit = self.limit_per_minute as usize;
        if arrivals.len() <= limit {
            return None;
        }
        // Once this arrival has left the window, fewer than `limit` are in it.
        let blocking = arrivals.get(arrivals.len() - limit.max(1))?;
        let wait = *blocking + WINDOW - now;
        Some(wait.unsigned_abs().as_secs() + 1)
    }

    pub(super) fn limit_per_minute(&self) -> u32 {
        self.limit_per_minute
    }

    /// The logins of the last minute, from the address that sent the most.
    pub(super) fn in_the_last_minute(&self, now: OffsetDateTime) -> usize {
        let recent = |arrivals: &VecDeque<OffsetDateTime>| {
            arrivals.iter().filter(|arrival| **arrival + WINDOW > now).count()
        };
        self.arrivals.values().map(recent).max().unwrap_or_default()
    }

    pub(super) fn most_in_a_minute(&self) -> usize {
        self.most_in_a_minute
    }
}
