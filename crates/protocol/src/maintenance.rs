//! What maintenance does, and in which order.

use crate::{
    Account, AccountName, Context, LimiterName, Pair, Task, Timestamp, Verdict, decision::pair_to_renew,
};
use std::collections::BTreeMap;

/// How many accounts are maintained at the same time.
const AT_ONCE: usize = 8;
/// How many of them may be of one host, so that a host that does not answer cannot block the accounts of others.
const OF_ONE_HOST: usize = 4;

/// What maintenance does for an account now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// This is due.
    Due(Urgency),
    /// Nothing, for this reason.
    Idle(IdleReason),
}

/// How urgent an account's maintenance is. The smallest value comes first: renewals before revocations, accounts that
/// failed last time after the others, dead pairs before expiring ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// What is due.
    pub task: Task,
    failed_lately: bool,
    /// `None` if the pair is dead.
    expires_at: Option<Timestamp>,
    /// Where calls go.
    pub host: LimiterName,
}

/// Why maintenance skips an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleReason {
    /// Nothing is due.
    NotDue,
    /// Another attempt holds the lease.
    Leased,
    /// The account is in cooldown.
    InCooldown,
    /// The pair is due, but an early renewal failed recently.
    TriedLately,
}

/// What maintenance does for an account, given its record.
pub fn maintenance(name: &AccountName, account: &Account, cx: Context<'_>) -> Maintenance {
    if account.active_lease(cx.now).is_some() {
        return Maintenance::Idle(IdleReason::Leased);
    }
    if account.active_cooldown(cx.now).is_some() {
        return Maintenance::Idle(IdleReason::InCooldown);
    }
    let failed_lately = account.failures() > 0 || account.rejected_secret.is_some();
    if let Some(pair) = pair_to_renew(name, account, cx) {
        let expires_at = Some(pair.expires_at).filter(|_| pair.verdict != Verdict::Dead);
        let host = cx.limits.limiter_of_host(&pair.origin);
        return Maintenance::Due(Urgency { task: Task::Renew, failed_lately, expires_at, host });
    }
    if let Some(first) = account.pending_revocations.iter().find(|revocation| revocation.is_due(cx.now)) {
        let failed_lately = failed_lately || first.retry.is_some();
        let (expires_at, host) = (Some(first.expires_at), cx.limits.limiter_of_host(&first.origin));
        return Maintenance::Due(Urgency { task: Task::Revoke, failed_lately, expires_at, host });
    }
    let is_due = |pair: &Pair| cx.now >= cx.policy.due_at(name, pair);
    Maintenance::Idle(match &account.pair {
        Some(pair) if is_due(pair) => IdleReason::TriedLately,
        _ => IdleReason::NotDue,
    })
}

/// Chooses the next account to maintain, so that no host delays the accounts of others.
#[derive(Clone, Debug, Default)]
pub struct FairScheduler {
    /// For each host, the accounts that are being maintained, and those that failed in this run.
    hosts: BTreeMap<LimiterName, (usize, usize)>,
}

