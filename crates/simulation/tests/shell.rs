//! The shell (`token_broker::broker`) in one process: several requests at a time, in many orders.
//!
//! A bench drives one broker over simulated ports. It decides when each effect is answered and how, when time passes,
//! and which request is cancelled. A seed determines all of that, and the order in which ready requests are polled.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation ends the test"
)]

use fastrand::Rng;
use protocol::{
    Account, AccountName, Call, Credentials, Effect, Event, Expiry, Failure, Generation, Granted, Holder,
    Intent, LoginLimiter, Origin, Outcome, Policy, Request, Secret, SecretVersion, ServedFrom, Timestamp,
    UpstreamReply, Version, WriteOutcome,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use token_broker::broker::Broker;
use token_broker_simulation::{
    executor::{Executor, Polled},
    ports::{Deed, Delivery, Entry, Link, PlannedPanic, Reply},
};

const POLICY: Policy = Policy::DEFAULT;
const START_MS: u64 = 1_800_000_000_000;
const PATIENCE: Duration = Duration::from_secs(28);
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
const SEEDS: u64 = 1_000;

/// The number of a request.
type Task = u32;

struct Bench {
    seed: u64,
    rng: Rng,
    now_ms: u64,
    link: Arc<Link>,
    broker: Arc<Broker>,
    executor: Executor<Task, Result<Outcome, Failure>>,
    requests: Vec<Request>,
    /// The request that runs the flow of an account.
    runners: BTreeMap<AccountName, Task>,
    under_way: Vec<UnderWay>,
    timers: Vec<(u64, Reply)>,
    /// How requests ended, and when.
    ended: BTreeMap<Task, (u64, Result<Outcome, Failure>)>,
    cut_short: BTreeSet<Task>,
    records: BTreeMap<AccountName, Account>,
    limiter: LoginLimiter,
    permits: BTreeSet<Holder>,
    logins: usize,
    tokens: u64,
    /// Processes are stopped for a while in mid-poll.
    stops: bool,
}

struct UnderWay {
    number: u64,
    task: Task,
    account: AccountName,
    effect: Effect,
    reply: Reply,
    since_ms: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let link = Link::new(0, rng.fork());
        Self {
            seed,
            rng,
            now_ms: START_MS,
            broker: Arc::new(Broker::new(POLICY, link.ports())),
            link,
            executor: Executor::default(),
            requests: Vec::new(),
            runners: BTreeMap::new(),
            under_way: Vec::new(),
            timers: Vec::new(),
            ended: BTreeMap::new(),
            cut_short: BTreeSet::new(),
            records: BTreeMap::new(),
            limiter: LoginLimiter::default(),
            permits: BTreeSet::new(),
            logins: 0,
            tokens: 0,
            stops: false,
        }
    }

    /// A bench whose table has a pair that is due and usable. The process knows nothing yet.
    fn with_a_pair_that_is_due(seed: u64) -> Self {
        let mut bench = Self::new(seed);
        let task = bench.request_a_token();
        bench.answer_all();
        assert!(bench.token_of(task).is_some());
        let half = TOKEN_LIFE.mul_f64(0.6);
        bench.now_ms += u64::try_from(half.as_millis()).unwrap();
        bench.timers.clear();
        bench.link = Link::new(0, bench.rng.fork());
        bench.broker = Arc::new(Broker::new(POLICY, bench.link.ports()));
        bench
    }

    fn request(&mut self, account: &str, intent: Intent) -> Task {
        let now = Timestamp::from_millis(self.now_ms);
        let account = AccountName::parse(account).unwrap();
        let request = Request { account, intent, arrived_at: now, deadline: now.plus(PATIENCE) };
        let task = Task::try_from(self.requests.len()).unwrap();
        self.requests.push(request.clone());
        let broker = Arc::clone(&self.broker);
        self.executor.spawn(task, async move { broker.serve(request).await });
        task
    }

    fn request_a_token(&mut self) -> Task {
        let task = self.request("a", token());
        self.run();
        task
    }

    /// Polls what is ready, in an order that is drawn, until nothing is.
    fn run(&mut self) {
        while let Some(task) = self.executor.next_ready(&mut self.rng) {
            self.link.begin(self.now_ms, self.stops);
            let polled = self.executor.poll(task);
            self.follow(task);
            match polled {
                Polled::Pending => {}
                Polled::Done(result) => self.end(task, Some(result)),
                Polled::Panicked(panic) => {
                    assert!(panic.is::<PlannedPanic>(), "seed {}", self.seed);
                    self.end(task, None);
                }
            }
            self.fire_timers();
        }
    }

    /// Takes up what a request has done. No two flows of an account run at a time.
    fn follow(&mut self, task: Task) {
        let (journal, stopped_ms) = self.link.end();
        for Entry { stopped_ms, deed } in journal {
            match deed {
                Deed::Requested { number, effect, reply, .. } => {
                    let account = self.requests[task as usize].account.clone();
                    let runner = self.runners.insert(account.clone(), task);
                    let alone = runner.is_none_or(|runner| runner == task)
                        && self.under_way.iter().all(|other| other.account != account);
                    assert!(alone, "seed {}: two flows of {account}: {}", self.seed, effect.name());
                    self.logins += usize::from(matches!(effect, Effect::Send { call: Call::Login(_), .. }));
                    let since_ms = self.now_ms + stopped_ms;
                    self.under_way.push(UnderWay { number, task, account, effect, reply, since_ms });
                }
                Deed::Sleep(until, reply) => self.timers.push((until.as_millis(), reply)),
                Deed::Ended { number, .. } => self.under_way.retain(|effect| effect.number != number),
                Deed::List(_) => panic!("no request lists all records"),
            }
        }
        self.now_ms += stopped_ms;
    }

    fn end(&mut self, task: Task, result: Option<Result<Outcome, Failure>>) {
        let leaks = self.under_way.iter().any(|effect| effect.task == task);
        assert!(!leaks, "seed {}: an effect outlives its request", self.seed);
        self.runners.retain(|_, runner| *runner != task);
        match result {
            Some(result) => {
                self.ended.insert(task, (self.now_ms, result));
            }
            None => {
                self.cut_short.insert(task);
            }
        }
    }

    /// The caller of a request hangs up.
    fn cancel(&mut self, task: Task) {
        self.link.begin(self.now_ms, false);
        self.executor.cancel(task);
        self.follow(task);
        self.end(task, None);
        self.run();
    }

    fn fire_timers(&mut self) {
        let now_ms = self.now_ms;
        self.timers.retain(|(_, reply)| !reply.is_closed());
        while let Some(index) = self.timers.iter().position(|(at_ms, _)| *at_ms <= now_ms) {
            let _ = self.timers.swap_remove(index).1.send(Delivery::Event(Event::Resumed));
        }
    }

    /// Time passes. Calls upstream end at their timeout.
    fn advance_to(&mut self, at_ms: u64) {
        let timeout_ms = u64::try_from(POLICY.upstream_timeout.as_millis()).unwrap();
        loop {
            self.timers.retain(|(_, reply)| !reply.is_closed());
            let sends = self.under_way.iter().filter(|effect| matches!(effect.effect, Effect::Send { .. }));
            let timers = self.timers.iter().map(|(at_ms, _)| *at_ms);
            let next_ms = sends.map(|send| send.since_ms + timeout_ms).chain(timers).min();
            let Some(next_ms) = next_ms.filter(|next_ms| *next_ms <= at_ms) else { break };
            self.now_ms = self.now_ms.max(next_ms);
            let late = |effect: &UnderWay| {
                matches!(effect.effect, Effect::Send { .. }) && effect.since_ms + timeout_ms <= next_ms
            };
            while let Some(index) = self.under_way.iter().position(late) {
                let UnderWay { reply, .. } = self.under_way.swap_remove(index);
                let _ = reply.send(Delivery::Event(Event::Replied(UpstreamReply::Unclear)));
            }
            self.fire_timers();
            self.run();
        }
        self.now_ms = self.now_ms.max(at_ms);
    }

    fn next_timer(&mut self) -> Option<u64> {
        self.timers.retain(|(_, reply)| !reply.is_closed());
        self.timers.iter().map(|(at_ms, _)| *at_ms).min()
    }

    /// Carries an effect out and answers it.
    fn answer(&mut self, index: usize) {
        let UnderWay { effect, reply, account, .. } = self.under_way.swap_remove(index);
        let event = self.carry_out(&account, effect);
        let _ = reply.send(Delivery::Event(event));
        self.run();
    }

    /// Carries an effect out or not, and loses the reply.
    fn lose(&mut self, index: usize) {
        let UnderWay { effect, reply, account, .. } = self.under_way.swap_remove(index);
        let event = match &effect {
            Effect::ReadAccount => Event::Account(Err(protocol::StoreError::Unreachable)),
            Effect::ReadLimiter(_) => Event::Limiter(Err(protocol::StoreError::Unreachable)),
            Effect::ReadSecret => Event::Secret(Err(protocol::SecretError::Unreachable)),
            Effect::Send { .. } => Event::Replied(UpstreamReply::Unclear),
            _ => Event::Written(WriteOutcome::Unknown),
        };
        if self.rng.bool() {
            self.carry_out(&account, effect);
        }
        let _ = reply.send(Delivery::Event(event));
        self.run();
    }

    fn panic(&mut self, index: usize) {
        let _ = self.under_way.swap_remove(index).reply.send(Delivery::Panic);
        self.run();
    }

    /// The first effect of this name.
    fn find(&self, name: &str) -> Option<usize> {
        self.under_way.iter().position(|effect| effect.effect.name() == name)
    }

    /// Answers effects until nothing is under way, and passes pauses meanwhile.
    fn answer_all(&mut self) {
        self.answer_until("nothing");
    }

    /// Answers effects until one of this name is under way. Returns whether it came to that.
    fn answer_until(&mut self, name: &str) -> bool {
        for _ in 0..10_000 {
            if self.find(name).is_some() {
                return true;
            }
            if !self.under_way.is_empty() {
                self.answer(0);
            } else if self.executor.is_empty() {
                return false;
            } else {
                let at_ms = self.next_timer();
                let at_ms =
                    at_ms.unwrap_or_else(|| panic!("seed {}: a request waits for nothing", self.seed));
                self.advance_to(at_ms);
            }
        }
        panic!("seed {}: requests never end", self.seed);
    }

    fn carry_out(&mut self, account: &AccountName, effect: Effect) -> Event {
        let applied = |met| Event::Written(if met { WriteOutcome::Applied } else { WriteOutcome::Conflict });
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.record(account))),
            Effect::ReadLimiter(_) => Event::Limiter(Ok(self.limiter.clone())),
            Effect::ReadSecret => Event::Secret(Ok(Credentials {
                version: SecretVersion("1".to_owned()),
                email: Secret::from("user"),
                password: Secret::from("password"),
                client: None,
                origin: Origin::default(),
            })),
            Effect::WriteAccount { expected, next } => {
                let met = self.record(account).version == expected;
                if met {
                    self.records.insert(account.clone(), next);
                }
                applied(met)
            }
            Effect::WriteLimiter { expected, next, .. } => {
                let met = self.limiter.version == expected;
                if met {
                    self.permits.extend(next.permits.iter().map(|permit| permit.holder));
                    self.limiter = next;
                }
                applied(met)
            }
            Effect::Send { call, .. } => Event::Replied(match call {
                Call::Login(_) | Call::Refresh(_) => self.grant(),
                Call::Revoke(_) => UpstreamReply::Revoked,
                Call::Probe(_) => UpstreamReply::Alive,
            }),
            Effect::Pause { .. } => panic!("the shell pauses through its clock"),
        }
    }

    fn grant(&mut self) -> UpstreamReply {
        self.tokens += 1;
        UpstreamReply::Granted(Granted {
            access_token: Secret::new(format!("access {}", self.tokens)),
            refresh_token: Some(Secret::new(format!("refresh {}", self.tokens))),
            access_expiry: Expiry::At(Timestamp::from_millis(self.now_ms).plus(TOKEN_LIFE)),
            refresh_expiry: Expiry::Unknown,
        })
    }

    fn record(&self, account: &AccountName) -> Account {
        self.records.get(account).cloned().unwrap_or_default()
    }

    /// The generation that a request got, and where it came from.
    fn token_of(&self, task: Task) -> Option<(Generation, ServedFrom)> {
        match &self.ended.get(&task)?.1 {
            Ok(Outcome::Token(answer)) => Some((answer.generation, answer.served_from)),
            _ => None,
        }
    }
}

