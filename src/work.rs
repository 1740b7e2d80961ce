//! What a request made this instance do, for the log and the metrics.

use protocol::{Effect, Event, LimiterName, Policy, Timestamp, UpstreamReply, WriteOutcome};
use std::time::Duration;

/// What a request made this instance do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Login calls that were sent.
    pub logins: u64,
    /// Refresh calls that were sent.
    pub refreshes: u64,
    /// Probe calls that were sent.
    pub probes: u64,
    /// Conditional writes that another instance forestalled.
    pub write_conflicts: u64,
    /// How long the request waited for other requests or instances.
    pub waited: Duration,
    /// Logins to the configured upstream that the budget still allowed after a permit was acquired.
    pub login_permits_left: Option<u64>,
    /// Whether the account has a record. Callers may request any name.
    pub is_account_known: bool,
}

/// An effect that is being performed.
#[derive(Clone, Copy)]
pub(crate) enum Performing {
    Call(&'static str),
    Pause { since: Timestamp },
    Permit { left: u64 },
    Other,
}

impl Performing {
    pub(crate) fn of(effect: &Effect, policy: &Policy, now: Timestamp) -> Self {
        match effect {
            Effect::Send { call, .. } => Self::Call(call.name()),
            Effect::Pause { .. } => Self::Pause { since: now },
            Effect::WriteLimiter { name, next, .. } if *name == LimiterName::default() => {
                Self::Permit { left: permits_left(policy, next.counting(now).count()) }
            }
            _ => Self::Other,
        }
    }
}

impl Work {
    pub(crate) fn add(&mut self, performed: Performing, event: &Event, now: Timestamp) {
        match (performed, event) {
            (_, Event::Written(WriteOutcome::Conflict)) => self.write_conflicts += 1,
            (Performing::Permit { left }, Event::Written(WriteOutcome::Applied)) => {
                self.login_permits_left = Some(left);
            }
            (Performing::Pause { since }, _) => self.waited += now.since(since),
            (Performing::Call(_), Event::Replied(UpstreamReply::TooLate)) => {}
            (Performing::Call("login"), _) => self.logins += 1,
            (Performing::Call("refresh"), _) => self.refreshes += 1,
            (Performing::Call("probe"), _) => self.probes += 1,
            _ => {}
        }
    }
}

/// Logins that the budget still allows.
pub(crate) fn permits_left(policy: &Policy, acquired: usize) -> u64 {
    u64::try_from(policy.login_budget.saturating_sub(acquired)).unwrap_or(u64::MAX)
}
