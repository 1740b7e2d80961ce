//! Performs the effects that the protocol asks for. It decides neither whether nor when to renew a pair.
//!
//! Single flight: all requests of this process for one account share an entry. The request that holds the entry's
//! guard runs its flow and publishes the cache after every step. The others watch that cache, and return as soon as
//! it answers them.

use crate::{
    ports::{Listed, Ports},
    work::{Performing, Work, permits_left},
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use protocol::{
    Account, AccountName, Cache, Call, Context, Draw, Effect, Event, Failure, Flow, Intent, LimiterName,
    LoginLimiter, Lookup, Notice, Outcome, Pair, Policy, Request, SecretError, Step, StoreError, Timestamp,
    UpstreamReply, Version, WriteOutcome, maintenance_urgency,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Accounts that are maintained at the same time.
const ACCOUNTS_AT_ONCE: usize = 8;
/// Entries of accounts without a record are dropped when there are more than this.
const ENTRIES_KEPT: usize = 256;

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
    /// What was due is done, as far as possible.
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

/// The broker of one process.
pub struct Broker {
    policy: Policy,
    ports: Ports,
    entries: Mutex<HashMap<AccountName, Arc<Entry>>>,
}

/// The single-flight entry of one account.
#[derive(Default)]
struct Entry {
    cache: watch::Sender<Cache>,
    guard: tokio::sync::Mutex<()>,
}

impl Broker {
    /// A broker with an empty cache.
    pub fn new(policy: Policy, ports: Ports) -> Self {
        Self { policy, ports, entries: Mutex::default() }
    }

    /// The operator's numbers.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The present, by this process's clock.
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Runs one request to its outcome, and reports what that took.
    pub async fn serve(&self, request: Request, work: &mut Work) -> Result<Outcome, Failure> {
        let clock = &self.ports.clock;
        let entry = self.entry(&request.account);
        let mut cache = entry.cache.subscribe();
        // All lookups and the flow's first step share one draw: selection for early refresh happens once per request.
        let draw = clock.draw();
        let mut waiting_since = None;
        // One place in the queue for the whole wait.
        let mut locked = std::pin::pin!(entry.guard.lock());
        let guard = loop {
            // Its borrow ends here: a second one beside it could wait for a writer that waits for the first.
            let lookup = cache.borrow_and_update().look_up(&request, self.context(draw));
            match lookup {
                Lookup::Answer(answer) => return Ok(Outcome::Token(answer)),
                Lookup::Fail(failure) => {
                    work.is_account_known = entry.has_record();
                    return Err(failure);
                }
                Lookup::Miss { .. } => {}
            }
            // A guard that is free at once was not waited for, whatever the clock says.
            if let Some(guard) = locked.as_mut().now_or_never() {
                break guard;
            }
            let since = *waiting_since.get_or_insert_with(|| clock.now());
            tokio::select! {
                biased;
                guard = &mut locked => {
                    work.waited = clock.now().since(since);
                    break guard;
                }
                Ok(()) = cache.changed() => work.waited = clock.now().since(since),
                () = clock.sleep_until(request.deadline) => {
                    work.waited = clock.now().since(since);
                    work.is_account_known = entry.has_record();
                    return Err(Failure::in_progress(request.deadline, request.deadline));
                }
            }
        };
        let (account, deadline) = (request.account.clone(), request.deadline);
        let mut flow = Flow::new(request, entry.cache.borrow().clone());
        let mut step = flow.begin(self.context(draw));
        let result = loop {
            entry.publish(flow.cache());
            for notice in flow.take_notices() {
                log_notice(&account, &notice);
            }
            let effect = match step {
                Step::Perform(effect) => effect,
                Step::Done(result) => break result,
            };
            let performing = Performing::of(&effect, &self.policy, clock.now());
            let event = self.perform_before(deadline, &account, effect).await;
            work.add(performing, &event, clock.now());
            step = flow.step(self.context(clock.draw()), event);
        };
        work.is_account_known = entry.has_record();
        drop(guard);
        self.forget_unknown_accounts(draw);
        result
    }

    /// Reads the records of these accounts, so that the first requests are answered from memory. Those that come earlier
    /// wait for it. Where it fails, they read the records themselves.
    pub async fn prefetch(&self, accounts: &[AccountName]) {
        let reads = accounts.iter().map(|account| async move {
            let entry = self.entry(account);
            let _guard = entry.guard.lock().await;
            let read_at = self.now();
            if let Ok(record) = self.ports.store.read_account(account).await {
                let cache = entry.cache.borrow().clone().with_prefetched(record, read_at);
                entry.publish(&cache);
            }
        });
        reads.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    /// The record of one account or of all, and the login rate limiter. An item that cannot be read is described.
    ///
    /// # Errors
    /// The store is out of reach.
    pub async fn status(
        &self,
        only: Option<&AccountName>,
    ) -> Result<(Vec<Listed>, Result<LoginLimiter, String>), StoreError> {
        let store = &self.ports.store;
        let records = match only {
            Some(name) => vec![(name.clone(), described(store.read_account(name).await)?)],
            None => store.list_accounts().await?,
        };
        Ok((records, described(store.read_login_limiter(&LimiterName::default()).await)?))
    }

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

    fn context(&self, draw: Draw) -> Context<'_> {
        Context { policy: &self.policy, now: self.now(), draw }
    }

    fn entry(&self, account: &AccountName) -> Arc<Entry> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(account) {
            return Arc::clone(entry);
        }
        Arc::clone(entries.entry(account.clone()).or_default())
    }

    /// Drops entries whose loss costs nothing. Callers may ask for any name, so such entries would pile up.
    fn forget_unknown_accounts(&self, draw: Draw) {
        let mut entries = self.entries();
        if entries.len() > ENTRIES_KEPT {
            let cx = self.context(draw);
            entries
                .retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.cache.borrow().is_forgettable(cx));
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<AccountName, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an effect. If it has not ended by the deadline, its outcome counts as unknown, and the flow ends by
    /// itself.
    async fn perform_before(&self, deadline: Timestamp, account: &AccountName, effect: Effect) -> Event {
        let timed_out = match &effect {
            Effect::ReadAccount => Event::Account(Err(StoreError::Unreachable)),
            Effect::ReadLimiter(_) => Event::Limiter(Err(StoreError::Unreachable)),
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => {
                Event::Written(WriteOutcome::Unknown)
            }
            Effect::ReadSecret => Event::Secret(Err(SecretError::Unreachable)),
            // The flow sends a call only if it can end before the deadline, and never pauses beyond it.
            Effect::Send { .. } | Effect::Pause { .. } => return self.perform(account, effect).await,
        };
        tokio::select! {
            biased;
            event = self.perform(account, effect) => event,
            () = self.ports.clock.sleep_until(deadline) => timed_out,
        }
    }

    async fn perform(&self, account: &AccountName, effect: Effect) -> Event {
        let Ports { store, secrets, upstream, clock } = &self.ports;
        match effect {
            Effect::ReadAccount => Event::Account(store.read_account(account).await),
            Effect::WriteAccount { expected, next } => {
                Event::Written(store.write_account(account, expected, &next).await)
            }
            Effect::ReadLimiter(name) => Event::Limiter(store.read_login_limiter(&name).await),
            Effect::WriteLimiter { name, expected, next } => {
                Event::Written(store.write_login_limiter(&name, expected, &next).await)
            }
            Effect::ReadSecret => Event::Secret(secrets.read(account).await),
            Effect::Send { call, not_after } => {
                // The process may have been paused since the flow decided to send.
                let left_at = clock.now();
                let reply =
                    if left_at > not_after { UpstreamReply::TooLate } else { upstream.send(&call).await };
                log_call(account, &call, &reply, clock.now().since(left_at).as_millis());
                Event::Replied(reply)
            }
            Effect::Pause { until } => {
                clock.sleep_until(until).await;
                Event::Resumed
            }
        }
    }
}

impl Maintained {
    fn before(account: AccountName, record: Result<Account, String>, cx: Context<'_>) -> Self {
        let (record, outcome) = match record {
            Ok(record) => {
                let reason = idle_reason(&account, &record, cx);
                (Some(record), MaintenanceOutcome::Idle(reason))
            }
            Err(what) => (None, MaintenanceOutcome::Failed(Failure::UnreadableItem(what))),
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

/// An item, or why it cannot be read.
fn described<T>(read: Result<T, StoreError>) -> Result<Result<T, String>, StoreError> {
    match read {
        Ok(item) => Ok(Ok(item)),
        Err(StoreError::Unreadable(what)) => Ok(Err(what)),
        Err(StoreError::Unreachable) => Err(StoreError::Unreachable),
    }
}

impl Entry {
    /// The record as this process knows it.
    fn record(&self) -> Option<Account> {
        self.cache.borrow().record.as_ref().map(|cached| cached.account.clone())
    }

    fn has_record(&self) -> bool {
        self.cache.borrow().record.as_ref().is_some_and(|cached| cached.account.version > Version(0))
    }

    fn publish(&self, cache: &Cache) {
        self.cache.send_if_modified(|published| {
            let changed = published != cache;
            if changed {
                published.clone_from(cache);
            }
            changed
        });
    }
}

fn log_call(account: &AccountName, call: &Call, reply: &UpstreamReply, elapsed_ms: u128) {
    let call = call.name();
    let succeeded =
        matches!(reply, UpstreamReply::Granted(_) | UpstreamReply::Revoked | UpstreamReply::Alive);
    let reply = reply.name();
    if succeeded {
        // The invocation's line counts the calls.
        tracing::debug!(%account, call, reply, elapsed_ms, "upstream call");
    } else {
        tracing::warn!(%account, call, reply, elapsed_ms, "upstream call");
    }
}

fn log_notice(account: &AccountName, notice: &Notice) {
    match notice {
        Notice::LeaseAcquired(fence) => tracing::debug!(%account, fence = fence.0, "lease acquired"),
        Notice::LeaseConflict => tracing::debug!(%account, "lease conflict: another attempt wrote first"),
        Notice::ExpiryAssumed => {
            tracing::warn!(%account, "the upstream's expiry is missing, unreadable or past; assuming one hour");
        }
        Notice::RefreshRefused => tracing::warn!(%account, "refresh token refused; logging in"),
        Notice::FoundAlive(generation) => {
            tracing::info!(%account, generation = generation.0, "access token reported as rejected, but a probe found it alive");
        }
        Notice::FoundDead(generation) => {
            tracing::warn!(%account, generation = generation.0, "a probe found the access token dead");
        }
        Notice::PairWithdrawn(generation) => {
            tracing::warn!(%account, generation = generation.0, "pair withdrawn");
        }
        Notice::PairSaved(generation) => tracing::debug!(%account, generation = generation.0, "pair saved"),
        Notice::WritePending(generation) => {
            tracing::warn!(%account, generation = generation.0, "pair not saved yet; serving it from memory");
        }
        Notice::LeaseLost(generation) => {
            tracing::warn!(%account, generation = generation.0, "lease lost before this pair was saved");
        }
        Notice::OrphanRecorded(generation) => {
            tracing::info!(%account, generation = generation.0, "an orphan, a pair that was never saved, is to be revoked");
        }
        Notice::RevocationsDropped(count) => {
            tracing::warn!(%account, count, "pending revocations given up: expired, in use again, or too many");
        }
        Notice::RevocationRefused => {
            tracing::warn!(%account, "the upstream refused to revoke a token; is BROKER_REVOKE_FIELD right?");
        }
        Notice::Unblocked => tracing::info!(%account, "account unblocked"),
        Notice::CooldownStarted(until) => {
            tracing::warn!(%account, until_ms = until.as_millis(), "cooldown started");
        }
        Notice::SecretRejected(version) => {
            tracing::error!(%account, secret_version = %version, "credentials rejected; put a new version of the secret");
        }
    }
}

#[cfg(test)]
mod tests;