fn token() -> Intent {
    Intent::Token { min_ttl: Duration::from_secs(60), rejected: None }
}

/// Requests of two accounts arrive and hang up, effects are answered, lost or panic, and time passes, all at random.
/// Then everything works again.
fn explore(seed: u64, disturbed: bool) -> Bench {
    let mut bench = Bench::new(seed);
    let mut disturbances = 0;
    for _ in 0..80 {
        let under_way = bench.under_way.len();
        match bench.rng.u8(..100) {
            0..=24 if bench.requests.len() < 12 => {
                let account = ["a", "b"][bench.rng.usize(..2)];
                let rejected = bench
                    .rng
                    .bool()
                    .then(|| bench.record(&AccountName::parse(account).unwrap()).generation());
                let min_ttl = Duration::from_secs([60, 900][bench.rng.usize(..2)]);
                let intents = [
                    Intent::Token { min_ttl, rejected: rejected.flatten() },
                    token(),
                    Intent::Maintain,
                    Intent::Replace,
                ];
                let intent = intents[bench.rng.usize(..intents.len())];
                bench.request(account, intent);
                if bench.rng.bool() {
                    bench.run();
                }
            }
            25..=27 if disturbed && !bench.requests.is_empty() => {
                let task = bench.rng.u32(..u32::try_from(bench.requests.len()).unwrap());
                if !bench.ended.contains_key(&task) && !bench.cut_short.contains(&task) {
                    disturbances += 1;
                    bench.cancel(task);
                }
            }
            28..=30 if disturbed && under_way > 0 => {
                disturbances += 1;
                let index = bench.rng.usize(..under_way);
                bench.panic(index);
            }
            31..=36 if disturbed && under_way > 0 => {
                disturbances += 1;
                let index = bench.rng.usize(..under_way);
                bench.lose(index);
            }
            37..=50 => {
                let longest_ms = if disturbed && bench.rng.u8(..8) == 0 { 20_000 } else { 400 };
                let at_ms = bench.now_ms + bench.rng.u64(..longest_ms);
                disturbances += usize::from(longest_ms > 400);
                bench.run();
                bench.advance_to(at_ms);
            }
            _ => {
                bench.run();
                if !bench.under_way.is_empty() {
                    let index = bench.rng.usize(..bench.under_way.len());
                    bench.answer(index);
                }
            }
        }
    }
    bench.run();
    bench.answer_all();
    let wasted = bench.permits.len().saturating_sub(bench.logins);
    assert!(
        wasted <= disturbances,
        "seed {seed}: {wasted} permits without a login, {disturbances} disturbances"
    );
    bench
}

