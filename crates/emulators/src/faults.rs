//! Which fault is to happen where, and how often: the switchboard that every service has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The faults that are planned for one service, at most one per place.
#[derive(Debug)]
pub struct Faults<P, F> {
    planned: Mutex<Vec<Planned<P, F>>>,
    played: AtomicU64,
}

#[derive(Debug)]
struct Planned<P, F> {
    place: P,
    fault: F,
    times_left: Option<u32>,
}

impl<P, F> Default for Faults<P, F> {
    fn default() -> Self {
        Self { planned: Mutex::default(), played: AtomicU64::new(0) }
    }
}

impl<P: PartialEq, F: Clone> Faults<P, F> {
    /// From now on `fault` happens at `place`, in the stead of what was planned there: so many
    /// times, or until it is cleared.
    pub fn set(&self, place: P, fault: F, times: Option<u32>) {
        let mut planned = self.lock();
        planned.retain(|other| other.place != place);
        if times != Some(0) {
            planned.push(Planned { place, fault, times_left: times });
        }
    }

    /// Nothing goes wrong any more. What hangs already goes on hanging.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many faults have happened so far.
    pub fn played(&self) -> u64 {
        self.played.load(Ordering::Relaxed)
    }

    /// The fault that happens to a request, if one is planned at a place where the request `is_at`.
    pub(super) fn next(&self, is_at: impl Fn(&P) -> bool) -> Option<F> {
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
        self.played.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Planned<P, F>>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
