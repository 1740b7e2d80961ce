//! The faults that are planned for a service.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The planned faults of one service, at most one per place.
#[derive(Debug)]
pub struct Faults<P, F> {
    planned: Mutex<Vec<Planned<P, F>>>,
    injected: watch::Sender<u64>,
}

#[derive(Debug)]
struct Planned<P, F> {
    place: P,
    fault: F,
    times_left: Option<u32>,
}

impl<P, F> Default for Faults<P, F> {
    fn default() -> Self {
        Self { planned: Mutex::default(), injected: watch::Sender::new(0) }
    }
}

impl<P: PartialEq, F: Clone> Faults<P, F> {
    /// Injects `fault` at `place` from now on, this many times or until it is cleared. Replaces the fault that was
    /// planned there.
    pub fn set(&self, place: P, fault: F, times: Option<u32>) {
        let mut planned = self.lock();
        planned.retain(|other| other.place != place);
        if times != Some(0) {
            planned.push(Planned { place, fault, times_left: times });
        }
    }

    /// Injects `fault` at `place` until it is cleared, or clears the fault that was planned there.
    pub fn put(&self, place: P, fault: Option<F>) {
        match fault {
            Some(fault) => self.set(place, fault, None),
            None => self.lock().retain(|other| other.place != place),
        }
    }

    /// The fault that is planned at `place`.
    pub fn planned(&self, place: &P) -> Option<F> {
        let planned = self.lock();
        planned.iter().find(|planned| planned.place == *place).map(|planned| planned.fault.clone())
    }

    /// Clears all faults. Requests that already hang keep hanging.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Clears all faults, and counts from zero again.
    pub(crate) fn reset(&self) {
        self.clear();
        self.injected.send_replace(0);
    }

    /// How many faults were injected so far.
    pub fn injected(&self) -> u64 {
        *self.injected.borrow()
    }

    /// Waits until requests have met all faults planned at `place`.
    pub async fn met(&self, place: &P) {
        // The sender lives in `self`, so this ends only with the condition.
        let _ = self.injected.subscribe().wait_for(|_| self.planned(place).is_none()).await;
    }

    /// The fault for a request, if one is planned at a place for which `is_at` holds.
    pub(crate) fn next(&self, is_at: impl Fn(&P) -> bool) -> Option<F> {
        let fault = self.take(is_at)?;
        // Sent without the lock, because the waiters of `met` take it when they wake.
        self.injected.send_modify(|count| *count += 1);
        Some(fault)
    }

    fn take(&self, is_at: impl Fn(&P) -> bool) -> Option<F> {
        let mut all = self.lock();
        let index = all.iter().position(|planned| is_at(&planned.place))?;
        let planned = all.get_mut(index)?;
        let fault = planned.fault.clone();
        if let Some(times_left) = &mut planned.times_left {
            *times_left -= 1;
            if *times_left == 0 {
                all.remove(index);
            }
        }
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Planned<P, F>>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
