//! A broker in memory, for the callers' tests. It needs no network.

use crate::{
    AccountName, BoxFuture, Broker, Call, Clock, Draw, Error, Generation, Limits, Reply, ServedFrom,
    Timestamp, TokenSource,
};
use contract::{Extra, Secret, TokenAnswer};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Answers like the broker. Its time moves only when a test says so. Clones share the same broker.
#[derive(Clone, Debug)]
pub struct FakeBroker(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    expires_in: Duration,
    extra: Option<Extra>,
    now: Timestamp,
    generations: HashMap<AccountName, u64>,
    refused: BTreeSet<String>,
    error: Option<Error>,
    calls: Vec<Call>,
}

impl Default for FakeBroker {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            expires_in: Duration::from_mins(15),
            extra: None,
            now: Timestamp::from_millis(1_800_000_000_000),
            generations: HashMap::new(),
            refused: BTreeSet::new(),
            error: None,
            calls: Vec::new(),
        })))
    }
}

impl FakeBroker {
    /// A token source of this broker and its time, with an empty cache.
    pub fn source(&self) -> TokenSource {
        TokenSource::with(self.clone(), self.clone(), Limits::default())
    }

    /// How long each answer lets a caller keep its token; initially 15 minutes.
    pub fn set_expires_in(&self, expires_in: Duration) {
        self.lock().expires_in = expires_in;
    }

    /// The fields of the upstream's answer that each answer passes on.
    pub fn set_extra(&self, extra: Option<Extra>) {
        self.lock().extra = extra;
    }

    /// Lets time pass. Tokens are renewed from two thirds of their life on.
    pub fn advance(&self, span: Duration) {
        let mut state = self.lock();
        state.now = state.now.plus(span);
    }

    /// From now on the API refuses the account's token. The broker replaces it once a caller reports it.
    pub fn revoke(&self, account: &AccountName) {
        let mut state = self.lock();
        let token = state.token(account);
        state.refused.insert(token);
    }

    /// Whether the API accepts this `Authorization` header. If not, let your fake API answer 401.
    pub fn accepts(&self, authorization: &str) -> bool {
        let state = self.lock();
        let tokens = state.generations.keys().map(|account| state.token(account));
        let mut live = tokens.filter(|token| !state.refused.contains(token));
        live.any(|token| authorization.strip_prefix("Bearer ") == Some(token.as_str()))
    }

    /// Lets all calls fail. [`Error::Unreachable`] is the error without a network.
    pub fn fail(&self, error: Error) {
        self.lock().error = Some(error);
    }

    /// Ends [`FakeBroker::fail`].
    pub fn recover(&self) {
        self.lock().error = None;
    }

    /// The calls received.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn token(&self, account: &AccountName) -> String {
        format!("fake-token-{account}-{}", self.generations.get(account).unwrap_or(&1))
    }

    fn answer(&mut self, call: &Call) -> Result<Reply, Error> {
        self.calls.push(call.clone());
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let account = call.account.clone().unwrap_or_default();
        let mut generation = *self.generations.get(&account).unwrap_or(&1);
        if call.rejected == Some(Generation(generation)) && self.refused.contains(&self.token(&account)) {
            generation += 1;
        }
        self.generations.insert(account.clone(), generation);
        let answer = TokenAnswer {
            access_token: Some(Secret::new(self.token(&account))),
            expires_in: self.expires_in.as_secs(),
            expires_at: None,
            account,
            generation: Generation(generation),
            served_from: ServedFrom::Memory,
            extra: self.extra.clone(),
        };
        Ok(Reply::new(serde_json::to_vec(&answer).unwrap_or_default()))
    }
}

impl Broker for FakeBroker {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(async move { self.lock().answer(call) })
    }
}

impl Clock for FakeBroker {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn draw(&self) -> Draw {
        Draw(0)
    }
}
