//! Events of the emulator. Tests wait for them, and the local stack prints them.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::broadcast;

use super::faults::{Endpoint, Fault};
use crate::clock::Clock;

/// The arrival or the end of a request. It never holds a token or a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The endpoint of the request.
    pub endpoint: Endpoint,
    /// The arrival, or how the request ended.
    pub outcome: Outcome,
    /// The fault that the request meets, already set at its arrival.
    pub fault: Option<Fault>,
}

/// The stages of a request: it arrives, and then ends in one of the other ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The request arrived.
    Arrived,
    /// The emulator responded with this HTTP status.
    Answered(u16),
    /// The emulator cut the connection without a response.
    CutOff,
    /// The client disconnected before the response.
    ClientLeft,
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.at_ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second) = at.to_hms();
        let endpoint = self.endpoint;
        write!(formatter, "{hour:02}:{minute:02}:{second:02} convirza {endpoint:<7} ")?;
        match self.outcome {
            Outcome::Arrived => write!(formatter, "arrived")?,
            Outcome::Answered(status) => write!(formatter, "answered {status}")?,
            Outcome::CutOff => write!(formatter, "cut off without a response")?,
            Outcome::ClientLeft => write!(formatter, "the client disconnected")?,
        }
        match &self.fault {
            Some(fault) => write!(formatter, " (fault: {fault})"),
            None => Ok(()),
        }
    }
}

/// A request in progress. Sends one event when it arrives and one when it ends.
#[derive(Debug)]
pub(super) struct Progress {
    clock: Clock,
    events: broadcast::Sender<Event>,
    endpoint: Endpoint,
    fault: Option<Fault>,
    outcome: Outcome,
}

impl Progress {
    pub(super) fn arrive(
        clock: Clock,
        events: broadcast::Sender<Event>,
        endpoint: Endpoint,
        fault: Option<Fault>,
    ) -> Self {
        let mut progress = Self { clock, events, endpoint, fault, outcome: Outcome::Arrived };
        progress.send();
        // If the request is dropped before it ends, its connection is gone.
        progress.outcome = Outcome::ClientLeft;
        progress
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn send(&self) {
        // Fails if no receiver exists, which is fine.
        let _ = self.events.send(Event {
            at_ms: self.clock.now_ms(),
            endpoint: self.endpoint,
            outcome: self.outcome,
            fault: self.fault.clone(),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.send();
    }
}
