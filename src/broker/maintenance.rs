//! Maintenance: renews due pairs and finishes pending revocations, for all accounts.

use super::Broker;
use crate::work::{Work, permits_left};
use futures_util::{StreamExt, stream::FuturesUnordered};
use protocol::{
    Account, AccountName, Draw, Failure, FairScheduler, IdleReason, Intent, LimiterName, LoginLimiter,
    Moment, Outcome, Read, Request, StoreError, Task, Timestamp, maintenance,
};

/// The initial state, before the account is examined.
const UNSEEN: MaintenanceOutcome = MaintenanceOutcome::Done { renewed: false };
const RENEWED: MaintenanceOutcome = MaintenanceOutcome::Done { renewed: true };

/// The result of one maintenance run.
pub struct Maintenance {
    /// Every account, sorted by name.
    pub accounts: Vec<Maintained>,
    /// Logins to the configured upstream that the budget still allows, if the limiter could be read.
    pub login_permits_left: Option<u64>,
}

/// The result of one maintenance run for one account.
pub struct Maintained {
    /// Its name.
    pub account: AccountName,
    /// Its record after the run, if it can be read.
    pub record: Option<Account>,
    /// How it ended.
    pub outcome: MaintenanceOutcome,
    /// The work that it took.
    pub work: Work,
}

/// How the maintenance of one account ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    /// There was nothing to do yet, for this reason.
    Idle(IdleReason),
    /// It was due, but there was not enough time left.
    Postponed,
    /// The flow ended without an error.
    Done {
        /// Whether the account got a new pair.
        renewed: bool,
    },
    /// Maintenance failed.
    Failed(Failure),
}

impl Maintenance {
    /// The accounts that got a new pair.
    pub fn renewed(&self) -> usize {
        self.count(|outcome| *outcome == MaintenanceOutcome::Done { renewed: true })
    }

    /// The accounts whose maintenance failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, MaintenanceOutcome::Failed(_)))
    }

    /// The accounts for which the time ran out. The next run continues with them.
    pub fn postponed(&self) -> usize {
        self.count(|outcome| *outcome == MaintenanceOutcome::Postponed)
    }

    fn count(&self, is_counted: impl Fn(&MaintenanceOutcome) -> bool) -> usize {
        self.accounts.iter().filter(|maintained| is_counted(&maintained.outcome)).count()
    }
}

impl Broker {
    /// Maintains the accounts that need it, in the protocol's order: all renewals, then all revocations. If the time
    /// runs out, the next run continues with the rest.
    ///
    /// # Errors
    /// The table could not be listed.
    pub async fn maintain(&self, arrived: Moment, deadline: Timestamp) -> Result<Maintenance, StoreError> {
        let listed = self.ports.store.list_accounts().await?.into_iter();
        let mut accounts: Vec<_> =
            listed.map(|(account, record)| Maintained::before(account, record)).collect();
        for task in [Task::Renew, Task::Revoke] {
            self.carry_out(task, &mut accounts, arrived, deadline).await;
        }
        let limiter_name = LimiterName::default();
        let login_permits_left = tokio::select! {
            biased;
            limiter = self.ports.store.read_login_limiter(&limiter_name) => {
                let permits = |limiter: LoginLimiter| limiter.counting(self.now()).count();
                limiter.ok().map(|limiter| permits_left(self.login_budget(), permits(limiter)))
            }
            () = self.ports.clock.sleep_until(self.context(Draw(0)).ends(arrived, deadline)) => None,
        };
        Ok(Maintenance { accounts, login_permits_left })
    }

    /// Performs the due tasks of one kind.
    async fn carry_out(&self, task: Task, accounts: &mut [Maintained], arrived: Moment, deadline: Timestamp) {
        let cx = self.context(Draw(0));
        let mut waiting = Vec::new();
        for maintained in accounts {
            match maintained.record.as_ref().map(|record| maintenance(&maintained.account, record, cx)) {
                Some(protocol::Maintenance::Due(urgency)) if urgency.task == task => {
                    let renewed = maintained.outcome == RENEWED;
                    if !renewed {
                        maintained.outcome = MaintenanceOutcome::Postponed;
                    }
                    waiting.push((urgency, renewed, maintained));
                }
                Some(protocol::Maintenance::Idle(reason)) if maintained.outcome == UNSEEN => {
                    maintained.outcome = MaintenanceOutcome::Idle(reason);
                }
                _ => {}
            }
        }
        let (mut scheduler, mut running) = (FairScheduler::default(), FuturesUnordered::new());
        loop {
            // The response to the listing may have corrected the clock.
            while self.has_time(arrived, deadline)
                && let Some(next) = scheduler.next(waiting.iter().map(|(urgency, ..)| urgency))
            {
                let (urgency, renewed, maintained) = waiting.remove(next);
                running.push(async move {
                    self.maintain_account(task, maintained, arrived, deadline).await;
                    if renewed && maintained.outcome == UNSEEN {
                        maintained.outcome = RENEWED;
                    }
                    (urgency.host, matches!(maintained.outcome, MaintenanceOutcome::Failed(_)))
                });
            }
            let Some((host, failed)) = running.next().await else { break };
            scheduler.ended(&host, failed);
        }
    }

    fn has_time(&self, arrived: Moment, deadline: Timestamp) -> bool {
        let cx = self.context(Draw(0));
        self.policy.has_time_for_a_renewal(cx.now, cx.ends(arrived, deadline))
    }

    async fn maintain_account(
        &self,
        task: Task,
        maintained: &mut Maintained,
        arrived: Moment,
        deadline: Timestamp,
    ) {
        let account = maintained.account.clone();
        let request = Request { account, intent: Intent::Maintain(task), arrived, deadline };
        maintained.outcome = match self.serve(request, &mut maintained.work).await {
            Ok(Outcome::Report { renewed, .. }) => MaintenanceOutcome::Done { renewed },
            Ok(Outcome::Token(_) | Outcome::Unblocked { .. }) => MaintenanceOutcome::Done { renewed: false },
            Err(failure) => MaintenanceOutcome::Failed(failure),
        };
        // If the reread failed, this instance's cache may be older than the listing.
        let listed = maintained.record.as_ref().map(|record| record.version);
        let known = self.flight(&maintained.account).record();
        if let Some(known) = known.filter(|known| Some(known.version) >= listed) {
            maintained.record = Some(known);
        }
    }
}

impl Maintained {
    fn before(account: AccountName, record: Read<Account>) -> Self {
        let (record, outcome) = match record {
            Ok(record) => (Some(record), UNSEEN),
            Err(error) => (None, MaintenanceOutcome::Failed(error.into())),
        };
        Self { account, record, outcome, work: Work::default() }
    }
}
