//! Performs what the core asks for. No policy of its own: every *whether* and *when* is decided in
//! [`crate::core`].
//!
//! Where one process serves several invocations at once they share what they know of an account: the first
//! one takes the turn and does the work, the others watch what it learns, and are answered from that as soon
//! as it serves them.

use protocol::{Request, Done, Intent, Failure, Effect, Event, Flow, Notice, SecretError, StoreError, WriteOutcome, Call, UpstreamReply, Memory, Lookup, Policy, AccountName, status, AccountStatus, LoginLimiterStatus, Timestamp};
use crate::{ports::Ports};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// An account whose stored item cannot be read, and what is wrong with it.
pub type Unreadable = (AccountName, String);

/// The broker of one process.
pub struct Broker {
    policy: Policy,
    ports: Ports,
    slots: Mutex<HashMap<AccountName, Arc<Slot>>>,
}

/// What one process knows of one account, and whose turn it is to find out more.
#[derive(Default)]
struct Slot {
    memory: watch::Sender<Cache>,
    turn: tokio::sync::Mutex<()>,
}

impl Broker {
    /// A broker that knows nothing yet.
    pub fn new(policy: Policy, ports: Ports) -> Self {
        Self { policy, ports, slots: Mutex::default() }
    }

    /// The operator's numbers.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The present, by this process's clock.
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Does what a request asks for.
    pub async fn serve(&self, ask: Request) -> Result<Outcome, Failure> {
        let clock = &self.ports.clock;
        let slot = self.slot(&ask.account);
        let mut memory = slot.memory.subscribe();
        // One draw for all that memory is asked: whether to renew a pair that is due is decided once.
        let draw = clock.draw();
        let turn = loop {
            match memory.borrow_and_update().look_up(&ask, &self.policy, clock.now(), draw) {
                Lookup::Answer(answer) => return Ok(Outcome::Token(answer)),
                Lookup::Fail(failure) => return Err(failure),
                Lookup::Look { .. } => {}
            }
            tokio::select! {
                biased;
                turn = slot.turn.lock() => break turn,
                Ok(()) = memory.changed() => {}
                () = clock.sleep_until(ask.deadline) => return Err(Failure::in_progress(ask.deadline, ask.deadline)),
            }
        };
        let (account, deadline) = (ask.account.clone(), ask.deadline);
        let mut flow = Flow::new(ask, slot.memory.borrow().clone());
        let mut effect = flow.step(&self.policy, Event::Begin, clock.now(), draw);
        let result = loop {
            slot.publish(flow.memory());
            for notice in flow.take_notices() {
                log(&account, &notice);
            }
            let event = match effect {
                Effect::Done(result) => break result,
                effect => self.perform_in_time(&account, effect, deadline).await,
            };
            effect = flow.step(&self.policy, event, clock.now(), clock.draw());
        };
        drop(turn);
        if flow.memory().copy.as_ref().is_none_or(|copy| copy.account.version.0 == 0) {
            // Nothing is known of this account, and anybody can ask for any name.
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.get(&account).is_some_and(|kept| Arc::ptr_eq(kept, &slot)) {
                slots.remove(&account);
            }
        }
        result
    }

    /// What is known of one account, or of all in the table.
    pub async fn status(
        &self,
        only: Option<&AccountName>,
    ) -> Result<(Vec<Result<AccountStatus, Unreadable>>, LoginLimiterStatus), StoreError> {
        let store = &self.ports.store;
        let records = match only {
            Some(name) => vec![(name.clone(), Ok(store.read_account(name).await?))],
            None => store.list_accounts().await?,
        };
        let limiter = store.read_login_limiter().await?;
        let now = self.now();
        let accounts = records.into_iter().map(|(name, record)| match record {
            Ok(account) => Ok(status::of_account(name, &account, &self.policy, now)),
            Err(what) => Err((name, what)),
        });
        let accounts = accounts.collect();
        Ok((accounts, status::of_login_limiter(&limiter, &self.policy, now)))
    }

    /// Maintains every account in the table, one after another: the schedule comes round again for those that
    /// the time does not suffice for.
    pub async fn maintain(
        &self,
        arrived_at: Timestamp,
        deadline: Timestamp,
    ) -> Result<Vec<(AccountName, Result<Outcome, Failure>)>, StoreError> {
        let mut outcomes = Vec::new();
        let mut listed = self.ports.store.list_accounts().await?;
        // Begins anywhere, so that accounts which fail and use up the time do not keep the same others from
        // their turn in every round.
        let first = usize::try_from(self.ports.clock.draw().0).unwrap_or_default().checked_rem(listed.len());
        listed.rotate_left(first.unwrap_or_default());
        for (account, _) in listed {
            let goal = Intent::Maintain { revoked: false };
            let ask = Request { account: account.clone(), goal, arrived_at, deadline };
            outcomes.push((account, self.serve(ask).await));
        }
        outcomes.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(outcomes)
    }

