//! The data of the charts. It is counted during a run; no check depends on it.

use crate::{HOUR, MINUTE, world::START_MS};
use std::collections::BTreeMap;

/// What the charts and the table show of a run, besides its tally.
#[derive(Default)]
pub struct Figures {
    /// Logins that arrived upstream, by the minute of the run.
    pub logins_by_minute: BTreeMap<u64, u32>,
    /// The ages of the pairs that were handed out, as sum in milliseconds and count, by the hour of the run.
    pub ages_by_hour: BTreeMap<u64, (u64, u64)>,
    /// How long each request that got a token waited.
    pub waits_ms: Vec<u64>,
    /// Reads of the table.
    pub reads: u64,
    /// Writes of the table, applied or not.
    pub writes: u64,
    /// Writes whose condition was not met.
    pub conflicts: u64,
}

impl Figures {
    pub(crate) fn login(&mut self, now_ms: u64) {
        *self.logins_by_minute.entry((now_ms - START_MS) / MINUTE).or_default() += 1;
    }

    pub(crate) fn answered(&mut self, wait_ms: u64, age_ms: u64, now_ms: u64) {
        self.waits_ms.push(wait_ms);
        let (sum_ms, answers) = self.ages_by_hour.entry((now_ms - START_MS) / HOUR).or_default();
        *sum_ms += age_ms;
        *answers += 1;
    }
}
