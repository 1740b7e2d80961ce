//! One instance of the function: its clock, and what runs on it.

use crate::{
    Plan, baselines::requests::BaselineInstance, own_clock::OwnClock, plans::Clocks, process::Process,
    strategy::Strategy,
};
use fastrand::Rng;
use protocol::{Policy, Timestamp, millis};

pub(crate) struct Instance {
    /// Unique for every instance that ever lived. It distinguishes a message for a dead instance from one for its
    /// successor.
    pub(crate) life: u64,
    /// How far its clock is ahead of true time. Any two clocks differ by the tolerated margin at most.
    clock_ahead_ms: i64,
    pub(crate) runs: Runs,
}

/// What runs on an instance.
pub(crate) enum Runs {
    Broker(Box<Process>),
    Baseline(Box<BaselineInstance>),
}

impl Instance {
    pub(crate) fn new(life: u64, strategy: Strategy, plan: &Plan, policy: &Policy, rng: &mut Rng) -> Self {
        let half_margin_ms = (millis(policy.clock_margin) / 2).cast_signed();
        let clock_ahead_ms = rng.i64(-half_margin_ms..=half_margin_ms);
        let runs = match strategy {
            Strategy::Broker => {
                // One instance in four has the right time.
                let clock = match plan.clocks {
                    Clocks::FarOff if !life.is_multiple_of(4) => OwnClock::FarOff(life),
                    Clocks::Step if !life.is_multiple_of(4) => OwnClock::Steps(life),
                    _ => OwnClock::Right(clock_ahead_ms),
                };
                Runs::Broker(Box::new(Process::new(*policy, plan.limits(), clock, rng.fork())))
            }
            _ => Runs::Baseline(Box::default()),
        };
        Self { life, clock_ahead_ms, runs }
    }

    /// What its clock shows at an instant of true time.
    pub(crate) fn clock(&self, true_ms: u64) -> Timestamp {
        Timestamp::from_millis(true_ms.saturating_add_signed(self.clock_ahead_ms))
    }

    /// True time when its clock shows this.
    pub(crate) fn true_ms(&self, clock: Timestamp) -> u64 {
        clock.as_millis().saturating_add_signed(-self.clock_ahead_ms)
    }

    /// Whether it takes another request. A baseline serves one at a time.
    pub(crate) fn accepts(&self, now_ms: u64) -> bool {
        match &self.runs {
            Runs::Broker(process) => process.accepts(now_ms),
            Runs::Baseline(baseline) => baseline.invocation.is_none(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        match &self.runs {
            Runs::Broker(process) => process.tasks.is_empty(),
            Runs::Baseline(baseline) => baseline.invocation.is_none(),
        }
    }

    /// Its process, unless another life has begun.
    pub(crate) fn process_of(&mut self, life: u64) -> Option<&mut Process> {
        if self.life == life { self.process() } else { None }
    }

    pub(crate) fn process(&mut self) -> Option<&mut Process> {
        match &mut self.runs {
            Runs::Broker(process) => Some(process),
            Runs::Baseline(_) => None,
        }
    }

    pub(crate) fn baseline(&mut self) -> Option<&mut BaselineInstance> {
        match &mut self.runs {
            Runs::Broker(_) => None,
            Runs::Baseline(baseline) => Some(baseline),
        }
    }
}