mod single_flight {
    use super::*;

    #[test]
    fn holds_in_every_order_and_each_request_ends() {
        for seed in 0..SEEDS {
            let mut bench = explore(seed, true);
            assert_eq!(bench.ended.len() + bench.cut_short.len(), bench.requests.len(), "seed {seed}");
            for (task, (at_ms, result)) in &bench.ended {
                let deadline_ms = bench.requests[*task as usize].deadline.as_millis();
                assert!(*at_ms <= deadline_ms, "seed {seed}: {result:?} after the deadline");
            }
            // Nothing is blocked afterwards.
            bench.advance_to(bench.now_ms + 120_000);
            let task = bench.request_a_token();
            bench.answer_all();
            assert!(bench.token_of(task).is_some(), "seed {seed}: {:?}", bench.ended.get(&task));
        }
    }

    #[test]
    fn sends_one_login_for_many_requests() {
        for seed in 0..100 {
            let mut bench = Bench::new(seed);
            let tasks: Vec<Task> = (0..10).map(|_| bench.request("a", token())).collect();
            bench.run();
            bench.answer_all();
            let tokens: BTreeSet<Generation> =
                tasks.iter().map(|task| bench.token_of(*task).unwrap().0).collect();
            assert_eq!((tokens.len(), bench.logins, bench.permits.len()), (1, 1, 1), "seed {seed}");
        }
    }

