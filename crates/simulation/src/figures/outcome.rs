//! What is told of a plan: the same figures for each strategy.

use super::simulation::{
    checks::{Checks, Tally},
    figures::Figures,
    plans::Plan,
    strategy::Strategy,
};

/// A plan, and how each strategy fared.
pub struct Outcome {
    pub plan: Plan,
    pub seed: u64,
    pub runs: Vec<Run>,
}

/// One strategy's run through a plan.
pub struct Run {
    pub strategy: Strategy,
    pub tally: Tally,
    pub figures: Figures,
    /// How long each request waited that got a token, the shortest first.
    pub waits_ms: Vec<u64>,
}

impl Outcome {
    /// The broker comes last, so that it is drawn over the others.
    pub fn new(plan: Plan, seed: u64, runs: Vec<(Strategy, Checks)>) -> Self {
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
    /// So long did at least `percent` of the requests wait that got a token, or less.
    pub fn wait_ms(&self, percent: usize) -> u64 {
        let place = (self.waits_ms.len() * percent).div_ceil(100).saturating_sub(1);
        self.waits_ms.get(place).copied().unwrap_or(0)
    }

    /// The part of all requests that had no token after so long.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 requests")]
    pub fn unserved_after(&self, wait_ms: u64) -> f64 {
        let served = self.waits_ms.partition_point(|wait| *wait <= wait_ms) as f64;
        1.0 - served / self.tally.requests.max(1) as f64
    }

    /// Refresh tokens that arrived a second time.
    pub fn sent_twice(&self) -> u64 {
        self.tally.broken.get("I2").copied().unwrap_or(0)
    }
}
