//! What happens at Convirza, as events: tests wait for them, and the local stack prints them.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::broadcast;

use super::super::clock::now_ms;
use super::faults::{Endpoint, Fault};

/// One step of a request. It never holds a token or a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Where the request went.
    pub endpoint: Endpoint,
    /// What became of it.
    pub outcome: Outcome,
    /// The fault that it met, known from its arrival on.
    pub fault: Option<Fault>,
}

/// What became of a request. Each one arrives, and then ends in one of the other ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is here.
    Arrived,
    /// It got an answer of this HTTP status.
    Answered(u16),
    /// Its connection was ended without an answer.
    CutOff,
    /// The client left before there was an answer.
    ClientLeft,
}

impl fmt::Display for Happening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.at_ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second) = at.to_hms();
        let endpoint = self.endpoint;
        write!(formatter, "{hour:02}:{minute:02}:{second:02} convirza {endpoint:<7} ")?;
        match self.outcome {
            Outcome::Arrived => write!(formatter, "arrived")?,
            Outcome::Answered(status) => write!(formatter, "answered {status}")?,
            Outcome::CutOff => write!(formatter, "cut off without an answer")?,
            Outcome::ClientLeft => write!(formatter, "the client left")?,
        }
        match &self.fault {
            Some(fault) => write!(formatter, " (fault: {fault})"),
            None => Ok(()),
        }
    }
}

/// A request on its way through the emulator: tells of its arrival and of its end, once each.
#[derive(Debug)]
pub(super) struct Visit {
    events: broadcast::Sender<Happening>,
    endpoint: Endpoint,
    fault: Option<Fault>,
    outcome: Outcome,
}

impl Visit {
    pub(super) fn arrive(
        events: broadcast::Sender<Happening>,
        endpoint: Endpoint,
        fault: Option<Fault>,
    ) -> Self {
        let mut visit = Self { events, endpoint, fault, outcome: Outcome::Arrived };
        visit.tell();
        // What holds if the request is dropped on its way: its connection is gone.
        visit.outcome = Outcome::ClientLeft;
        visit
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn tell(&self) {
        // It is no error if nobody listens.
        let _ = self.events.send(Happening {
            at_ms: now_ms(),
            endpoint: self.endpoint,
            outcome: self.outcome,
            fault: self.fault.clone(),
        });
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.tell();
    }
}