    #[test]
    fn wastes_no_permit_while_nothing_goes_wrong() {
        for seed in 0..SEEDS {
            let bench = explore(seed, false);
            assert_eq!(bench.permits.len(), bench.logins, "seed {seed}");
        }
    }

    #[test]
    fn accounts_do_not_wait_for_each_other() {
        let mut bench = Bench::new(1);
        bench.request("a", token());
        let other = bench.request("b", token());
        bench.run();
        assert_eq!(bench.under_way.len(), 2);
        while let Some(index) = bench.under_way.iter().position(|effect| effect.task == other) {
            bench.answer(index);
        }
        assert!(bench.token_of(other).is_some());
        assert_eq!(bench.under_way.len(), 1);
    }

    #[test]
    fn passes_on_when_its_holder_is_cancelled_or_panics() {
        for (seed, name) in (0..).zip(EFFECTS) {
            for cancels in [true, false] {
                let mut bench = Bench::new(seed);
                let holder = bench.request_a_token();
                assert!(bench.answer_until(name), "{name}");
                let waiters = [bench.request_a_token(), bench.request_a_token()];
                if cancels {
                    bench.cancel(holder);
                } else {
                    bench.panic(0);
                }
                assert!(bench.cut_short.contains(&holder));
                assert_eq!(bench.under_way.len(), 1, "{name}: one of the others runs its flow at once");
                bench.answer_all();
                for waiter in waiters {
                    assert!(bench.token_of(waiter).is_some(), "{name}: {:?}", bench.ended.get(&waiter));
                }
            }
        }
    }

