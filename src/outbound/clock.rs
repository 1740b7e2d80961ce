//! The wall clock and random numbers: the only place that reads either.

use protocol::{Draw, Timestamp};
use crate::{ports::Clock};
use async_trait::async_trait;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // this is the one place
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn draw(&self) -> Draw {
        // From the operating system, since attempts are named by it: no two may ever share a name. Without it
        // there is no TLS either, so what stands in for it need not be good.
        Draw(getrandom::u64().unwrap_or_else(|_| self.now().as_millis()))
    }

    async fn sleep_until(&self, until: Timestamp) {
        tokio::time::sleep(until.since(self.now())).await;
    }
}
