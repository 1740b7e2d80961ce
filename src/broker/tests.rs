use super::*;
use crate::ports::{Clock, Secrets, Store, Upstream};
use async_trait::async_trait;
use protocol::{
    Call, Cooldown, CooldownReason, Credentials, Holder, IdleReason, Intent, IssuedToken, Lease, Origin,
    Pair, Revocation, Secret, TokenKind, WriteOutcome, testing,
};
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

const NOW: Timestamp = Timestamp::from_millis(1_775_478_896_000);
/// How many accounts of one host the schedule maintains at the same time.
const OF_ONE_HOST: usize = 4;

/// Ports at one instant. The table has one record, and fails for every other account.
#[derive(Default)]
struct Still {
    /// Each reading of the clock is later than the previous one by this much.
    tick_ms: u64,
    readings: AtomicU64,
    /// The machine's own clock is this far behind the store's.
    behind: Duration,
    known: Option<(AccountName, Account)>,
    /// Whether reads of a record never end.
    hangs: bool,
    reads: AtomicUsize,
    calls: AtomicUsize,
    listed: Vec<Listed>,
}

#[async_trait]
impl Store for Still {
    async fn read_account(&self, name: &AccountName) -> Result<Account, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let known = self.known.as_ref().filter(|(known, _)| known == name);
        known.map(|(_, record)| record.clone()).ok_or(StoreError::Unreachable)
    }

    async fn write_account(&self, _: &AccountName, _: Version, _: &Account) -> WriteOutcome {
        WriteOutcome::Unknown
    }

    async fn read_login_limiter(&self, _: &LimiterName) -> Result<LoginLimiter, StoreError> {
        Ok(LoginLimiter::default())
    }

    async fn write_login_limiter(&self, _: &LimiterName, _: Version, _: &LoginLimiter) -> WriteOutcome {
        WriteOutcome::Unknown
    }

    async fn list_accounts(&self) -> Result<Vec<Listed>, StoreError> {
        Ok(self.listed.clone())
    }
}

#[async_trait]
impl Secrets for Still {
    async fn read(&self, _: &AccountName) -> Result<Credentials, SecretError> {
        Err(SecretError::Unreachable)
    }
}

#[async_trait]
impl Upstream for Still {
    async fn send(&self, _: &Call) -> UpstreamReply {
        self.calls.fetch_add(1, Ordering::Relaxed);
        UpstreamReply::UNEXPECTED
    }
}

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        let readings = self.readings.fetch_add(1, Ordering::Relaxed);
        NOW.plus(Duration::from_millis(self.tick_ms * readings))
    }

    fn reading(&self) -> Moment {
        Moment::of_agreeing_clocks(NOW.minus(self.behind))
    }

    fn draw(&self) -> Draw {
        Draw(0)
    }

    async fn sleep_until(&self, until: Timestamp) {
        if until > NOW {
            std::future::pending::<()>().await;
        }
    }
}

fn broker(still: &Arc<Still>) -> Broker {
    let ports =
        Ports { store: still.clone(), secrets: still.clone(), upstream: still.clone(), clock: still.clone() };
    Broker::new(Policy::DEFAULT, ports)
}

fn name(number: usize) -> AccountName {
    AccountName::parse(&format!("account-{number}")).unwrap()
}

/// A record that needs maintenance.
fn with_a_pending_revocation() -> Account {
    let revocation = Revocation {
        token: Secret::from("token"),
        kind: TokenKind::Access,
        origin: Origin::default(),
        expires_at: NOW.plus(Duration::from_secs(3_600)),
        retry: None,
    };
    Account { version: Version(1), pending_revocations: vec![revocation], ..Account::default() }
}

fn token_request(account: AccountName) -> Request {
    let intent = Intent::Token { min_ttl: Duration::ZERO, rejected: None };
    Request {
        account,
        intent,
        arrived: Moment::of_agreeing_clocks(NOW),
        deadline: NOW.plus(Duration::from_secs(28)),
    }
}

#[test]
fn lambdas_deadline_is_by_the_machines_own_clock() {
    let behind = Duration::from_secs(25);
    let broker = broker(&Arc::new(Still { behind, ..Still::default() }));
    let in_30_s = NOW.minus(behind).plus(Duration::from_secs(30));
    assert_eq!(broker.store_time_of(in_30_s), NOW.plus(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_free_guard_costs_no_wait() {
    let broker = broker(&Arc::new(Still { tick_ms: 1, ..Still::default() }));
    let mut work = Work::default();
    let result = broker.serve(token_request(name(0)), &mut work).await;
    assert_eq!(
        (result, work.waited),
        (Err(Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }), Duration::ZERO)
    );
}

#[tokio::test]
async fn only_entries_of_unknown_accounts_are_dropped() {
    let known = name(0);
    let record = with_a_pending_revocation();
    let broker = broker(&Arc::new(Still { known: Some((known.clone(), record)), ..Still::default() }));
    broker.prefetch(std::slice::from_ref(&known)).await;
    for number in 1..ACCOUNTS_KEPT {
        let result = broker.serve(token_request(name(number)), &mut Work::default()).await;
        assert_eq!(result, Err(Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }));
        assert_eq!(broker.flights().len(), number + 1);
    }
    let (in_use, last) = (broker.flight(&name(1)), name(ACCOUNTS_KEPT));
    let result = broker.serve(token_request(last.clone()), &mut Work::default()).await;
    assert_eq!(result, Err(Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }));
    let mut kept: Vec<_> = broker.flights().keys().cloned().collect();
    kept.sort();
    assert_eq!(kept, [known, name(1), last], "the known one, and the two in use");
    drop(in_use);
}

