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
const FEW_UNAUTHENTICATED: usize = 128;
/// Above that number, a connection has this long to present the token, since a burst of callers must not look like an
/// attack.
const AUTHENTICATION_TIME: Duration = Duration::from_secs(2);
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
pub(crate) struct UnauthenticatedConnections {
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

impl UnauthenticatedConnections {
    pub(crate) fn new(most_connections: usize) -> Arc<Self> {
        let most = most_connections.div_ceil(2);
        Arc::new(Self { few: FEW_UNAUTHENTICATED.min(most.div_ceil(2)), most, known: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection, which may close an older one. `spawn` starts the task that serves it.
    pub(crate) fn accept(self: &Arc<Self>, spawn: impl FnOnce(Connection) -> AbortHandle) {
        let mut known = self.lock();
        let now = Instant::now();
        while let Some((_, (began, _))) = known.oldest_first.first_key_value() {
            let is_slow = now.duration_since(*began) > AUTHENTICATION_TIME;
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
        let unauthenticated = Arc::clone(self);
        let connection = Connection {
            number,
            unauthenticated,
            is_authenticated: AtomicBool::new(false),
            has_proxied: AtomicBool::new(false),
            busy: Arc::new(()),
            upload_waits: Mutex::new(None),
        };
        known.oldest_first.insert(number, (now, spawn(connection)));
    }
}

/// One connection of a caller.
pub(crate) struct Connection {
    number: u64,
    unauthenticated: Arc<UnauthenticatedConnections>,
    is_authenticated: AtomicBool,
    has_proxied: AtomicBool,
    busy: Arc<()>,
    /// Since when the caller owes the next part of its request's body.
    upload_waits: Mutex<Option<Instant>>,
}

impl Connection {
    /// The caller has presented the guard token.
    pub(crate) fn authenticated(&self) {
        if !self.is_authenticated.swap(true, Ordering::Relaxed) {
            self.unauthenticated.lock().oldest_first.remove(&self.number);
        }
    }

    /// A body of the API follows, which may have any bytes.
    pub(crate) fn proxies(&self) {
        self.has_proxied.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_proxied(&self) -> bool {
        self.has_proxied.load(Ordering::Relaxed)
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

impl Drop for Connection {
    fn drop(&mut self) {
        self.unauthenticated.lock().oldest_first.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::{task::JoinHandle, time::advance};

    /// A caller that stays, until the agent closes its connection.
    fn connect(unauthenticated: &Arc<UnauthenticatedConnections>) -> (JoinHandle<()>, Arc<Connection>) {
        let mut caller = None;
        unauthenticated.accept(|connection| {
            let connection = Arc::new(connection);
            let kept = Arc::clone(&connection);
            let task = tokio::spawn(async move {
                let _connection = connection;
                pending::<()>().await;
            });
            let abort = task.abort_handle();
            caller = Some((task, kept));
            abort
        });
        caller.unwrap()
    }

    async fn closed(callers: &[(JoinHandle<()>, Arc<Connection>)]) -> Vec<bool> {
        tokio::task::yield_now().await;
        callers.iter().map(|(task, _)| task.is_finished()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_without_the_token_may_stay_for_two_seconds() {
        let unauthenticated = UnauthenticatedConnections::new(8); // two may stay, and four for two seconds
        let mut callers: Vec<_> = (0..4).map(|_| connect(&unauthenticated)).collect();
        advance(AUTHENTICATION_TIME).await;
        assert_eq!(closed(&callers).await, [false; 4]);
        callers.push(connect(&unauthenticated));
        assert_eq!(closed(&callers).await, [true, false, false, false, false], "the oldest makes room");
        advance(Duration::from_millis(1)).await;
        callers.push(connect(&unauthenticated));
        assert_eq!(closed(&callers).await, [true, true, true, true, false, false], "the time is up");
    }

    #[tokio::test(start_paused = true)]
    async fn many_have_become_few_at_half_the_number_that_may_stay() {
        let unauthenticated = UnauthenticatedConnections::new(8);
        let mut callers: Vec<_> = (0..4).map(|_| connect(&unauthenticated)).collect();
        assert!(!unauthenticated.lock().are_many);
        callers.push(connect(&unauthenticated));
        assert!(unauthenticated.lock().are_many);
        for (left, are_many) in [(2, true), (1, false)] {
            while unauthenticated.lock().oldest_first.len() > left {
                let (task, connection) = callers.pop().unwrap();
                task.abort();
                assert!(task.await.is_err());
                drop(connection);
            }
            connect(&unauthenticated).1.authenticated();
            assert_eq!(unauthenticated.lock().are_many, are_many, "{left} left");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_with_the_token_do_not_count() {
        let unauthenticated = UnauthenticatedConnections::new(8);
        let callers: Vec<_> = (0..9)
            .map(|_| connect(&unauthenticated))
            .inspect(|(_, connection)| connection.authenticated())
            .collect();
        advance(Duration::from_secs(3600)).await;
        let few = [connect(&unauthenticated), connect(&unauthenticated)];
        assert_eq!(closed(&callers).await, [false; 9]);
        assert_eq!(closed(&few).await, [false; 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_upload_has_stalled_does_not_delay_the_end() {
        let (_task, connection) = connect(&UnauthenticatedConnections::new(8));
        assert!(!connection.is_busy());
        let request = connection.busy();
        connection.upload_waits(true);
        advance(LONGEST_PAUSE).await;
        assert!(connection.is_busy());
        advance(Duration::from_millis(1)).await;
        connection.upload_waits(true);
        assert!(!connection.is_busy());
        connection.upload_waits(false);
        assert!(connection.is_busy());
        drop(request);
        assert!(!connection.is_busy());
    }

    #[test]
    fn half_of_the_descriptors_are_for_callers() {
        let mut limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
        limit.current = Some(most / 4);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(u64::try_from(most_connections()).unwrap(), most / 2);
    }
}