impl FairScheduler {
    /// The index of the next account, if one may begin now: among the waiting accounts, the most urgent one of the host
    /// with the fewest calls and failures.
    pub fn next<'a>(&mut self, waiting: impl Iterator<Item = &'a Urgency>) -> Option<usize> {
        if self.hosts.values().map(|(running, _)| running).sum::<usize>() >= AT_ONCE {
            return None;
        }
        let load = |host| self.hosts.get(host).copied().unwrap_or_default();
        let free = waiting.enumerate().filter(|(_, urgency)| load(&urgency.host).0 < OF_ONE_HOST);
        let (index, urgency) = free.min_by_key(|(_, urgency)| {
            let (running, failed) = load(&urgency.host);
            (running + failed, *urgency)
        })?;
        self.hosts.entry(urgency.host.clone()).or_default().0 += 1;
        Some(index)
    }

    /// The maintenance of an account of this host has ended.
    pub fn ended(&mut self, host: &LimiterName, failed: bool) {
        if let Some((running, failures)) = self.hosts.get_mut(host) {
            *running = running.saturating_sub(1);
            *failures += usize::from(failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cooldown, CooldownReason, Draw, Holder, Lease, Policy, UpstreamFault, UpstreamUrl, testing};
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn of(account: &Account) -> Maintenance {
        let name = AccountName::default();
        maintenance(&name, account, Context::new(&Policy::DEFAULT, NOW, Draw(0)))
    }

    fn due(account: &Account) -> Urgency {
        match of(account) {
            Maintenance::Due(urgency) => urgency,
            idle @ Maintenance::Idle(_) => panic!("{idle:?}"),
        }
    }

    fn expiring(at: Timestamp) -> Account {
        Account { pair: Some(testing::pair(at)), ..Account::default() }
    }

    fn on_host(urgency: &Urgency, host: &str) -> Urgency {
        let oauth_url = UpstreamUrl::parse(&format!("https://{host}")).ok();
        let host = LimiterName::of(&testing::origin_at(oauth_url));
        Urgency { host, ..urgency.clone() }
    }

    fn failed(account: Account) -> Account {
        let reason = CooldownReason::Unavailable(UpstreamFault::NoResponse);
        Account { cooldown: Some(Cooldown { until: NOW, reason, failures: 1 }), ..account }
    }

    fn withdrawn() -> Account {
        let mut account = expiring(NOW.plus(HOUR));
        account.withdraw_pair();
        account
    }

    #[test]
    fn dead_pairs_come_first_failed_accounts_and_revocations_last() {
        let mut dead = expiring(NOW.plus(HOUR * 100));
        dead.pair.as_mut().unwrap().verdict = Verdict::Dead;
        let in_order = [
            dead,
            expiring(NOW.minus(HOUR)),
            expiring(NOW.plus(HOUR)),
            failed(expiring(NOW.minus(HOUR))),
            withdrawn(),
            failed(withdrawn()),
        ];
        let urgencies: Vec<Urgency> = in_order.iter().map(due).collect();
        assert!(urgencies.is_sorted(), "{urgencies:?}");
        let tasks: Vec<Task> = urgencies.iter().map(|urgency| urgency.task).collect();
        assert_eq!(tasks.iter().filter(|task| **task == Task::Renew).count(), 4);
    }

    #[test]
    fn an_account_that_has_nothing_to_do_says_why() {
        let idle = |account: &Account| match of(account) {
            Maintenance::Idle(reason) => reason,
            due @ Maintenance::Due(_) => panic!("{due:?}"),
        };
        let soon = NOW.plus(Duration::from_secs(9));
        let reason = CooldownReason::RateLimited;
        let (lease, cooldown) =
            (Lease { holder: Holder(1), until: soon }, Cooldown { until: soon, reason, failures: 0 });
        let account = expiring(NOW.plus(HOUR));
        assert_eq!(idle(&expiring(NOW.plus(HOUR * 100))), IdleReason::NotDue);
        assert_eq!(idle(&Account::default()), IdleReason::NotDue);
        assert_eq!(idle(&Account { lease: Some(lease), ..account.clone() }), IdleReason::Leased);
        assert_eq!(idle(&Account { cooldown: Some(cooldown), ..account.clone() }), IdleReason::InCooldown);
        assert_eq!(idle(&Account { early_refresh_after: Some(soon), ..account }), IdleReason::TriedLately);
    }

    #[test]
    fn a_healthy_host_is_not_kept_waiting_by_others() {
        let mut waiting = vec![on_host(&due(&expiring(NOW.plus(HOUR))), "healthy")];
        for host in 0..3 {
            let expired = on_host(&due(&expiring(NOW.minus(HOUR))), &format!("hangs-{host}"));
            waiting.extend(std::iter::repeat_n(expired, 40));
        }
        let mut scheduler = FairScheduler::default();
        let begun: Vec<usize> = std::iter::from_fn(|| scheduler.next(waiting.iter())).collect();
        assert_eq!(begun.len(), AT_ONCE);
        assert!(begun.contains(&0), "{begun:?}");
    }

    #[test]
    fn one_host_gets_some_of_the_calls_and_the_rest_after_it_failed() {
        let one = on_host(&due(&expiring(NOW.minus(HOUR))), "one");
        let other = on_host(&due(&expiring(NOW.plus(HOUR))), "other");
        let mut scheduler = FairScheduler::default();
        for _ in 0..OF_ONE_HOST {
            assert_eq!(scheduler.next([&one].into_iter()), Some(0));
        }
        assert_eq!(scheduler.next([&one].into_iter()), None);
        for _ in 0..OF_ONE_HOST {
            scheduler.ended(&one.host, true);
        }
        assert_eq!(scheduler.next([&one, &other].into_iter()), Some(1), "the other host has not failed");
        assert_eq!(scheduler.next([&one].into_iter()), Some(0));
    }
}
