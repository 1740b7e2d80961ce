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
};
use tokio::task::AbortHandle;

/// More file descriptors are not asked for.
const MOST_DESCRIPTORS: u64 = 4096;
/// Connections that have not shown the guard token.
const MOST_STRANGERS: usize = 128;

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

/// The connections without the guard token. Whoever opens many of them keeps nobody else out: the oldest is closed.
pub(crate) struct Strangers {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    oldest_first: BTreeMap<u64, AbortHandle>,
    last: u64,
    are_many: bool,
}

impl Strangers {
    pub(crate) fn new(most_connections: usize) -> Arc<Self> {
        Arc::new(Self { most: MOST_STRANGERS.min(most_connections.div_ceil(4)), known: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next stranger takes the place of the oldest.
    pub(crate) fn are_many(&self) -> bool {
        self.lock().oldest_first.len() >= self.most
    }

    /// Begins a visit. `spawn` starts the task that serves it.
    pub(crate) fn begin(self: &Arc<Self>, spawn: impl FnOnce(Visit) -> AbortHandle) {
        let mut known = self.lock();
        if known.oldest_first.len() >= self.most {
            if let Some((_, oldest)) = known.oldest_first.pop_first() {
                oldest.abort();
            }
            if !std::mem::replace(&mut known.are_many, true) {
                log(Level::Warn, "many connections without the guard token: the oldest are closed", &[]);
            }
        } else if known.are_many && known.oldest_first.len() <= self.most / 2 {
            known.are_many = false;
            log(Level::Info, "few connections without the guard token again", &[]);
        }
        known.last += 1;
        let number = known.last;
        let visit = Visit {
            number,
            strangers: Arc::clone(self),
            is_admitted: AtomicBool::new(false),
            busy: Arc::new(()),
        };
        known.oldest_first.insert(number, spawn(visit));
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
