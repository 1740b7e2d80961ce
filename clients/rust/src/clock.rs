//! The wall clock and randomness.

use contract::{Draw, Timestamp};
use std::{
    future::Future,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;

/// How often a wait checks the wall clock.
const TICK: Duration = Duration::from_secs(1);
/// A tick that takes longer by the wall clock was interrupted by a freeze, or by a step of the clock.
const LONGEST_TICK: Duration = Duration::from_secs(5);

/// Where time and randomness come from.
///
/// The time must be that of the wall clock. In a Lambda environment that is frozen between invocations, or restored
/// from a snapshot, the monotonic clock stops while the tokens expire.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// A random number, for jitter.
    fn draw(&self) -> Draw;
}

/// The machine's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the client's only look at a clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(contract::millis(since_epoch))
    }

    /// Drawn from the kernel each time, because a generator in memory would repeat itself in every copy of a snapshot.
    fn draw(&self) -> Draw {
        Draw(getrandom::u64().unwrap_or_default())
    }
}

/// Waits for the future, at most until `deadline` by the wall clock. After a freeze, it notices a passed deadline
/// within a second. If the wall clock steps back, the wait does not become longer.
pub async fn within<F: Future>(clock: &dyn Clock, deadline: Timestamp, future: F) -> Option<F::Output> {
    wait(clock, deadline, future, false).await.0
}

/// Like [`within`], but a freeze of the process ends the wait, because a connection may be dead afterwards and an error
/// says nothing. Also returns whether there was a freeze.
pub(crate) async fn unless_frozen<F: Future>(
    clock: &dyn Clock,
    deadline: Timestamp,
    future: F,
) -> (Option<F::Output>, bool) {
    wait(clock, deadline, future, true).await
}

async fn wait<F: Future>(
    clock: &dyn Clock,
    deadline: Timestamp,
    future: F,
    ends_on_freeze: bool,
) -> (Option<F::Output>, bool) {
    let mut future = pin!(future);
    let mut seen = clock.now();
    let latest = Instant::now() + deadline.since(seen);
    let mut was_frozen = false;
    loop {
        let left = deadline.since(seen).min(latest.saturating_duration_since(Instant::now()));
        // A future that is ready counts, even if the time is up.
        if let Ok(output) = tokio::time::timeout(left.min(TICK), &mut future).await {
            was_frozen |= clock.now().since(seen) > LONGEST_TICK;
            return (Some(output), was_frozen);
        }
        if left.is_zero() || (was_frozen && ends_on_freeze) {
            return (None, was_frozen);
        }
        let now = clock.now();
        was_frozen |= now.since(seen) > LONGEST_TICK;
        seen = now;
    }
}
