//! What one instance remembers of an account, and what it may answer from that alone.

use super::{
    decide::{Answer, Ask, Decision, Goal, ServedFrom, decide},
    error::Failure,
    policy::{Policy, STORE_RETRY},
    record::{Account, SecretVersion, Version},
    time::{Draw, Timestamp},
};

/// An instance's memory of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The record as it was last read or written.
    pub copy: Option<Copied>,
    /// A pair that was obtained and could not be saved: saving it comes first.
    pub unsaved: Option<Unsaved>,
    /// When the store last failed, if it has not answered since.
    pub store_failed_at: Option<Timestamp>,
    /// The secret version that was found to be parked, and when it was looked up.
    pub parked: Option<(SecretVersion, Timestamp)>,
}

/// A copy of the shared record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copied {
    /// The record.
    pub account: Account,
    /// When it was asked for: whatever was written before that is in it.
    pub read_at: Timestamp,
}

/// A write that did not get through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unsaved {
    /// The version that must still stand: the fence.
    pub expected: Version,
    /// The record with the new pair.
    pub next: Account,
}

/// What memory says to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recall {
    /// It serves. No I/O at all.
    Answer(Answer),
    /// Somebody looked at the record, or tried to, while this request waited for its turn: it cannot be
    /// served.
    Fail(Failure),
    /// Look at the shared record.
    Look {
        /// The draw has fallen on this request to renew a pair that is due.
        volunteered: bool,
    },
}

impl Memory {
    /// What memory alone says to a request. A copy may answer it; only one that was read since the request
    /// arrived, which is as good as a look of its own, may refuse it; and none has a pair renewed.
    pub fn recall(&self, ask: &Ask, policy: &Policy, now: Timestamp, draw: Draw) -> Recall {
        const LOOK: Recall = Recall::Look { volunteered: false };
        if !matches!(ask.goal, Goal::Token { .. }) {
            return LOOK;
        }
        if let Some(failed_at) = self.store_failed_at {
            let since_arrival = failed_at > ask.arrived_at;
            let lately = failed_at <= now && now.since(failed_at) < STORE_RETRY;
            return match self.serve(ask, policy, now) {
                Some(answer) if since_arrival || lately => Recall::Answer(answer),
                None if since_arrival => Recall::Fail(Failure::StoreUnavailable),
                _ => LOOK,
            };
        }
        let Some(copy) = self.copy.as_ref().filter(|_| self.unsaved.is_none()) else { return LOOK };
        let young = copy.read_at <= now && now.since(copy.read_at) < policy.memory_ttl;
        let read_since_arrival = copy.read_at > ask.arrived_at;
        let superseded =
            matches!(ask.goal, Goal::Token { rejected, .. } if rejected > copy.account.generation());
        if !read_since_arrival && (superseded || !young) {
            return LOOK;
        }
        match decide(ask, &copy.account, policy, now, draw) {
            Decision::Answer => self.serve(ask, policy, now).map_or(LOOK, Recall::Answer),
            // Where the copy serves, it was the draw that decided; it must not be drawn a second time.
            Decision::Renew(_) => Recall::Look { volunteered: self.serve(ask, policy, now).is_some() },
            Decision::Fail(failure) if read_since_arrival => Recall::Fail(failure),
            _ => LOOK,
        }
    }

    /// The answer that the copy makes, however old it is: for when there is nothing better.
    pub fn serve(&self, ask: &Ask, policy: &Policy, now: Timestamp) -> Option<Answer> {
        let pair = self.copy.as_ref()?.account.pair.as_ref()?;
        if !ask.served_by(pair, policy, now) {
            return None;
        }
        ask.answer(pair, policy, now, ServedFrom::Memory)
    }
}

#[cfg(test)]
mod tests;