#[tokio::test]
async fn a_call_leaves_at_its_last_instant_and_not_after_it() {
    let still = Arc::new(Still::default());
    let broker = broker(&still);
    for (not_after, reply, calls) in [
        (NOW, UpstreamReply::UNEXPECTED, 1),
        (NOW.minus(Duration::from_millis(1)), UpstreamReply::TooLate, 1),
        (NOW.plus(Duration::from_millis(1)), UpstreamReply::UNEXPECTED, 2),
    ] {
        let call = Call::Probe(IssuedToken { token: Secret::from("token"), origin: Origin::default() });
        let event = broker.perform(&name(0), Effect::Send { call, not_after }).await;
        assert_eq!(event, Event::Replied(reply));
        assert_eq!(still.calls.load(Ordering::Relaxed), calls);
    }
}

#[test]
fn maintenance_is_bounded_in_number_and_in_time() {
    let listed: Vec<Listed> =
        (0..3 * OF_ONE_HOST).map(|number| (name(number), Ok(with_a_pending_revocation()))).collect();
    let still = Arc::new(Still { listed: listed.clone(), hangs: true, ..Still::default() });
    let patience = Duration::from_secs(60);
    assert!(
        broker(&still).maintain(Moment::of_agreeing_clocks(NOW), NOW.plus(patience)).now_or_never().is_none()
    );
    assert_eq!(still.reads.load(Ordering::Relaxed), OF_ONE_HOST, "calls to one host are bounded");

    let still = Arc::new(Still { listed: listed.clone(), ..Still::default() });
    let done = broker(&still)
        .maintain(Moment::of_agreeing_clocks(NOW), NOW)
        .now_or_never()
        .expect("there is no time to wait")
        .unwrap();
    assert_eq!((done.postponed(), done.accounts.len(), done.failed()), (listed.len(), listed.len(), 0));
    assert_eq!(done.login_permits_left, Some(5));

    let still = Arc::new(Still { listed: listed.clone(), ..Still::default() });
    let done = broker(&still)
        .maintain(Moment::of_agreeing_clocks(NOW), NOW.plus(patience))
        .now_or_never()
        .expect("nothing waits")
        .unwrap();
    assert_eq!((done.postponed(), done.failed(), done.renewed()), (0, listed.len(), 0));
    let records: Vec<Listed> = done
        .accounts
        .into_iter()
        .map(|maintained| (maintained.account, maintained.record.ok_or(StoreError::Unreachable)))
        .collect();
    assert_eq!(records, listed, "what could not be read again is as it was listed");
}

#[test]
fn an_account_that_needs_nothing_says_why() {
    let soon = NOW.plus(Duration::from_secs(9));
    let pair =
        |expires_at| Pair { issued_at: NOW.minus(Duration::from_secs(3_600)), ..testing::pair(expires_at) };
    let cooldown = Cooldown {
        until: soon,
        reason: CooldownReason::Unavailable(protocol::UpstreamFault::Unexpected),
        failures: 1,
    };
    let with_pair = |expires_at| Account { pair: Some(pair(expires_at)), ..Account::default() };
    let (due, later) = (with_pair(soon), with_pair(NOW.plus(Duration::from_secs(7 * 86_400))));
    for (record, reason) in [
        (later, IdleReason::NotDue),
        (Account { early_refresh_after: Some(soon), ..due.clone() }, IdleReason::TriedLately),
        (Account { cooldown: Some(cooldown), ..due.clone() }, IdleReason::InCooldown),
        (Account { lease: Some(Lease { holder: Holder(1), until: soon }), ..due }, IdleReason::Leased),
    ] {
        let still = Arc::new(Still { listed: vec![(name(0), Ok(record))], ..Still::default() });
        let done = broker(&still)
            .maintain(Moment::of_agreeing_clocks(NOW), soon)
            .now_or_never()
            .expect("nothing waits")
            .unwrap();
        assert_eq!(done.accounts[0].outcome, MaintenanceOutcome::Idle(reason));
    }
}

#[test]
fn a_record_is_known_once_it_is_written() {
    let flight = SingleFlight::default();
    assert_eq!((flight.record(), flight.has_record()), (None, false));
    for (version, is_known) in [(0, false), (1, true), (2, true)] {
        let record = Account { version: Version(version), ..Account::default() };
        flight.publish(&Cache::default().with_prefetched(record.clone(), Moment::of_agreeing_clocks(NOW)));
        assert_eq!((flight.record(), flight.has_record()), (Some(record), is_known));
    }
}

#[test]
fn waiters_wake_only_when_the_cache_changes() {
    let flight = SingleFlight::default();
    let mut waiter = flight.cache.subscribe();
    flight.publish(&Cache::default());
    assert!(!waiter.has_changed().unwrap());
    flight.publish(
        &Cache::default().with_prefetched(with_a_pending_revocation(), Moment::of_agreeing_clocks(NOW)),
    );
    assert!(waiter.has_changed().unwrap());
    assert_eq!(*waiter.borrow_and_update(), *flight.cache.borrow());
}