    #[test]
    fn survives_that_unknown_accounts_are_forgotten() {
        let mut bench = Bench::new(1);
        bench.request_a_token();
        for number in 0..300 {
            let stranger = bench.request(&format!("stranger-{number}"), token());
            bench.run();
            let read = bench.under_way.iter().position(|effect| effect.task == stranger).unwrap();
            bench.lose(read);
            assert!(bench.ended.contains_key(&stranger));
        }
        bench.request_a_token();
        assert_eq!(bench.under_way.len(), 1, "the second request waits for the first");
    }

    #[test]
    fn loses_a_cancelled_waiter_without_a_trace() {
        let mut bench = Bench::new(1);
        let holder = bench.request_a_token();
        let waiters = [bench.request_a_token(), bench.request_a_token()];
        bench.cancel(waiters[0]);
        bench.answer_all();
        assert!(bench.token_of(holder).is_some() && bench.token_of(waiters[1]).is_some());
        assert_eq!(bench.logins, 1);
    }
}

mod cache {
    use super::*;

    #[test]
    fn answers_a_waiter_as_soon_as_the_record_serves_it() {
        let mut bench = Bench::with_a_pair_that_is_due(1);
        let holder = bench.request("a", Intent::Maintain);
        bench.run();
        let waiters = [bench.request_a_token(), bench.request_a_token()];
        let at_ms = bench.now_ms;
        bench.answer(0);
        for waiter in waiters {
            assert!(bench.token_of(waiter).is_some(), "the holder has just read the record");
            assert_eq!(bench.ended[&waiter].0, at_ms);
        }
        assert!(bench.answer_until("refresh"));
        assert!(!bench.ended.contains_key(&holder));
    }

    #[test]
    fn is_published_while_the_new_pair_is_being_saved() {
        let mut bench = Bench::with_a_pair_that_is_due(2);
        bench.request("a", Intent::Replace);
        bench.run();
        assert!(bench.answer_until("refresh"));
        // The lease is written, so the record is known as that write left it.
        let task = bench.request_a_token();
        assert_eq!(bench.token_of(task).map(|(_, from)| from), Some(ServedFrom::Memory));
        assert!(bench.find("refresh").is_some());
    }

    #[test]
    fn keeps_what_a_cancelled_flow_has_learned() {
        let mut bench = Bench::with_a_pair_that_is_due(3);
        let holder = bench.request("a", Intent::Maintain);
        bench.run();
        assert!(bench.answer_until("refresh"));
        bench.cancel(holder);
        let task = bench.request_a_token();
        assert_eq!(bench.token_of(task).map(|(_, from)| from), Some(ServedFrom::Memory));
    }
}

/// What a first login does, in this order.
const EFFECTS: [&str; 7] = [
    "read account",
    "read secret",
    "write account",
    "read limiter",
    "write limiter",
    "login",
    "write account",
];

mod deadline {
    use super::*;

