//! Tokens by account: from the cache, or by one call to the broker at a time.

use crate::{
    Action, Broker, Call, Clock, Error, SystemClock, Token,
    cache::{CLOCK_STEP, CachedAccount, Demand, Lookup, is_of_the_request},
    clock::{unless_frozen, within},
};
use contract::{AccountName, Generation, Timestamp};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How often [`TokenSource::keep_fresh`] checks the wall clock.
const TICK: Duration = Duration::from_secs(5);
/// The shortest pause of [`TokenSource::keep_fresh`] between two calls, whatever the broker answers.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A limit, so that a caller that keeps using new account names cannot fill the memory. Calls in flight may exceed it
/// for a while.
const MOST_ACCOUNTS: usize = 1_000;

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a caller waits in all while there is an unexpired token.
    pub wait: Duration,
    /// How long a caller waits in all for the first token, and for a report: the broker may have to log in.
    pub login_wait: Duration,
    /// How long one call to the broker may take. It continues after its callers have stopped waiting.
    pub call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { wait: seconds(5), login_wait: seconds(20), call: seconds(30) }
    }
}

/// Hands out tokens. Clones share one cache.
///
/// A token is renewed in the background at two thirds of its lifetime. While the broker is unreachable, a token is
/// handed out until it expires. There is at most one call per account at a time, shared by all waiting callers.
#[derive(Clone)]
pub struct TokenSource(Arc<Shared>);

struct Shared {
    broker: Box<dyn Broker>,
    clock: Box<dyn Clock>,
    limits: Limits,
    accounts: Mutex<HashMap<AccountName, AccountState>>,
}

#[derive(Default)]
struct AccountState {
    cache: CachedAccount,
    flight: Option<Flight>,
    flights: u64,
}

struct Flight {
    number: u64,
    demand: Demand,
    started_at: Timestamp,
    gives_up_at: Timestamp,
    result: Pending,
}

/// How a call in flight ends.
#[derive(Clone)]
enum Ended {
    With(Result<Token, Error>),
    /// The process was frozen meanwhile, so a failure says nothing.
    Frozen,
}

type Pending = watch::Receiver<Option<Ended>>;

impl Flight {
    /// Whether an answer may still come. After a freeze, the call's connection is closed. If the clock stepped back,
    /// the call's age is unknown.
    fn is_alive(&self, now: Timestamp) -> bool {
        self.has_sane_age(now) && now < self.gives_up_at && self.result.has_changed().is_ok()
    }

