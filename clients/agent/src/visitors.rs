//! The callers' connections: how many there may be, which of them have presented the guard token, and which have a
//! request in flight.

use crate::log::{Level, log};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};

/// The most file descriptors that the agent asks for.
const MOST_DESCRIPTORS: u64 = 4096;
/// How many connections may stay without the guard token.
const FEW_STRANGERS: usize = 128;
/// Above that number, a connection has this long to present the token: a burst of callers must not look like an attack.
const TIME_TO_SHOW: Duration = Duration::from_secs(2);
/// An upload that pauses for longer has stalled.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many connections are accepted. Of the process's file descriptors, half are kept for calls to broker and API.
pub(crate) fn most_connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        // If there are no more, the existing ones have to suffice.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(wanted).min(MOST_DESCRIPTORS);
    usize::try_from(descriptors / 2).unwrap_or(1).max(1)
}

/// The connections without the guard token. The oldest are closed, so that a caller that opens many of them blocks no
/// one.
pub(crate) struct Strangers {
    /// How many may stay.
    few: usize,
    /// The upper limit, which leaves room for others.
    most: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    oldest_first: BTreeMap<u64, (Instant, AbortHandle)>,
    last: u64,
    are_many: bool,
}

impl Strangers {
    pub(crate) fn new(most_connections: usize) -> Arc<Self> {
        let most = most_connections.div_ceil(2);
        Arc::new(Self { few: FEW_STRANGERS.min(most.div_ceil(2)), most, known: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a visit. `spawn` starts the task that serves it.
    pub(crate) fn begin(self: &Arc<Self>, spawn: impl FnOnce(Visit) -> AbortHandle) {
        let mut known = self.lock();
        let now = Instant::now();
        while let Some((_, (began, _))) = known.oldest_first.first_key_value() {
            let is_slow = now.duration_since(*began) > TIME_TO_SHOW;
            let count = known.oldest_first.len();
            if count < self.few || (count < self.most && !is_slow) {
                break;
            }
            if let Some((_, (_, oldest))) = known.oldest_first.pop_first() {
                oldest.abort();
            }
            if !std::mem::replace(&mut known.are_many, true) {
                log(Level::Warn, "many connections without the guard token: closing the oldest", &[]);
            }
        }
        if known.are_many && known.oldest_first.len() <= self.few / 2 {
            known.are_many = false;
            log(Level::Info, "few connections without the guard token again", &[]);
        }
        known.last += 1;
        let number = known.last;
        let strangers = Arc::clone(self);
        let visit = Visit {
            number,
            strangers,
            is_admitted: AtomicBool::new(false),
            busy: Arc::new(()),
            upload_waits: Mutex::new(None),
        };
        known.oldest_first.insert(number, (now, spawn(visit)));
    }
}

/// One connection of a caller.
pub(crate) struct Visit {
    number: u64,
    strangers: Arc<Strangers>,
    is_admitted: AtomicBool,
    busy: Arc<()>,
    /// Since when the caller owes the next part of its request's body.
    upload_waits: Mutex<Option<Instant>>,
}

impl Visit {
    /// Whether the caller has presented the guard token.
    pub(crate) fn admit(&self) {
        if !self.is_admitted.swap(true, Ordering::Relaxed) {
            self.strangers.lock().oldest_first.remove(&self.number);
        }
    }

    /// Held while a request is uploaded and answered. Meanwhile the connection is not closed at once when the agent ends.
    pub(crate) fn busy(&self) -> Arc<()> {
        Arc::clone(&self.busy)
    }

    /// Notes whether the caller owes a part of its body.
    pub(crate) fn upload_waits(&self, waits: bool) {
        let mut since = self.upload_waits.lock().unwrap_or_else(PoisonError::into_inner);
        *since = waits.then(|| since.unwrap_or_else(Instant::now));
    }

    pub(crate) fn is_busy(&self) -> bool {
        let waits = *self.upload_waits.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stalled = waits.is_some_and(|since| since.elapsed() > LONGEST_PAUSE);
        Arc::strong_count(&self.busy) > 1 && !is_stalled
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.strangers.lock().oldest_first.remove(&self.number);
    }
}
