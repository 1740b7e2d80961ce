//! The figures of one plan: the same for each strategy.

use token_broker_simulation::{Checks, Figures, Plan, Strategy, Tally};

/// A plan, and one run of each strategy.
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) seed: u64,
    pub(crate) runs: Vec<Run>,
}

pub(crate) struct Run {
    pub(crate) strategy: Strategy,
    pub(crate) tally: Tally,
    pub(crate) figures: Figures,
    /// The waits of the requests that got a token, in ascending order.
    pub(crate) waits_ms: Vec<u64>,
}

impl Outcome {
    /// The broker comes last, so that it is drawn over the baselines.
    pub(crate) fn new(plan: Plan, seed: u64, runs: Vec<(Strategy, Checks)>) -> Self {
        let run = |(strategy, checks): (Strategy, Checks)| {
            let Checks { tally, mut figures, .. } = checks;
            let mut waits_ms = std::mem::take(&mut figures.waits_ms);
            waits_ms.sort_unstable();
            Run { strategy, tally, figures, waits_ms }
        };
        Self { plan, seed, runs: runs.into_iter().map(run).collect() }
    }
}

impl Run {
    /// A percentile of the waits.
    pub(crate) fn wait_ms(&self, percent: usize) -> u64 {
        let place = (self.waits_ms.len() * percent).div_ceil(100).saturating_sub(1);
        self.waits_ms.get(place).copied().unwrap_or(0)
    }

    /// The fraction of all requests that had no token after this wait.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 requests")]
    pub(crate) fn unserved_after(&self, wait_ms: u64) -> f64 {
        let served = self.waits_ms.partition_point(|wait| *wait <= wait_ms) as f64;
        1.0 - served / self.tally.requests.max(1) as f64
    }

    /// Refresh tokens that arrived upstream a second time.
    pub(crate) fn sent_twice(&self) -> u64 {
        self.tally.broken.get("I2").copied().unwrap_or(0)
    }
}
