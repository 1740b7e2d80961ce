//! Maintenance: renews what is due and finishes pending revocations, for all accounts.

use super::Broker;
use crate::work::{Work, permits_left};
use futures_util::{StreamExt, stream::FuturesUnordered};
use protocol::{
    Account, AccountName, Context, Draw, Failure, Intent, LimiterName, LoginLimiter, Outcome, Pair, Read,
    Request, StoreError, Timestamp, maintenance_urgency,
};

/// Accounts that are maintained at the same time.
pub(super) const ACCOUNTS_AT_ONCE: usize = 8;

/// What a run of maintenance did.
pub struct Maintenance {
    /// Every account, sorted by name.
    pub accounts: Vec<Maintained>,
    /// Logins to the configured upstream that the budget still allows, if the limiter could be read.
    pub login_permits_left: Option<u64>,
}

/// What a run of maintenance did for one account.
pub struct Maintained {
    /// Its name.
    pub account: AccountName,
    /// Its record as it is afterwards, if it can be read.
    pub record: Option<Account>,
    /// How it ended.
    pub outcome: MaintenanceOutcome,
    /// What it made this instance do.
    pub work: Work,
}

/// How the maintenance of one account ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    /// There was nothing to do yet, for this reason.
    Idle(IdleReason),
    /// It was due, and the time did not suffice.
    Postponed,
    /// The flow ended without an error.
    Done {
        /// Whether the account got a new pair.
        renewed: bool,
    },
    /// It could not be maintained.
    Failed(Failure),
}

/// Why maintenance leaves an account alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleReason {
    /// Nothing is due.
    NotDue,
    /// Another attempt holds the lease.
    Leased,
    /// The account is in cooldown.
    InCooldown,
    /// The pair is due, but an attempt ahead of time has failed lately.
    TriedLately,
}

impl Maintenance {
    /// The accounts that got a new pair.
    pub fn renewed(&self) -> usize {
        self.count(|outcome| *outcome == MaintenanceOutcome::Done { renewed: true })
    }

    /// The accounts that could not be maintained.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, MaintenanceOutcome::Failed(_)))
    }

    /// The accounts for which the time did not suffice. The next run takes them up.
    pub fn postponed(&self) -> usize {
        self.count(|outcome| *outcome == MaintenanceOutcome::Postponed)
    }

    fn count(&self, is_counted: impl Fn(&MaintenanceOutcome) -> bool) -> usize {
        self.accounts.iter().filter(|maintained| is_counted(&maintained.outcome)).count()
    }
}

impl Broker {
    /// Maintains the accounts that need it, the most urgent first, several at a time. The next run of the schedule takes
    /// up those for which the time did not suffice.
    ///
    /// # Errors
    /// The table cannot be listed.
    pub async fn maintain(
        &self,
        arrived_at: Timestamp,
        deadline: Timestamp,
    ) -> Result<Maintenance, StoreError> {
        let listed = self.ports.store.list_accounts().await?.into_iter();
        let cx = self.context(Draw(0));
        let mut accounts: Vec<_> =
            listed.map(|(account, record)| Maintained::before(account, record, cx)).collect();
        let mut urgent = Vec::new();
        for maintained in &mut accounts {
            let Some(record) = &maintained.record else { continue };
            if let Some(urgency) = maintenance_urgency(&maintained.account, record, cx) {
                maintained.outcome = MaintenanceOutcome::Postponed;
                urgent.push((urgency, maintained));
            }
        }
        urgent.sort_by_key(|(urgency, _)| *urgency);
        let mut waiting = urgent.into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < ACCOUNTS_AT_ONCE && self.policy.has_time_for_a_renewal(self.now(), deadline)
            {
                let Some((_, maintained)) = waiting.next() else { break };
                running.push(self.maintain_account(maintained, arrived_at, deadline));
            }
            if running.next().await.is_none() {
                break;
            }
        }
        drop((running, waiting));
        let limiter_name = LimiterName::default();
        let login_permits_left = tokio::select! {
            biased;
            limiter = self.ports.store.read_login_limiter(&limiter_name) => {
                let permits = |limiter: LoginLimiter| limiter.counting(self.now()).count();
                limiter.ok().map(|limiter| permits_left(&self.policy, permits(limiter)))
            }
            () = self.ports.clock.sleep_until(deadline) => None,
        };
        Ok(Maintenance { accounts, login_permits_left })
    }

    async fn maintain_account(
        &self,
        maintained: &mut Maintained,
        arrived_at: Timestamp,
        deadline: Timestamp,
    ) {
        let account = maintained.account.clone();
        let request = Request { account, intent: Intent::Maintain, arrived_at, deadline };
        maintained.outcome = match self.serve(request, &mut maintained.work).await {
            Ok(Outcome::Report { renewed, .. }) => MaintenanceOutcome::Done { renewed },
            Ok(Outcome::Token(_)) => MaintenanceOutcome::Done { renewed: false },
            Err(failure) => MaintenanceOutcome::Failed(failure),
        };
        // If it could not be read again, what this instance knows may be older than what was listed.
        let listed = maintained.record.as_ref().map(|record| record.version);
        let has_failed = matches!(maintained.outcome, MaintenanceOutcome::Failed(_));
        let known = self.entry(&maintained.account).record();
        if let Some(known) = known.filter(|known| !has_failed || Some(known.version) >= listed) {
            maintained.record = Some(known);
        }
    }
}

impl Maintained {
    fn before(account: AccountName, record: Read<Account>, cx: Context<'_>) -> Self {
        let (record, outcome) = match record {
            Ok(record) => {
                let reason = idle_reason(&account, &record, cx);
                (Some(record), MaintenanceOutcome::Idle(reason))
            }
            Err(error) => (None, MaintenanceOutcome::Failed(error.into())),
        };
        Self { account, record, outcome, work: Work::default() }
    }
}

/// Why there is nothing to do for an account that does not need maintenance.
fn idle_reason(name: &AccountName, record: &Account, cx: Context<'_>) -> IdleReason {
    let is_due = |pair: &Pair| cx.now >= cx.policy.due_at(name, pair);
    if record.active_lease(cx.now).is_some() {
        IdleReason::Leased
    } else if record.active_cooldown(cx.now).is_some() {
        IdleReason::InCooldown
    } else if record.pair.as_ref().is_some_and(is_due) {
        IdleReason::TriedLately
    } else {
        IdleReason::NotDue
    }
}
