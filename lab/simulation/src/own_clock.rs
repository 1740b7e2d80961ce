//! The clocks of simulated processes, right and wrong.

use protocol::{Moment, Timestamp, Uptime};
use std::time::Duration;

/// How far a wrong clock may be ahead, in milliseconds.
const FAR_OFF_MS: [i64; 4] = [110 * 60_000, -110 * 60_000, 5 * 60_000, -5 * 60_000];
/// How often a clock that steps does so.
const STEP_MS: u64 = 37 * 60_000;

/// A process's own clock.
#[derive(Clone, Copy, Debug)]
pub enum OwnClock {
    /// Ahead of true time by milliseconds, within half of the tolerated margin.
    Right(i64),
    /// Far off, depending on the instance's number. The store's dates correct it.
    FarOff(u64),
    /// The same, and it steps.
    Steps(u64),
}

impl OwnClock {
    fn ahead_ms(self, true_ms: u64) -> i64 {
        let number = match self {
            Self::Right(ahead_ms) => return ahead_ms,
            Self::FarOff(life) => life,
            Self::Steps(life) => life.wrapping_add(true_ms / STEP_MS),
        };
        usize::try_from(number)
            .ok()
            .and_then(|number| FAR_OFF_MS.get(number % FAR_OFF_MS.len()))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn reading(self, true_ms: u64) -> Moment {
        Moment {
            wall: Timestamp::from_millis(true_ms.saturating_add_signed(self.ahead_ms(true_ms))),
            uptime: Uptime(Duration::from_millis(true_ms)),
        }
    }
}
