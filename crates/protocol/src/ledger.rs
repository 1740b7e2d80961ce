//! The rules of the ledger: how many logins the fleet may send, and when the next one is free.

use super::{
    policy::{self, Policy},
    record::{Debit, Holder, Ledger},
    time::Timestamp,
};

/// What the ledger says to one more login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It may be sent once this ledger, which holds its debit, has been written.
    Free(Ledger),
    /// The budget is used up until this instant.
    Exhausted(Timestamp),
    /// The upstream said 429; nobody logs in before this instant.
    Blocked(Timestamp),
}

impl Ledger {
    /// Asks for one more login at `now`.
    pub fn admit(&self, policy: &Policy, by: Holder, now: Timestamp) -> Admission {
        match self.next_free_at(policy, now) {
            NextLogin::Now => {}
            NextLogin::WhenBudgetAllows(at) => return Admission::Exhausted(at),
            NextLogin::WhenUnblocked(at) => return Admission::Blocked(at),
        }
        let mut debits: Vec<Debit> = self.counting(now).collect();
        debits.push(Debit { at: now, until: now.plus(policy.debit_window()), by });
        Admission::Free(Self { version: self.version.next(now), debits, ..self.clone() })
    }

    /// When the next login is free.
    pub fn next_free_at(&self, policy: &Policy, now: Timestamp) -> NextLogin {
        if let Some(until) = self.blocked_until.filter(|until| policy::lies_ahead(*until, now)) {
            return NextLogin::WhenUnblocked(until);
        }
        let mut counting: Vec<Timestamp> = self.counting(now).map(|debit| debit.until).collect();
        counting.sort_unstable();
        // The debits beyond the budget's size have to lapse, and one more to make room.
        let in_the_way =
            counting.len().checked_sub(policy.login_budget).and_then(|index| counting.get(index));
        in_the_way.map_or(NextLogin::Now, |at| NextLogin::WhenBudgetAllows(*at))
    }

    /// The ledger with all logins blocked until an instant, as after a 429.
    #[must_use]
    pub fn blocked(&self, until: Timestamp, now: Timestamp) -> Self {
        let until = self
            .blocked_until
            .filter(|earlier| policy::lies_ahead(*earlier, now))
            .map_or(until, |e| e.max(until));
        Self { version: self.version.next(now), blocked_until: Some(until), ..self.clone() }
    }

    /// The debit of this attempt, found again after a write whose outcome was not known.
    pub fn debit_of(&self, by: Holder) -> Option<Debit> {
        self.debits.iter().copied().find(|debit| debit.by == by)
    }

    /// The debits that still count at `now`.
    pub fn counting(&self, now: Timestamp) -> impl Iterator<Item = Debit> + '_ {
        self.debits.iter().copied().filter(move |debit| policy::lies_ahead(debit.until, now))
    }
}

/// When the fleet may log in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextLogin {
    /// At once.
    Now,
    /// When enough debits have lapsed.
    WhenBudgetAllows(Timestamp),
    /// When the pause that the upstream asked for is over.
    WhenUnblocked(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{record::Version, test_policy};
    use std::time::Duration;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn debited(ledger: &Ledger, at: Timestamp) -> Ledger {
        match ledger.admit(&test_policy(), Holder(1), at) {
            Admission::Free(next) => next,
            refused => panic!("no login was free: {refused:?}"),
        }
    }

    #[test]
    fn the_budget_is_never_exceeded_in_any_window() {
        let policy = test_policy();
        let mut ledger = Ledger::default();
        for second in 0..policy.login_budget as u64 {
            ledger = debited(&ledger, START.plus(Duration::from_secs(second)));
        }
        let full = START.plus(Duration::from_secs(10));
        let free_at = START.plus(policy.debit_window());
        assert_eq!(ledger.admit(&policy, Holder(2), full), Admission::Exhausted(free_at));
        assert_eq!(
            ledger.admit(&policy, Holder(2), free_at.minus(Duration::from_millis(1))),
            Admission::Exhausted(free_at)
        );
        let later = debited(&ledger, free_at);
        assert_eq!(later.debits.len(), policy.login_budget, "lapsed debits are dropped");
    }

    #[test]
    fn a_debit_outlasts_the_minute_by_all_that_can_delay_a_login() {
        // Two logins that arrive within one minute of each other: the first was delayed as long as can be,
        // the second not at all, and their clocks differ by the margin.
        let policy = test_policy();
        let first_arrives_by = START.plus(policy.debit_freshness()).plus(policy.upstream_timeout * 2);
        let second_debits_at = START.plus(policy.debit_window());
        let second_arrives_at = second_debits_at.minus(policy.clock_margin);
        assert!(second_arrives_at.since(first_arrives_by) >= policy::LOGIN_WINDOW);
    }

    #[test]
    fn a_block_holds_for_every_attempt_and_never_shrinks() {
        let policy = test_policy();
        let long = START.plus(Duration::from_secs(300));
        let ledger =
            Ledger::default().blocked(long, START).blocked(START.plus(Duration::from_secs(60)), START);
        assert_eq!(ledger.admit(&policy, Holder(1), START), Admission::Blocked(long));
        assert_eq!(ledger.next_free_at(&policy, long), NextLogin::Now);
    }

    #[test]
    fn what_a_wrong_clock_wrote_locks_nobody_out() {
        let policy = test_policy();
        let in_a_year = START.plus(Duration::from_secs(365 * 86_400));
        let ledger = Ledger {
            blocked_until: Some(in_a_year),
            debits: vec![Debit { at: in_a_year, until: in_a_year, by: Holder(1) }; policy.login_budget],
            ..Ledger::default()
        };
        assert_eq!(ledger.next_free_at(&policy, START), NextLogin::Now);
    }

    #[test]
    fn every_write_has_a_version_of_its_own_and_keeps_what_it_does_not_change() {
        let first = debited(&Ledger::default(), START);
        let blocked = first.blocked(START.plus(Duration::from_secs(60)), START);
        assert!(first.version > Version(0) && blocked.version > first.version);
        assert_eq!(blocked.debits, first.debits);
        let unblocked = blocked.blocked_until.unwrap();
        let second = debited(&blocked, unblocked);
        assert!(second.version > blocked.version);
        assert_eq!(second.blocked_until, Some(unblocked));
        assert_eq!(
            (first.debit_of(Holder(1)), first.debit_of(Holder(2))),
            (first.debits.first().copied(), None)
        );
    }
}
