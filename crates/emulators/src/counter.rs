//! Counts that can be awaited.

use tokio::sync::watch;

/// A count that only grows.
#[derive(Clone, Debug)]
pub struct Counter(watch::Sender<u64>);

impl Default for Counter {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Counter {
    /// Counts one more.
    pub fn add(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until the count is at least `count`.
    pub async fn reaches(&self, count: u64) {
        // The sender lives in `self`, so this ends only with the condition.
        let _ = self.0.subscribe().wait_for(|now| *now >= count).await;
    }
}
