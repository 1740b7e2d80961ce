//! The bench: one broker, its simulated ports, and what happens to each effect.

use fastrand::Rng;
use protocol::{
    Account, AccountName, Call, Effect, Event, Expiry, Failure, Generation, Holder, Intent, LoginLimiter,
    NewRefreshToken, Outcome, Policy, Request, Secret, ServedFrom, Timestamp, TokenResponse, UpstreamReply,
    WriteOutcome,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use token_broker::{broker::Broker, work::Work};
use token_broker_simulation::{
    START_MS,
    executor::{Executor, Polled},
    own_clock::OwnClock,
    ports::{Action, Delivery, JournalLine, Link, PlannedPanic, Reply},
};

pub(crate) const POLICY: Policy = Policy::DEFAULT;
pub(crate) const PATIENCE: Duration = Duration::from_secs(28);
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
pub(crate) const SEEDS: u64 = 1_000;

/// The number of a request.
pub(crate) type Task = u32;

pub(crate) struct Bench {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) now_ms: u64,
    pub(crate) link: Arc<Link>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) executor: Executor<Task, Result<Outcome, Failure>>,
    pub(crate) requests: Vec<Request>,
    /// The request that runs the flow of an account.
    pub(crate) runners: BTreeMap<AccountName, Task>,
    pub(crate) under_way: Vec<UnderWay>,
    pub(crate) timers: Vec<(u64, Reply)>,
    /// How requests ended, and when.
    pub(crate) ended: BTreeMap<Task, (u64, Result<Outcome, Failure>)>,
    pub(crate) cut_short: BTreeSet<Task>,
    pub(crate) records: BTreeMap<AccountName, Account>,
    pub(crate) limiter: LoginLimiter,
    pub(crate) permits: BTreeSet<Holder>,
    pub(crate) logins: usize,
    pub(crate) tokens: u64,
    /// Processes are stopped for a while in mid-poll.
    pub(crate) stops: bool,
}

pub(crate) struct UnderWay {
    pub(crate) number: u64,
    pub(crate) task: Task,
    pub(crate) account: AccountName,
    pub(crate) effect: Effect,
    pub(crate) reply: Reply,
    pub(crate) since_ms: u64,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let link = Link::new(OwnClock::Right(0), rng.fork());
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

    /// A bench whose table has a due and usable pair. The process knows nothing yet.
    pub(crate) fn with_a_pair_that_is_due(seed: u64) -> Self {
        let mut bench = Self::new(seed);
        let task = bench.request_a_token();
        bench.answer_all();
        assert!(bench.token_of(task).is_some());
        let due_after = TOKEN_LIFE.mul_f64(0.6);
        bench.now_ms += u64::try_from(due_after.as_millis()).unwrap();
        bench.timers.clear();
        bench.link = Link::new(OwnClock::Right(0), bench.rng.fork());
        bench.broker = Arc::new(Broker::new(POLICY, bench.link.ports()));
        bench
    }

    pub(crate) fn request(&mut self, account: &str, intent: Intent) -> Task {
        let now = Timestamp::from_millis(self.now_ms);
        let account = AccountName::parse(account).unwrap();
        let request = Request {
            account,
            intent,
            arrived: protocol::Moment::of_agreeing_clocks(now),
            deadline: now.plus(PATIENCE),
        };
        let task = Task::try_from(self.requests.len()).unwrap();
        self.requests.push(request.clone());
        let broker = Arc::clone(&self.broker);
        self.executor.spawn(task, async move { broker.serve(request, &mut Work::default()).await });
        task
    }

    pub(crate) fn request_a_token(&mut self) -> Task {
        let task = self.request("a", token());
        self.run();
        task
    }

    /// Polls what is ready, in an order that is drawn, until nothing is.
    pub(crate) fn run(&mut self) {
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

    /// Applies what a request has done. No two flows of an account run at the same time.
    pub(crate) fn follow(&mut self, task: Task) {
        let (journal, stopped_ms) = self.link.end();
        for JournalLine { stopped_ms, action } in journal {
            match action {
                Action::Requested { number, effect, reply, .. } => {
                    let account = self.requests[task as usize].account.clone();
                    let runner = self.runners.insert(account.clone(), task);
                    let alone = runner.is_none_or(|runner| runner == task)
                        && self.under_way.iter().all(|other| other.account != account);
                    assert!(alone, "seed {}: two flows of {account}: {}", self.seed, effect.name());
                    self.logins += usize::from(matches!(effect, Effect::Send { call: Call::Login(_), .. }));
                    let since_ms = self.now_ms + stopped_ms;
                    self.under_way.push(UnderWay { number, task, account, effect, reply, since_ms });
                }
                Action::Sleep(until_ms, reply) => self.timers.push((until_ms, reply)),
                Action::Ended { number, .. } => self.under_way.retain(|effect| effect.number != number),
                Action::List(_) => panic!("no request lists all records"),
            }
        }
        self.now_ms += stopped_ms;
    }

    pub(crate) fn end(&mut self, task: Task, result: Option<Result<Outcome, Failure>>) {
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
    pub(crate) fn cancel(&mut self, task: Task) {
        self.link.begin(self.now_ms, false);
        self.executor.cancel(task);
        self.follow(task);
        self.end(task, None);
        self.run();
    }

    pub(crate) fn fire_timers(&mut self) {
        let now_ms = self.now_ms;
        self.timers.retain(|(_, reply)| !reply.is_closed());
        while let Some(index) = self.timers.iter().position(|(at_ms, _)| *at_ms <= now_ms) {
            let _ = self.timers.swap_remove(index).1.send(Delivery::Event(Event::Resumed));
        }
    }

    /// Time passes. Calls upstream end at their timeout.
    pub(crate) fn advance_to(&mut self, at_ms: u64) {
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
                let _ = reply.send(Delivery::Event(Event::Replied(UpstreamReply::UNEXPECTED)));
            }
            self.fire_timers();
            self.run();
        }
        self.now_ms = self.now_ms.max(at_ms);
    }

