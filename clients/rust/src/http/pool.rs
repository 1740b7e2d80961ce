//! Idle connections.

use super::{body::Body, target::Target};
use contract::Timestamp;
use hyper::client::conn::http1::SendRequest;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Servers and load balancers close idle connections after a minute or more. A request at that moment would fail, so
/// the client closes them earlier. Measured by the wall clock, because a frozen process does not notice that a
/// connection closes.
const LONGEST_IDLE: Duration = Duration::from_secs(20);
/// The most idle connections to one server. Further ones are closed after their request.
const MOST_IDLE: usize = 64;

pub(super) type Connection = SendRequest<Body>;

#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<Target, Vec<(Connection, Timestamp)>>>);

impl Pool {
    /// The most recently used connection, because the server is most likely to have kept it.
    pub(super) fn take(&self, target: &Target, now: Timestamp) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(target)?;
        connections.retain(|(connection, since)| connection.is_ready() && is_fresh(*since, now));
        connections.pop().map(|(connection, _)| connection)
    }

    pub(super) fn put(&self, target: &Target, connection: Connection, now: Timestamp) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(target.clone()).or_default();
        connections.retain(|(connection, since)| !connection.is_closed() && is_fresh(*since, now));
        if connections.len() < MOST_IDLE {
            connections.push((connection, now));
        }
    }
}

fn is_fresh(since: Timestamp, now: Timestamp) -> bool {
    since <= now && now.since(since) < LONGEST_IDLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_fresh_for_twenty_seconds_of_the_wall_clock() {
        let since = Timestamp::from_millis(1_000_000);
        assert!(is_fresh(since, since.plus(Duration::from_secs(19))));
        assert!(!is_fresh(since, since.plus(Duration::from_secs(20))));
        assert!(!is_fresh(since, since.minus(Duration::from_secs(1))));
    }
}
