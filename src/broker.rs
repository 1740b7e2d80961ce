//! Performs the effects that the protocol asks for. It decides neither whether nor when to renew a pair.
//!
//! Single flight: all requests of this process for one account share a `SingleFlight`. The request that holds its
//! guard runs its flow and publishes the cache after every step. The others watch that cache, and return as soon as
//! it answers them.

mod log;
mod maintenance;

pub use maintenance::{Maintained, Maintenance, MaintenanceOutcome};

use crate::{
    ports::{Listed, Ports},
    work::{Performing, Work},
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use log::{log_call, log_notice};
use protocol::{
    Account, AccountName, Budget, Cache, Context, Draw, Effect, Event, Failure, Flow, LimiterName,
    LoginLimiter, LoginLimits, Lookup, Moment, Notice, Outcome, Policy, Read, Request, SecretError, Step,
    StoreError, Timestamp, UpstreamReply, Version,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Above this number, accounts without a record are forgotten.
const ACCOUNTS_KEPT: usize = 256;

/// The broker of one process.
pub struct Broker {
    policy: Policy,
    limits: LoginLimits,
    ports: Ports,
    flights: Mutex<HashMap<AccountName, Arc<SingleFlight>>>,
}

/// Lets one request at a time run its flow for an account.
#[derive(Default)]
struct SingleFlight {
    cache: watch::Sender<Cache>,
    guard: tokio::sync::Mutex<()>,
}

impl Broker {
    /// A broker with an empty cache.
    pub fn new(policy: Policy, ports: Ports) -> Self {
        Self { policy, limits: LoginLimits::NONE, ports, flights: Mutex::default() }
    }

    /// With these limits of other hosts.
    #[must_use]
    pub fn limited_by(self, limits: LoginLimits) -> Self {
        Self { limits, ..self }
    }

    /// The logins that the configured host accepts.
    pub fn login_budget(&self) -> Budget {
        self.limits.budget_of(&self.policy, &LimiterName::default())
    }

    /// The policy that the operator configured.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The present, in the store's time.
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// The present by both clocks of this process.
    pub fn moment(&self) -> Moment {
        self.ports.clock.present().moment()
    }

    /// Converts an instant of this machine's clock, such as Lambda's deadline, to the store's time.
    pub fn store_time_of(&self, local: Timestamp) -> Timestamp {
        let (now, own) = (self.now(), self.ports.clock.reading().wall);
        now.plus(local.since(own)).minus(own.since(local))
    }

    /// Runs one request to its outcome, and reports the work that it took.
    pub async fn serve(&self, request: Request, work: &mut Work) -> Result<Outcome, Failure> {
        let clock = &self.ports.clock;
        let flight = self.flight(&request.account);
        let mut cache = flight.cache.subscribe();
        // All lookups and the flow's first step share one draw: selection for early refresh happens once per request.
        let draw = clock.draw();
        let mut waiting_since = None;
        // Keeps one place in the queue for the whole wait.
        let mut locked = std::pin::pin!(flight.guard.lock());
        let guard = loop {
            // The borrow ends here. A second one could wait for a writer that waits for the first.
            let lookup = cache.borrow_and_update().look_up(&request, self.context(draw));
            match lookup {
                Lookup::Answer(answer) => return Ok(Outcome::Token(answer)),
                Lookup::Fail(failure) => {
                    work.is_account_known = flight.has_record();
                    return Err(failure);
                }
                Lookup::Miss { .. } => {}
            }
            // If the guard was free, the request did not wait, whatever the clock says.
            if let Some(guard) = locked.as_mut().now_or_never() {
                break guard;
            }
            let since = *waiting_since.get_or_insert_with(|| clock.present().uptime);
            tokio::select! {
                biased;
                guard = &mut locked => {
                    work.waited = clock.present().uptime.since(since);
                    break guard;
                }
                Ok(()) = cache.changed() => work.waited = clock.present().uptime.since(since),
                () = clock.sleep_until(request.ends(self.context(draw))) => {
                    work.waited = clock.present().uptime.since(since);
                    work.is_account_known = flight.has_record();
                    return Err(Failure::RefreshInProgress { retry_after: Duration::ZERO });
                }
            }
        };
        let mut flow = Flow::new(request.clone(), flight.cache.borrow().clone());
        let mut step = flow.begin(self.context(draw));
        let result = loop {
            flight.publish(flow.cache());
            for notice in flow.take_notices() {
                work.clock_off |= notice == Notice::ClockOff;
                log_notice(&request.account, &notice);
            }
            let effect = match step {
                Step::Perform(effect) => effect,
                Step::Done(result) => break result,
            };
            let performing = Performing::of(&effect, self.login_budget(), self.moment());
            let event = self.perform_before(request.ends(self.context(draw)), &request.account, effect).await;
            work.add(performing, &event, clock.present().uptime);
            step = flow.step(self.context(clock.draw()), event);
        };
        work.is_account_known = flight.has_record();
        drop(guard);
        self.forget_unknown_accounts(draw);
        result
    }

    /// Reads the records of these accounts, so that the first requests are answered from memory. Requests that arrive
    /// earlier wait for this read. If it fails, they read the records themselves.
    pub async fn prefetch(&self, accounts: &[AccountName]) {
        let reads = accounts.iter().map(|account| async move {
            let flight = self.flight(account);
            let _guard = flight.guard.lock().await;
            let read_at = self.moment();
            if let Ok(record) = self.ports.store.read_account(account).await {
                let cache = flight.cache.borrow().clone().with_prefetched(record, read_at);
                flight.publish(&cache);
            }
        });
        reads.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    /// The record of one account or of all, and the login rate limiter. An unreadable item appears as an error in its
    /// place.
    ///
    /// # Errors
    /// The store is unreachable or denies access, or the account has neither a record nor a secret.
    pub async fn status(
        &self,
        only: Option<&AccountName>,
    ) -> Result<(Vec<Listed>, Read<LoginLimiter>), Failure> {
        let store = &self.ports.store;
        let records = match only {
            Some(name) => vec![(name.clone(), self.known_record(name).await?)],
            None => store.list_accounts().await?,
        };
        let limiter = store.read_login_limiter(&LimiterName::default()).await;
        let errors =
            records.iter().filter_map(|(_, record)| record.as_ref().err()).chain(limiter.as_ref().err());
        match errors.into_iter().find(|error| !matches!(error, StoreError::Unreadable(_))) {
            Some(error) => Err(error.clone().into()),
            None => Ok((records, limiter)),
        }
    }

    /// Checks that an account has a record or a secret. A misspelt name must not look like a success.
    ///
    /// # Errors
    /// It has neither, or the stores could not tell.
    pub async fn ensure_known(&self, name: &AccountName) -> Result<(), Failure> {
        self.known_record(name).await.map(drop)
    }

    /// The record of an account. It may be empty if the account has a secret.
    async fn known_record(&self, name: &AccountName) -> Result<Read<Account>, Failure> {
        let record = self.ports.store.read_account(name).await;
        if !record.as_ref().is_ok_and(|account| account.version == Version(0)) {
            return Ok(record);
        }
        match self.ports.secrets.read(name).await {
            Ok(_) | Err(SecretError::Bad(_)) => Ok(record),
            Err(error) => Err(error.into()),
        }
    }

    fn context(&self, draw: Draw) -> Context<'_> {
        let limits = &self.limits;
        Context { limits, ..Context::at_present(&self.policy, self.ports.clock.present(), draw) }
    }

    fn flight(&self, account: &AccountName) -> Arc<SingleFlight> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(account) {
            return Arc::clone(flight);
        }
        Arc::clone(flights.entry(account.clone()).or_default())
    }

    /// Forgets accounts that are no longer needed. Callers may ask for any name, so entries would accumulate.
    fn forget_unknown_accounts(&self, draw: Draw) {
        let mut flights = self.flights();
        if flights.len() > ACCOUNTS_KEPT {
            let cx = self.context(draw);
            flights.retain(|_, flight| {
                Arc::strong_count(flight) > 1 || !flight.cache.borrow().is_forgettable(cx)
            });
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<AccountName, Arc<SingleFlight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an effect. If it has not ended by the deadline, its outcome is unknown, and the flow ends.
    async fn perform_before(&self, deadline: Timestamp, account: &AccountName, effect: Effect) -> Event {
        let Some(timed_out) = effect.without_reply() else { return self.perform(account, effect).await };
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
                let left = clock.present();
                let reply =
                    if left.now > not_after { UpstreamReply::TooLate } else { upstream.send(&call).await };
                let elapsed = clock.present().uptime.since(left.uptime);
                log_call(account, &call, &reply, elapsed.as_millis());
                Event::Replied(reply)
            }
            Effect::Pause { until } => {
                clock.sleep_until(until).await;
                Event::Resumed
            }
        }
    }
}

impl SingleFlight {
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

#[cfg(test)]
mod tests;
