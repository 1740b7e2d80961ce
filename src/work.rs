//! The work that a request took, for the log and the metrics.

use protocol::{Budget, Call, Effect, Event, LimiterName, Moment, UpstreamReply, Uptime, WriteOutcome};
use std::time::Duration;

/// The work that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Login calls that were sent.
    pub logins: u64,
    /// Refresh calls that were sent.
    pub refreshes: u64,
    /// Probe calls that were sent.
    pub probes: u64,
    /// Conditional writes that failed because another instance wrote first.
    pub write_conflicts: u64,
    /// How long the request waited for other requests or instances.
    pub waited: Duration,
    /// Logins to the configured upstream that the budget still allowed after a permit was acquired.
    pub login_permits_left: Option<u64>,
    /// Whether the instance's clock was too far off for a lease.
    pub clock_off: bool,
    /// Whether the account has a record. Callers may request any name.
    pub is_account_known: bool,
}

/// An effect that is being performed.
#[derive(Clone, Copy)]
pub(crate) enum Performing {
    Login,
    Refresh,
    Probe,
    Pause { since: Uptime },
    Permit { left: u64 },
    Other,
}

impl Performing {
    pub(crate) fn of(effect: &Effect, budget: Budget, at: Moment) -> Self {
        match effect {
            Effect::Send { call: Call::Login(_), .. } => Self::Login,
            Effect::Send { call: Call::Refresh(..), .. } => Self::Refresh,
            Effect::Send { call: Call::Probe(_), .. } => Self::Probe,
            Effect::Pause { .. } => Self::Pause { since: at.uptime },
            Effect::WriteLimiter { name, next, .. } if *name == LimiterName::default() => {
                Self::Permit { left: permits_left(budget, next.counting(at.wall).count()) }
            }
            _ => Self::Other,
        }
    }
}

impl Work {
    pub(crate) fn add(&mut self, performed: Performing, event: &Event, now: Uptime) {
        match (performed, event) {
            (_, Event::Written(WriteOutcome::Conflict)) => self.write_conflicts += 1,
            (Performing::Permit { left }, Event::Written(WriteOutcome::Applied)) => {
                self.login_permits_left = Some(left);
            }
            (Performing::Pause { since }, _) => self.waited += now.since(since),
            (_, Event::Replied(UpstreamReply::NeverLeft | UpstreamReply::TooLate)) => {}
            (Performing::Login, _) => self.logins += 1,
            (Performing::Refresh, _) => self.refreshes += 1,
            (Performing::Probe, _) => self.probes += 1,
            _ => {}
        }
    }
}

/// Logins that the budget still allows.
pub(crate) fn permits_left(budget: Budget, acquired: usize) -> u64 {
    u64::try_from(budget.requests.saturating_sub(acquired)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        IssuedToken, LoginLimiter, Origin, Permit, Policy, Secret, StoreError, Timestamp, Version,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    fn send(call: Call) -> Effect {
        Effect::Send { call, not_after: NOW }
    }

    fn calls() -> [Effect; 3] {
        let (token, origin) = (|| Secret::from("t"), Origin::default);
        [
            send(Call::Login(protocol::testing::credentials("v1"))),
            send(Call::Refresh(IssuedToken { token: token(), origin: origin() }, None)),
            send(Call::Probe(IssuedToken { token: token(), origin: origin() })),
        ]
    }

    fn added(effects: &[(&Effect, Event)]) -> Work {
        let mut work = Work::default();
        for (effect, event) in effects {
            let at = Moment::of_agreeing_clocks(NOW);
            let performing = Performing::of(effect, (&Policy::DEFAULT).into(), at);
            work.add(performing, event, at.uptime.plus(MS));
        }
        work
    }

    #[test]
    fn a_call_counts_if_it_was_sent() {
        let all = calls();
        let replies = |reply: UpstreamReply| {
            let twice = all.iter().chain(&all).map(|call| (call, Event::Replied(reply.clone())));
            let work = added(&twice.collect::<Vec<_>>());
            [work.logins, work.refreshes, work.probes]
        };
        assert_eq!(replies(UpstreamReply::UNEXPECTED), [2; 3]);
        assert_eq!(replies(UpstreamReply::TooLate), [0; 3]);
        assert_eq!(replies(UpstreamReply::NeverLeft), [0; 3]);
    }

    #[test]
    fn conflicts_and_pauses_add_up() {
        let write = Effect::WriteAccount { expected: Version(1), next: protocol::Account::default() };
        let pause = Effect::Pause { until: NOW };
        let conflict = || Event::Written(WriteOutcome::Conflict);
        let failed = || Event::Account(Err(StoreError::Unreachable));
        let work = added(&[
            (&write, conflict()),
            (&write, conflict()),
            (&write, Event::Written(WriteOutcome::Applied)),
            (&pause, Event::Resumed),
            (&pause, Event::Resumed),
            (&Effect::ReadAccount, failed()),
        ]);
        assert_eq!(work, Work { write_conflicts: 2, waited: 2 * MS, ..Work::default() });
    }

    #[test]
    fn the_permits_left_are_those_of_the_configured_upstream() {
        let permit = Permit {
            account: protocol::AccountName::default(),
            holder: protocol::Holder(1),
            acquired_at: NOW,
            counts_until: NOW.plus(MS),
        };
        let next = LoginLimiter { permits: vec![permit], ..LoginLimiter::default() };
        let write = |name| Effect::WriteLimiter { name, expected: Version(1), next: next.clone() };
        let left = |name, outcome| added(&[(&write(name), Event::Written(outcome))]).login_permits_left;
        assert_eq!(left(LimiterName::default(), WriteOutcome::Applied), Some(4));
        assert_eq!(left(LimiterName::default(), WriteOutcome::Unknown), None);
        let oauth_url = protocol::UpstreamUrl::parse("https://x.example").ok();
        let other = LimiterName::of(&protocol::testing::origin_at(oauth_url));
        assert_eq!(left(other, WriteOutcome::Applied), None);
        assert_eq!(permits_left((&Policy::DEFAULT).into(), 9), 0);
    }
}