    /// Whether the clock has not stepped back since the call began.
    fn has_sane_age(&self, now: Timestamp) -> bool {
        self.started_at <= now.plus(CLOCK_STEP)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenSource").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// A source with an empty cache.
    pub fn new(broker: impl Broker) -> Self {
        Self::with(broker, SystemClock, Limits::default())
    }

    /// A source with the caller's own clock and limits.
    pub fn with(broker: impl Broker, clock: impl Clock, limits: Limits) -> Self {
        let (broker, clock) = (Box::new(broker), Box::new(clock));
        Self(Arc::new(Shared { broker, clock, limits, accounts: Mutex::default() }))
    }

    /// A token that is valid for a minute, or for half of its lifetime if that is less.
    ///
    /// # Errors
    /// The cache has no such token, and the broker returned none in time.
    pub async fn get(&self, account: &AccountName) -> Result<Token, Error> {
        self.obtain(account, Demand::default()).await
    }

    /// A token that is valid for `min_ttl`.
    ///
    /// # Errors
    /// As [`TokenSource::get`].
    pub async fn get_for(&self, account: &AccountName, min_ttl: Duration) -> Result<Token, Error> {
        self.obtain(account, Demand { min_ttl: Some(min_ttl), rejected: None }).await
    }

    /// Reports that the API refused the token of `generation`, and returns the token to use now.
    ///
    /// The broker verifies the report. If the result has the same generation, the token is alive and the API refused
    /// for another reason: do not repeat the request.
    ///
    /// # Errors
    /// The broker could not verify or replace the token in time. The reported token stays in the cache.
    pub async fn report(&self, account: &AccountName, generation: Generation) -> Result<Token, Error> {
        self.obtain(account, Demand { min_ttl: None, rejected: Some(generation) }).await
    }

    /// [`TokenSource::report`] for a caller that needs the new token for `min_ttl`.
    ///
    /// # Errors
    /// As [`TokenSource::report`].
    pub async fn report_for(
        &self,
        account: &AccountName,
        generation: Generation,
        min_ttl: Duration,
    ) -> Result<Token, Error> {
        self.obtain(account, Demand { min_ttl: Some(min_ttl), rejected: Some(generation) }).await
    }

    /// Fetches the account's token and renews it in time, forever. Spawn it, and abort the task to end it.
    /// `observe` gets the result of each call.
    pub async fn keep_fresh(&self, account: AccountName, mut observe: impl FnMut(&Result<Token, Error>)) {
        loop {
            let now = self.0.clock.now();
            let due = self.0.lock().entry(account.clone()).or_default().cache.next_renewal(now);
            if due.is_none_or(|due| due <= now) {
                let result = self.0.start_or_join(&account, Demand::default());
                if let Ended::With(result) = settled(result).await {
                    observe(&result);
                }
                tokio::time::sleep(SHORTEST_PAUSE).await;
            } else {
                let pause = due.map_or(TICK, |due| due.since(now)).min(TICK);
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Calls the broker, bypassing the cache.
    ///
    /// # Errors
    /// The broker's errors, or that it was unreachable.
    pub async fn call(&self, call: &Call) -> Result<crate::Reply, Error> {
        self.0.call(call).await.0
    }

    /// Forgets all tokens and failures. Calls in flight continue.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// The time of this source's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    async fn obtain(&self, account: &AccountName, demand: Demand) -> Result<Token, Error> {
        let shared = &self.0;
        let limit = shared.longest_wait(account, demand);
        let deadline = shared.clock.now().plus(limit);
        loop {
            let (called_for, result) = match shared.look_up(account, demand) {
                Ready::Token(token) => return Ok(token),
                Ready::Failed(error) => return Err(error),
                Ready::Wait { demand, result } => (demand, result),
            };
            let Some(result) = within(&*shared.clock, deadline, settled(result)).await else {
                return Err(Error::StillWaiting(limit));
            };
            let result = match result {
                Ended::With(result) => result,
                Ended::Frozen if shared.clock.now() < deadline => continue,
                Ended::Frozen => return Err(Error::StillWaiting(limit)),
            };
            match result {
                // An error in another caller's options.
                Err(error) if called_for != demand && is_of_the_request(&error) => {}
                // A call that does not cover this demand, such as a plain renewal during a report, has put its result
                // into the cache.
                Ok(_) if !demand.is_covered_by(called_for) => {}
                result => return demand.check(result?, shared.clock.now()),
            }
        }
    }
}

enum Ready {
    Token(Token),
    Failed(Error),
    Wait { demand: Demand, result: Pending },
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<AccountName, AccountState>> {
        // No code panics while it holds the lock, and a half-done change is not possible.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn longest_wait(&self, account: &AccountName, demand: Demand) -> Duration {
        let now = self.clock.now();
        let accounts = self.lock();
        let exists = accounts.get(account).is_some_and(|state| state.cache.expires_at() > now);
        if exists && demand.rejected.is_none() { self.limits.wait } else { self.limits.login_wait }
    }

    fn look_up(self: &Arc<Self>, account: &AccountName, demand: Demand) -> Ready {
        let now = self.clock.now();
        let mut accounts = self.lock();
        if !accounts.contains_key(account) {
            make_room(&mut accounts);
        }
        let state = accounts.entry(account.clone()).or_default();
        match state.cache.look_up(demand, now) {
            Lookup::Answer { token, renew } => {
                if renew {
                    self.join(state, account, Demand::default(), now);
                }
                Ready::Token(token)
            }
            Lookup::Fail(error) => Ready::Failed(error),
            Lookup::Miss => {
                let (demand, result) = self.join(state, account, demand, now);
                Ready::Wait { demand, result }
            }
        }
    }

    fn start_or_join(self: &Arc<Self>, account: &AccountName, demand: Demand) -> Pending {
        let now = self.clock.now();
        self.join(self.lock().entry(account.clone()).or_default(), account, demand, now).1
    }

    /// Joins the call in flight, whatever its purpose, or starts one.
    fn join(
        self: &Arc<Self>,
        state: &mut AccountState,
        account: &AccountName,
        demand: Demand,
        now: Timestamp,
    ) -> (Demand, Pending) {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.is_alive(now)) {
            return (flight.demand, flight.result.clone());
        }
        state.flights += 1;
        let number = state.flights;
        let (done, result) = watch::channel(None);
        let gives_up_at = now.plus(self.limits.call);
        state.flight = Some(Flight { number, demand, started_at: now, gives_up_at, result: result.clone() });
        let (shared, account) = (Arc::clone(self), account.clone());
        // In a separate task, because other callers may still wait when the caller that started it leaves.
        tokio::spawn(async move {
            let ended = shared.fetch(&account, demand).await;
            shared.finish(&account, number, demand, &ended);
            // All callers may have left.
            let _ = done.send(Some(ended));
        });
        (demand, result)
    }

    async fn fetch(&self, account: &AccountName, demand: Demand) -> Ended {
        let call = Call {
            min_ttl: demand.min_ttl,
            rejected: demand.rejected,
            ..Call::new(Action::Token, Some(account.clone()))
        };
        let requested_at = self.clock.now();
        match self.call(&call).await {
            // If the clock stepped back meanwhile, the earlier of the two instants counts.
            (Ok(reply), _) => Ended::With(reply.token(account, requested_at.min(self.clock.now()))),
            (Err(_), true) => Ended::Frozen,
            (Err(error), false) => Ended::With(Err(error)),
        }
    }

    /// Performs a call, and returns whether the process was frozen meanwhile.
    async fn call(&self, call: &Call) -> (Result<crate::Reply, Error>, bool) {
        let deadline = self.clock.now().plus(self.limits.call);
        let (reply, was_frozen) = unless_frozen(&*self.clock, deadline, self.broker.call(call)).await;
        let no_answer =
            || Err(Error::Unreachable(format!("no answer within {} s", self.limits.call.as_secs())));
        (reply.unwrap_or_else(no_answer), was_frozen)
    }

    fn finish(&self, account: &AccountName, number: u64, demand: Demand, ended: &Ended) {
        let (now, draw) = (self.clock.now(), self.clock.draw());
        let mut accounts = self.lock();
        let state = accounts.entry(account.clone()).or_default();
        let flight = state.flight.take_if(|flight| flight.number == number);
        match ended {
            Ended::With(Ok(token)) => state.cache.store(demand, token.clone(), now, draw),
            // A call that another one replaced says nothing about the next one.
            Ended::With(Err(error)) if flight.is_some_and(|flight| flight.has_sane_age(now)) => {
                state.cache.fail(demand, error, now, draw);
            }
            Ended::With(Err(_)) | Ended::Frozen => {}
        }
    }
}

/// Makes room for one more account: of those without a call in flight, drops the ones whose tokens expire first.
fn make_room(accounts: &mut HashMap<AccountName, AccountState>) {
    let excess = (accounts.len() + 1).saturating_sub(MOST_ACCOUNTS);
    if excess == 0 {
        return;
    }
    let idle = accounts.iter().filter(|(_, state)| state.flight.is_none());
    let mut idle: Vec<_> = idle.map(|(name, state)| (state.cache.expires_at(), name.clone())).collect();
    idle.sort_unstable();
    for (_, name) in idle.iter().take(excess) {
        accounts.remove(name);
    }
}

async fn settled(mut result: Pending) -> Ended {
    let done = result.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
    done.unwrap_or_else(|| Ended::With(Err(Error::Unreachable("the call was ended".to_owned()))))
}

#[cfg(test)]
mod tests;
