//! The load: callers with a daily rhythm and bursts, and the schedule.

use crate::{
    DAY, MINUTE, SECOND, Strategy,
    faults::Fault,
    world::{Arrival, Occurrence, START_MS, World},
};
use protocol::{Generation, Secret};
use std::{f64::consts::TAU, time::Duration};

/// One arrival in this many is a burst.
const ARRIVALS_PER_BURST: u32 = 500;

pub(crate) struct Load {
    /// What callers last received, by account.
    pub(crate) handed_out: Vec<Option<(Generation, Secret)>>,
    /// Every request so far, for the trace.
    pub(crate) arrivals: Vec<Arrival>,
}

impl Load {
    pub(crate) fn new(accounts: usize) -> Self {
        Self { handed_out: vec![None; accounts], arrivals: Vec::new() }
    }
}

impl World {
    pub(crate) fn next_arrival(&mut self) {
        let burst = self.rng.u32(..ARRIVALS_PER_BURST) == 0;
        let requests = if burst { self.rng.usize(2..=(self.instances.len() / 5).max(2)) } else { 1 };
        let account = self.rng.usize(..self.plan.accounts);
        for _ in 0..requests {
            self.bring(account, None);
        }
        let gap_ms = self.gap_ms();
        self.after(gap_ms, Occurrence::Load);
    }

    /// Exponential, with a mean that follows the time of day: nine times as many arrivals at noon as at midnight.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "gaps are positive and far below 2^53 ms"
    )]
    fn gap_ms(&mut self) -> u64 {
        let time_of_day = ((self.now_ms - START_MS) % DAY) as f64 / DAY as f64;
        let busy = 1.0 - 0.8 * (TAU * time_of_day).cos();
        let mean_ms = DAY as f64 / (self.plan.requests_a_day as f64 * busy);
        (-(1.0 - self.rng.f64()).ln() * mean_ms).ceil() as u64
    }

    fn bring(&mut self, account: usize, instance: Option<usize>) {
        let choices = [60, 60, 60, 300, 900];
        let min_ttl = Duration::from_secs(choices[self.rng.usize(..choices.len())]);
        let arrival = Arrival { account, arrived_ms: self.now_ms, min_ttl, instance };
        self.load.arrivals.push(arrival);
        self.schedule(arrival);
    }

    pub(crate) fn schedule(&mut self, arrival: Arrival) {
        self.checks.tally.requests += 1;
        self.at(arrival.arrived_ms, Occurrence::Arrival(arrival));
    }

    /// A request on every instance at once, unless the pair was renewed before its expiry.
    pub(crate) fn herd(&mut self, account: usize, generation: Generation) {
        if self.store.accounts[account].generation() == Some(generation) {
            (0..self.instances.len()).for_each(|index| self.bring(account, Some(index)));
        }
    }

    /// The generation that a caller reports as rejected. Every other caller with a dead token reports it, and in some
    /// plans one in 200 with a live one. Callers of the broker report the token that the fleet handed out last. Without
    /// the broker, an instance knows only its own pair.
    pub(crate) fn report(&mut self, index: usize, account: usize) -> Option<Generation> {
        let (generation, token) = if self.strategy == Strategy::Broker {
            let (generation, token) = self.load.handed_out[account].as_ref()?;
            (*generation, token)
        } else {
            let cache = self.instances[index].baseline()?.caches.get(&account)?;
            let pair = cache.record.as_ref()?.account.pair.as_ref()?;
            (pair.generation, &pair.access_token)
        };
        let dead = !self.upstream.is_alive(token, self.now_ms);
        let lies = self.faults.lasts(Fault::Lies, self.now_ms);
        let one_in = if dead || lies { 2 } else { 200 };
        let reports = (dead || lies || self.plan.false_reports) && self.rng.u32(..one_in) == 0;
        reports.then_some(generation)
    }

    /// One run of the schedule.
    pub(crate) fn maintenance(&mut self) {
        if self.plan.maintained {
            self.after(5 * MINUTE, Occurrence::Maintenance);
            if let Some(index) = self.free_instance() {
                self.maintain(index);
            }
        }
    }

    /// Gives a request to an instance that takes one, or lets it wait.
    pub(crate) fn dispatch(&mut self, arrival: Arrival) {
        let accepts = |index: &usize| self.instances[*index].accepts(self.now_ms);
        match arrival.instance.filter(accepts).or_else(|| self.free_instance()) {
            Some(index) => self.serve(index, arrival),
            None => self.after(SECOND / 20, Occurrence::Arrival(arrival)),
        }
    }

    fn free_instance(&mut self) -> Option<usize> {
        let (count, first) = (self.instances.len(), self.rng.usize(..self.instances.len()));
        let mut indices = (0..count).map(|offset| (first + offset) % count);
        indices.find(|index| self.instances[*index].accepts(self.now_ms))
    }
}
