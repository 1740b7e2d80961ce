//! The wall clock and random numbers. No other module of the function reads either.

use crate::ports::Clock;
use async_trait::async_trait;
use protocol::{Draw, Timestamp, millis};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the clock is read here only")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    fn draw(&self) -> Draw {
        // From the operating system: a draw names an attempt, and no two attempts may share a name. If this source
        // fails, TLS fails too, so the fallback never names an attempt that obtains a pair.
        Draw(getrandom::u64().unwrap_or_else(|_| self.now().as_millis()))
    }

    async fn sleep_until(&self, until: Timestamp) {
        tokio::time::sleep(until.since(self.now())).await;
    }
}
