//! Ports without I/O: one account with a valid pair, an upstream that grants everything, and a clock that moves only
//! while a flow pauses.

use async_trait::async_trait;
use protocol::{
    Account, AccountName, Call, Credentials, Draw, Expiry, LimiterName, Login, LoginLimiter, NewRefreshToken,
    Origin, Pair, Secret, SecretError, SecretVersion, StoreError, Timestamp, TokenResponse, UpstreamReply,
    Version, WriteOutcome, testing,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use token_broker::ports::{Clock, Listed, Ports, Secrets, Store, Upstream};

/// The access token that callers with permission get.
pub(crate) const ACCESS_TOKEN: &str = "ACCESS-TOKEN-OF-THE-ACCOUNT";
/// The access token after a renewal.
pub(crate) const RENEWED_TOKEN: &str = "RENEWED-TOKEN-OF-THE-ACCOUNT";
/// These never leave the broker.
pub(crate) const KEPT_INSIDE: [&str; 3] =
    ["REFRESH-TOKEN-OF-THE-ACCOUNT", "EMAIL-OF-THE-ACCOUNT", "PASSWORD-OF-THE-ACCOUNT"];
const START: Timestamp = Timestamp::from_millis(1_775_478_896_000);
const LIFETIME: Duration = Duration::from_secs(10 * 86_400);

/// The ports, and how often they were used.
pub(crate) struct Memory {
    accounts: Mutex<BTreeMap<AccountName, Account>>,
    limiter: Mutex<LoginLimiter>,
    /// Milliseconds since the start.
    slept: AtomicU64,
    pub(crate) reads: AtomicUsize,
    pub(crate) writes: AtomicUsize,
    /// Calls of the upstream other than probes.
    pub(crate) renewals: AtomicUsize,
}

impl Default for Memory {
    fn default() -> Self {
        let record = Account { version: Version(8), pair: Some(pair()), ..Account::default() };
        Self {
            accounts: Mutex::new(BTreeMap::from([(AccountName::default(), record)])),
            limiter: Mutex::default(),
            slept: AtomicU64::default(),
            reads: AtomicUsize::default(),
            writes: AtomicUsize::default(),
            renewals: AtomicUsize::default(),
        }
    }
}

impl Memory {
    fn accounts(&self) -> MutexGuard<'_, BTreeMap<AccountName, Account>> {
        self.accounts.lock().expect("no other thread")
    }

    fn limiter(&self) -> MutexGuard<'_, LoginLimiter> {
        self.limiter.lock().expect("no other thread")
    }

    pub(crate) fn ports(self: &Arc<Self>) -> Ports {
        Ports { store: self.clone(), secrets: self.clone(), upstream: self.clone(), clock: self.clone() }
    }
}

fn pair() -> Pair {
    Pair {
        access_token: Secret::from(ACCESS_TOKEN),
        refresh_token: Some(testing::refresh_token(KEPT_INSIDE[0])),
        issued_at: START,
        ..testing::pair(START.plus(LIFETIME))
    }
}

#[async_trait]
impl Store for Memory {
    async fn read_account(&self, name: &AccountName) -> Result<Account, StoreError> {
        self.reads.fetch_add(1, Relaxed);
        Ok(self.accounts().get(name).cloned().unwrap_or_default())
    }

    async fn write_account(&self, name: &AccountName, expected: Version, next: &Account) -> WriteOutcome {
        self.writes.fetch_add(1, Relaxed);
        let mut accounts = self.accounts();
        if accounts.get(name).map_or(Version(0), |account| account.version) != expected {
            return WriteOutcome::Conflict;
        }
        accounts.insert(name.clone(), next.clone());
        WriteOutcome::Applied
    }

    async fn read_login_limiter(&self, _: &LimiterName) -> Result<LoginLimiter, StoreError> {
        self.reads.fetch_add(1, Relaxed);
        Ok(self.limiter().clone())
    }

    async fn write_login_limiter(
        &self,
        _: &LimiterName,
        expected: Version,
        next: &LoginLimiter,
    ) -> WriteOutcome {
        self.writes.fetch_add(1, Relaxed);
        let mut limiter = self.limiter();
        if limiter.version != expected {
            return WriteOutcome::Conflict;
        }
        limiter.clone_from(next);
        WriteOutcome::Applied
    }

    async fn list_accounts(&self) -> Result<Vec<Listed>, StoreError> {
        self.reads.fetch_add(1, Relaxed);
        Ok(self.accounts().iter().map(|(name, account)| (name.clone(), Ok(account.clone()))).collect())
    }
}

#[async_trait]
impl Secrets for Memory {
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError> {
        self.reads.fetch_add(1, Relaxed);
        if *name != AccountName::default() {
            return Err(SecretError::Missing);
        }
        Ok(Credentials {
            version: SecretVersion("v1".to_owned()),
            login: Login::Convirza {
                email: Secret::from(KEPT_INSIDE[1]),
                password: Secret::from(KEPT_INSIDE[2]),
            },
            origin: Origin::default(),
        })
    }
}

#[async_trait]
impl Upstream for Memory {
    async fn send(&self, call: &Call) -> UpstreamReply {
        if !matches!(call, Call::Probe(_)) {
            self.renewals.fetch_add(1, Relaxed);
        }
        match call {
            Call::Login(_) | Call::Refresh(..) => UpstreamReply::Granted(TokenResponse {
                access_token: Secret::from(RENEWED_TOKEN),
                refresh_token: NewRefreshToken::Token(Secret::from(KEPT_INSIDE[0])),
                access_expiry: Expiry::In(LIFETIME),
                refresh_expiry: Expiry::Unknown,
                extra: None,
            }),
            Call::Revoke(..) => UpstreamReply::Revoked,
            Call::Probe(_) => UpstreamReply::Alive,
        }
    }
}

#[async_trait]
impl Clock for Memory {
    fn now(&self) -> Timestamp {
        START.plus(Duration::from_millis(self.slept.load(Relaxed)))
    }

    fn draw(&self) -> Draw {
        Draw(self.slept.load(Relaxed))
    }

    async fn sleep_until(&self, until: Timestamp) {
        self.slept.fetch_max(protocol::millis(until.since(START)), Relaxed);
    }
}
