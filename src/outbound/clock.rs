//! The clocks and random numbers. No other module of the function reads either.

use crate::ports::Clock;
use async_trait::async_trait;
use protocol::{Draw, Moment, Present, StoreClock, Timestamp, Uptime, millis};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The machine's clock, uncorrected.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the clock is read here only")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    fn draw(&self) -> Draw {
        // From the operating system, because the number identifies an attempt and must be unique. If this source fails,
        // TLS fails too, so no attempt with the fallback obtains a pair.
        Draw(getrandom::u64().unwrap_or_else(|_| self.now().as_millis()))
    }

    async fn sleep_until(&self, until: Timestamp) {
        tokio::time::sleep(until.since(self.now())).await;
    }
}

/// The store's time, which the whole fleet shares: the machine's clock, corrected by the dates of the store's
/// responses.
///
/// The second clock is [`Instant`], which keeps running while Lambda freezes the process. On Linux it stops while the
/// whole machine is suspended. `CLOCK_BOOTTIME` would not, but costs a dependency, and in that case the wall clock runs
/// on: the later of both counts.
#[derive(Debug)]
pub struct FleetClock {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    store: StoreClock,
    last: Uptime,
}

impl FleetClock {
    /// The clock of a process that starts now.
    #[expect(clippy::disallowed_methods, reason = "the clock is read here only")]
    pub fn new(margin: Duration) -> Self {
        let reading = Moment { wall: SystemClock.now(), uptime: Uptime::default() };
        let state = State { store: StoreClock::new(margin, reading), last: reading.uptime };
        Self { started: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each reading is later than the last, however coarse the machine's clock is.
    fn read(&self, state: &mut State) -> Moment {
        state.last = Uptime(self.started.elapsed()).max(state.last.plus(Duration::from_nanos(1)));
        Moment { wall: SystemClock.now(), uptime: state.last }
    }
}

#[async_trait]
impl Clock for FleetClock {
    fn now(&self) -> Timestamp {
        self.present().now
    }

    fn present(&self) -> Present {
        let mut state = self.state();
        let reading = self.read(&mut state);
        state.store.present(reading)
    }

    fn reading(&self) -> Moment {
        self.read(&mut self.state())
    }

    fn store_replied(&self, sent: Moment, received: Moment, date: Timestamp) {
        self.state().store.measured(sent, received, date);
    }

    fn draw(&self) -> Draw {
        SystemClock.draw()
    }

    async fn sleep_until(&self, until: Timestamp) {
        tokio::time::sleep(until.since(self.now())).await;
    }
}
