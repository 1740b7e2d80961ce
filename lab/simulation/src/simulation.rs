//! One plan with one seed.

use crate::{Checks, Plan, Strategy, Trace, world::World};

/// A plan and a seed. They determine a run to its last event.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Load, faults and incidents.
    pub plan: Plan,
    /// The seed of the only random number generator.
    pub seed: u64,
    /// The command that repeats the run. Printed when a check fails.
    pub command: String,
}

impl Simulation {
    /// Runs a fleet with the broker. The trace holds what happened to it.
    ///
    /// # Panics
    /// If the broker breaks an invariant.
    pub fn broker(&self) -> (Checks, Trace) {
        World::with_broker(self).run()
    }

    /// Runs a fleet with another strategy. The requests arrive at the same times, under the same faults.
    pub fn baseline(&self, strategy: Strategy, trace: &Trace) -> Checks {
        World::with_baseline(strategy, self, trace).run().0
    }
}