    pub(crate) fn next_timer(&mut self) -> Option<u64> {
        self.timers.retain(|(_, reply)| !reply.is_closed());
        self.timers.iter().map(|(at_ms, _)| *at_ms).min()
    }

    /// Performs an effect and answers it.
    pub(crate) fn answer(&mut self, index: usize) {
        let UnderWay { effect, reply, account, .. } = self.under_way.swap_remove(index);
        let event = self.carry_out(&account, effect);
        let _ = reply.send(Delivery::Event(event));
        self.run();
    }

    /// Performs an effect or not, and loses the reply.
    pub(crate) fn lose(&mut self, index: usize) {
        let UnderWay { effect, reply, account, .. } = self.under_way.swap_remove(index);
        let event = match &effect {
            Effect::ReadAccount => Event::Account(Err(protocol::StoreError::Unreachable)),
            Effect::ReadLimiter(_) => Event::Limiter(Err(protocol::StoreError::Unreachable)),
            Effect::ReadSecret => Event::Secret(Err(protocol::SecretError::Unreachable)),
            Effect::Send { .. } => Event::Replied(UpstreamReply::UNEXPECTED),
            _ => Event::Written(WriteOutcome::Unknown),
        };
        if self.rng.bool() {
            self.carry_out(&account, effect);
        }
        let _ = reply.send(Delivery::Event(event));
        self.run();
    }

    pub(crate) fn panic(&mut self, index: usize) {
        let _ = self.under_way.swap_remove(index).reply.send(Delivery::Panic);
        self.run();
    }

    /// The first effect of this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.under_way.iter().position(|effect| effect.effect.name() == name)
    }

    /// Answers effects until none is in flight, and skips pauses.
    pub(crate) fn answer_all(&mut self) {
        self.answer_until("nothing");
    }

    /// Answers effects until one of this name is in flight. Returns whether one was.
    pub(crate) fn answer_until(&mut self, name: &str) -> bool {
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

    pub(crate) fn carry_out(&mut self, account: &AccountName, effect: Effect) -> Event {
        let applied = |met| Event::Written(if met { WriteOutcome::Applied } else { WriteOutcome::Conflict });
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.record(account))),
            Effect::ReadLimiter(_) => Event::Limiter(Ok(self.limiter.clone())),
            Effect::ReadSecret => Event::Secret(Ok(protocol::testing::credentials("1"))),
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
                Call::Login(_) | Call::Refresh(..) => self.issue(),
                Call::Revoke(..) => UpstreamReply::Revoked,
                Call::Probe(_) => UpstreamReply::Alive,
            }),
            Effect::Pause { .. } => panic!("the broker pauses through its clock"),
        }
    }

    pub(crate) fn issue(&mut self) -> UpstreamReply {
        self.tokens += 1;
        UpstreamReply::Granted(TokenResponse {
            access_token: Secret::new(format!("access {}", self.tokens)),
            refresh_token: NewRefreshToken::Token(Secret::new(format!("refresh {}", self.tokens))),
            access_expiry: Expiry::At(Timestamp::from_millis(self.now_ms).plus(TOKEN_LIFE)),
            refresh_expiry: Expiry::Unknown,
            extra: None,
        })
    }

    pub(crate) fn record(&self, account: &AccountName) -> Account {
        self.records.get(account).cloned().unwrap_or_default()
    }

    /// The generation that a request got, and where it came from.
    pub(crate) fn token_of(&self, task: Task) -> Option<(Generation, ServedFrom)> {
        match &self.ended.get(&task)?.1 {
            Ok(Outcome::Token(answer)) => Some((answer.generation, answer.served_from)),
            _ => None,
        }
    }
}

pub(crate) fn token() -> Intent {
    Intent::Token { min_ttl: Duration::from_secs(60), rejected: None }
}