    fn slot(&self, account: &AccountName) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(account) {
            return Arc::clone(slot);
        }
        Arc::clone(slots.entry(account.clone()).or_default())
    }

    /// Performs an effect, but no longer than the caller can wait: what has not ended by then counts as
    /// unknown, so that the flow itself can bring what it has to an end.
    async fn perform_in_time(&self, account: &AccountName, effect: Effect, deadline: Timestamp) -> Event {
        let given_up = match &effect {
            Effect::ReadAccount => Event::Account(Err(StoreError::Unreachable)),
            Effect::ReadLimiter => Event::Limiter(Err(StoreError::Unreachable)),
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => Event::Written(WriteOutcome::Unknown),
            Effect::ReadSecret => Event::Secret(Err(SecretError::Unreachable)),
            // An upstream call leaves only where it can end in time, and a pause ends in time by itself.
            Effect::Send { .. } | Effect::Pause { .. } | Effect::Done(_) => {
                return self.perform(account, effect).await;
            }
        };
        tokio::select! {
            biased;
            event = self.perform(account, effect) => event,
            () = self.ports.clock.sleep_until(deadline) => given_up,
        }
    }

    async fn perform(&self, account: &AccountName, effect: Effect) -> Event {
        let Ports { store, secrets, upstream, clock } = &self.ports;
        match effect {
            Effect::ReadAccount => Event::Account(store.read_account(account).await),
            Effect::WriteAccount { expected, next } => {
                Event::Written(store.write_account(account, expected, &next).await)
            }
            Effect::ReadLimiter => Event::Limiter(store.read_login_limiter().await),
            Effect::WriteLimiter { expected, next } => {
                Event::Written(store.write_login_limiter(expected, &next).await)
            }
            Effect::ReadSecret => Event::Secret(secrets.read(account).await),
            Effect::Send { call, not_after } => {
                // The process may have been paused since this was decided.
                let left_at = clock.now();
                let reply = if left_at > not_after { UpstreamReply::TooLate } else { upstream.send(&call).await };
                log_call(account, &call, &reply, clock.now().since(left_at).as_millis());
                Event::Replied(reply)
            }
            Effect::Pause { until } => {
                clock.sleep_until(until).await;
                Event::Resumed
            }
            Effect::Done(_) => Event::Begin, // never performed: the loop ends with it
        }
    }
}

impl Slot {
    fn publish(&self, memory: &Cache) {
        self.memory.send_if_modified(|known| {
            let changed = known != memory;
            if changed {
                known.clone_from(memory);
            }
            changed
        });
    }
}

fn log_call(account: &AccountName, call: &Call, reply: &UpstreamReply, elapsed_ms: u128) {
    let call = match call {
        Call::Login(_) => "login",
        Call::Refresh { .. } => "refresh",
        Call::Revoke(_) => "revoke",
        Call::Probe { .. } => "probe",
    };
    let outcome = match reply {
        UpstreamReply::Granted(_) => "granted",
        UpstreamReply::Revoked => "revoked",
        UpstreamReply::Alive => "alive",
        UpstreamReply::Refused => "refused",
        UpstreamReply::RateLimited(_) => "rate_limited",
        UpstreamReply::Unclear => "unclear",
        UpstreamReply::NeverLeft => "never_left",
        UpstreamReply::TooLate => "too_late",
    };
    if matches!(reply, UpstreamReply::Granted(_) | UpstreamReply::Revoked | UpstreamReply::Alive) {
        tracing::info!(%account, call, outcome, elapsed_ms, "upstream call");
    } else {
        tracing::warn!(%account, call, outcome, elapsed_ms, "upstream call");
    }
}

fn log(account: &AccountName, notice: &Notice) {
    match notice {
        Notice::Acquired(fence) => tracing::debug!(%account, fence = fence.0, "lease taken"),
        Notice::LeaseConflict => tracing::debug!(%account, "another attempt was faster"),
        Notice::ExpiryAssumed => {
            tracing::warn!(%account, "the upstream's expiry is missing, unreadable or past; one hour is assumed");
        }
        Notice::RefreshRefused => tracing::warn!(%account, "the refresh token was refused; a login follows"),
        Notice::FoundAlive(generation) => {
            tracing::info!(%account, generation = generation.0, "a caller says that this token was rejected; it is alive");
        }
        Notice::FoundDead(generation) => {
            tracing::warn!(%account, generation = generation.0, "this token is dead");
        }
        Notice::Withdrawn(generation) => {
            tracing::warn!(%account, generation = generation.0, "withdrawing this pair");
        }
        Notice::Saved(generation) => tracing::info!(%account, generation = generation.0, "pair saved"),
        Notice::WritePending(generation) => {
            tracing::warn!(%account, generation = generation.0, "pair not saved yet; served from memory meanwhile");
        }
        Notice::LeaseLost(generation) => {
            tracing::warn!(%account, generation = generation.0, "another instance took over before this pair was saved");
        }
        Notice::OrphanRevoked(generation) => {
            tracing::info!(%account, generation = generation.0, "revoking a pair that was never saved");
        }
        Notice::CooldownStarted(until) => {
            tracing::warn!(%account, until_ms = until.as_millis(), "no renewal before this instant");
        }
        Notice::SecretRejected(version) => {
            tracing::error!(%account, secret_version = %version, "credentials refused; put a new version of the secret");
        }
    }
}