    #[test]
    fn ends_a_request_whose_effect_never_ends() {
        for (number, name) in EFFECTS.into_iter().enumerate() {
            let mut bench = Bench::new(1);
            let task = bench.request_a_token();
            for _ in 0..number {
                bench.answer(0);
            }
            assert!(bench.find(name).is_some(), "{name}");
            let deadline_ms = bench.requests[task as usize].deadline.as_millis();
            bench.advance_to(deadline_ms);
            let (at_ms, result) = &bench.ended[&task];
            assert!(*at_ms <= deadline_ms, "{name}: {result:?}");
            assert!(bench.under_way.is_empty(), "{name}");
        }
    }

    #[test]
    fn ends_a_waiter_whose_holder_is_not_done() {
        let mut bench = Bench::new(1);
        bench.request_a_token();
        bench.advance_to(START_MS + 10_000);
        let waiter = bench.request_a_token();
        // The holder's deadline is earlier. The waiter shares what the holder has learned: the store did not answer.
        bench.advance_to(START_MS + 29_000);
        let (_, result) = &bench.ended[&waiter];
        assert_eq!(*result, Err(Failure::StoreUnavailable));
    }

    #[test]
    fn ends_a_waiter_before_its_holder() {
        let mut bench = Bench::new(1);
        let holder = bench.request_a_token();
        let account = AccountName::parse("a").unwrap();
        let now = Timestamp::from_millis(bench.now_ms);
        let deadline = now.plus(Duration::from_secs(3));
        let request = Request { account, intent: token(), arrived_at: now, deadline };
        bench.requests.push(request.clone());
        let broker = Arc::clone(&bench.broker);
        bench.executor.spawn(1, async move { broker.serve(request).await });
        bench.run();
        bench.advance_to(deadline.as_millis());
        assert!(matches!(bench.ended[&1].1, Err(Failure::RefreshInProgress { .. })));
        assert!(!bench.ended.contains_key(&holder));
    }

    #[test]
    fn keeps_a_call_from_leaving_after_a_pause() {
        let latest = POLICY.lease.saturating_sub(POLICY.upstream_timeout + POLICY.clock_margin);
        let (mut left, mut kept) = (0, 0);
        for seed in 0..SEEDS {
            let mut bench = Bench::with_a_pair_that_is_due(seed);
            bench.request("a", Intent::Maintain);
            bench.run();
            assert!(bench.answer_until("write account"));
            let requested_ms = bench.under_way[0].since_ms;
            bench.stops = true;
            bench.answer(0);
            match bench.find("refresh") {
                Some(index) => {
                    let after = Duration::from_millis(bench.under_way[index].since_ms - requested_ms);
                    assert!(after <= latest, "seed {seed}: sent {after:?} after the lease was taken");
                    left += 1;
                }
                None => kept += 1,
            }
        }
        assert!(left > 0 && kept > 0, "{left} calls left, {kept} were kept from leaving");
    }
}

mod draws {
    use super::*;

    #[test]
    fn are_one_for_look_ups_and_the_first_step_and_one_for_each_effect() {
        let mut bench = Bench::new(1);
        bench.request_a_token();
        let mut draws = 1;
        assert_eq!(bench.link.draws(), draws);
        while let Some(effect) = bench.under_way.first() {
            let name = effect.effect.name();
            bench.answer(0);
            draws += 1;
            assert_eq!(bench.link.draws(), draws, "{name}");
        }
        assert!(bench.executor.is_empty());
    }

    #[test]
    fn of_a_waiter_are_not_repeated_when_the_cache_changes() {
        let mut bench = Bench::new(1);
        bench.request_a_token();
        let waiters = 5;
        for _ in 0..waiters {
            bench.request_a_token();
        }
        assert_eq!(bench.link.draws(), 1 + waiters);
        let effects = (0..).take_while(|_| {
            let some = !bench.under_way.is_empty();
            if some {
                bench.answer(0);
            }
            some
        });
        let effects = effects.count() as u64;
        assert_eq!(bench.link.draws(), 1 + waiters + effects);
    }

    #[test]
    fn name_each_attempt_differently() {
        let mut bench = Bench::new(1);
        bench.request_a_token();
        assert!(bench.answer_until("login"));
        let lease = bench.record(&AccountName::parse("a").unwrap()).lease.unwrap();
        let permit = bench.limiter.permits.first().unwrap();
        assert_ne!(lease.holder, permit.holder);
        assert!(bench.limiter.version > Version(0));
    }
}
