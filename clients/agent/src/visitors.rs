//! The connections of callers: how many there may be, which of them have shown the guard token, and which have a
//! request under way.

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

/// More file descriptors are not asked for.
const MOST_DESCRIPTORS: u64 = 4096;
/// Connections that may stay although they have not shown the guard token.
const FEW_STRANGERS: usize = 128;
/// Above that number, a connection has this long to show it: a burst of callers must not look like an attack.
const TIME_TO_SHOW: Duration = Duration::from_secs(2);

/// How many connections are accepted. Of the process's file descriptors, half are kept for calls to broker and API.
pub(crate) fn most_connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        // Without more, those that there are have to do.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(wanted).min(MOST_DESCRIPTORS);
    usize::try_from(descriptors / 2).unwrap_or(1).max(1)
}

/// The connections without the guard token. Whoever opens many of them keeps nobody else out: the oldest are closed.
pub(crate) struct Strangers {
    /// So many may stay.
    few: usize,
    /// More are not possible, so that others find room.
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
                log(Level::Warn, "many connections without the guard token: the oldest are closed", &[]);
            }
        }
        if known.are_many && known.oldest_first.len() <= self.few / 2 {
            known.are_many = false;
            log(Level::Info, "few connections without the guard token again", &[]);
        }
        known.last += 1;
        let number = known.last;
        let strangers = Arc::clone(self);
        let visit = Visit { number, strangers, is_admitted: AtomicBool::new(false), busy: Arc::new(()) };
        known.oldest_first.insert(number, (now, spawn(visit)));
    }
}

/// One connection of a caller.
pub(crate) struct Visit {
    number: u64,
    strangers: Arc<Strangers>,
    is_admitted: AtomicBool,
    busy: Arc<()>,
}

impl Visit {
    /// The caller has shown the guard token.
    pub(crate) fn admit(&self) {
        if !self.is_admitted.swap(true, Ordering::Relaxed) {
            self.strangers.lock().oldest_first.remove(&self.number);
        }
    }

    /// A request has come whole, and its response has not left as long as this lives. Then the connection is not closed
    /// at once when the agent ends.
    pub(crate) fn busy(&self) -> Arc<()> {
        Arc::clone(&self.busy)
    }

    pub(crate) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.busy) > 1
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.strangers.lock().oldest_first.remove(&self.number);
    }
}
