//! Who asks: a daily rhythm, bursts, and the schedule.

use super::{
    plans::{DAY, MINUTE, SECOND},
    strategy::Strategy,
    world::{Request, START_MS, What, World},
};
use std::{f64::consts::TAU, time::Duration};
use protocol::{Generation, Secret};

/// One arrival in so many is a burst.
const ARRIVALS_A_BURST: u32 = 500;

pub struct Load {
    /// What the callers of each account were handed last.
    pub handed: Vec<Option<(Generation, Secret)>>,
    /// Every request so far, so that another fleet can be asked the same.
    pub brought: Vec<Request>,
}

impl Load {
    pub fn new(accounts: usize) -> Self {
        Self { handed: vec![None; accounts], brought: Vec::new() }
    }
}

impl World {
    /// The next request of the load, and when the one after it comes.
    pub fn arrival(&mut self) {
        let burst = self.rng.u32(..ARRIVALS_A_BURST) == 0;
        let requests = if burst { self.rng.usize(2..=(self.instances.len() / 5).max(2)) } else { 1 };
        let account = self.rng.usize(..self.plan.accounts);
        for _ in 0..requests {
            self.request(account, None);
        }
        let gap_ms = self.gap_ms();
        self.after(gap_ms, What::Arrival);
    }

    /// Exponential, with a mean that follows the time of day: nine times as many at noon as at midnight.
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

    fn request(&mut self, account: usize, to: Option<usize>) {
        let asked = [60, 60, 60, 300, 900];
        let min_ttl = Duration::from_secs(asked[self.rng.usize(..asked.len())]);
        let request = Request { account, arrived_ms: self.now_ms, min_ttl, to };
        self.load.brought.push(request);
        self.ask(request);
    }

    pub fn ask(&mut self, request: Request) {
        self.checks.tally.requests += 1;
        self.at(request.arrived_ms, What::Request(request));
    }

    /// All instances at once, unless somebody has renewed the pair by then.
    pub fn herd(&mut self, account: usize, generation: Generation) {
        if self.store.accounts[account].generation() == Some(generation) {
            (0..self.instances.len()).for_each(|index| self.request(account, Some(index)));
        }
    }

    /// A report that the token handed out last was rejected: true ones where it is dead, and a few false ones.
    /// Callers of the broker report to whichever instance; without it, each reports to itself.
    pub fn report(&mut self, index: usize, account: usize) -> Option<Generation> {
        let (generation, token) = if self.strategy == Strategy::Broker {
            let (generation, token) = self.load.handed[account].as_ref()?;
            (*generation, token)
        } else {
            let pair = self.instances[index].memories[account].copy.as_ref()?.account.pair.as_ref()?;
            (pair.generation, &pair.access_token)
        };
        let dead = !self.upstream.is_alive(token, self.now_ms);
        let one_in = if dead { 2 } else { 200 };
        let reports = (dead || self.plan.false_reports) && self.rng.u32(..one_in) == 0;
        reports.then_some(generation)
    }

    /// One round of the schedule, on whichever instance is idle. Where the store is down it finds nothing.
    pub fn maintenance(&mut self) {
        if self.plan.maintained {
            self.after(5 * MINUTE, What::Maintenance);
            if let Some(index) = self.idle_instance() {
                self.checks.figures.reads += 1;
                let mut accounts = self.known_accounts();
                self.rng.shuffle(&mut accounts);
                self.maintain(index, accounts);
            }
        }
    }

    /// Finds an instance for a request, or has it wait for one.
    pub fn take_request(&mut self, request: Request) {
        let idle = |index: &usize| self.instances[*index].job.is_none();
        match request.to.filter(idle).or_else(|| self.idle_instance()) {
            Some(index) => self.serve(index, request),
            None => self.after(SECOND / 20, What::Request(request)),
        }
    }

    fn idle_instance(&mut self) -> Option<usize> {
        let (count, first) = (self.instances.len(), self.rng.usize(..self.instances.len()));
        (0..count).map(|offset| (first + offset) % count).find(|index| self.instances[*index].job.is_none())
    }
}
