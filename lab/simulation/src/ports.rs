//! The ports of one simulated process. They perform nothing: each call is recorded in the process's journal, and waits
//! for its reply. The world reads the journal after every poll.

use crate::own_clock::OwnClock;
use async_trait::async_trait;
use fastrand::Rng;
use protocol::{
    Account, AccountName, Call, Credentials, Draw, Effect, Event, LimiterName, LoginLimiter, Moment, Policy,
    Present, Read, SecretError, StoreClock, StoreError, Timestamp, UpstreamReply, Version, WriteOutcome,
};
use std::{
    collections::BTreeSet,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use token_broker::ports::{Clock, Listed, Ports, Secrets, Store, Upstream};
use tokio::sync::oneshot;

/// One poll in this many is stopped, while stops last.
const STOPS_ONE_IN: u32 = 10;
/// A stop comes at one of the points up to this.
const LAST_STOP: u32 = 5;
/// The broker has just checked whether the call may leave.
const CHECKED: Timestamp = Timestamp::from_millis(u64::MAX);

/// What a process's ports share with its world: the time, random numbers, and the journal.
pub struct Link {
    own_clock: OwnClock,
    state: Mutex<State>,
}

struct State {
    /// True time at the start of the poll.
    now_ms: u64,
    /// How long the process was stopped during the poll.
    stopped_ms: u64,
    /// Corrects a wrong clock. `None` for a right one.
    store_clock: Option<StoreClock>,
    /// Points of this poll at which the process could be stopped.
    points: u32,
    /// The process is stopped at this point, or before a request to store or secrets.
    stops_at: Option<u32>,
    rng: Rng,
    journal: Vec<JournalLine>,
    requested: u64,
    draws: u64,
    known: BTreeSet<AccountName>,
}

/// Something that the process did during a poll.
pub struct JournalLine {
    /// How long it had been stopped during the poll by then.
    pub stopped_ms: u64,
    /// What it did.
    pub action: Action,
}

/// What a process does.
#[allow(clippy::large_enum_variant, reason = "one exists at a time, and is taken apart at once")]
pub enum Action {
    /// It waits for an effect.
    Requested {
        /// Names the effect.
        number: u64,
        /// The account, if the port is told.
        account: Option<AccountName>,
        /// What it asks for.
        effect: Effect,
        /// Takes the reply.
        reply: Reply,
    },
    /// It waits for a list of all records.
    List(Reply),
    /// It waits until an instant of true time, in milliseconds.
    Sleep(u64, Reply),
    /// It no longer waits for this effect.
    Ended {
        /// The effect.
        number: u64,
        /// Whether the reply has arrived. Otherwise the effect was abandoned.
        answered: bool,
    },
}

/// Takes the reply to a call of a port.
pub type Reply = oneshot::Sender<Delivery>;

/// The reply to a call of a port.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum Delivery {
    /// The result of an effect, or the end of a pause.
    Event(Event),
    /// All records.
    Accounts(Read<Vec<Listed>>),
    /// The port panics.
    Panic,
}

/// The payload of a panic that the plan intends. Any other panic is a defect, and ends the run.
pub struct PlannedPanic;

impl Link {
    /// A process with its own clock and random number generator.
    pub fn new(own_clock: OwnClock, rng: Rng) -> Arc<Self> {
        let state = State {
            now_ms: 0,
            stopped_ms: 0,
            store_clock: None,
            points: 0,
            stops_at: None,
            rng,
            journal: Vec::new(),
            requested: 0,
            draws: 0,
            known: BTreeSet::new(),
        };
        Arc::new(Self { own_clock, state: Mutex::new(state) })
    }

    /// The ports.
    pub fn ports(self: &Arc<Self>) -> Ports {
        let ports = Arc::new(SimulatedPorts(Arc::clone(self)));
        Ports { store: ports.clone(), secrets: ports.clone(), upstream: ports.clone(), clock: ports }
    }

    /// Before the process is polled, or a request of it cancelled. With `stops`, it may be stopped on the way: after it
    /// has read its clock once, at another reading or before it asks store or secrets for something. A call upstream
    /// leaves as soon as the broker has read the clock.
    pub fn begin(&self, now_ms: u64, stops: bool) {
        let mut state = self.state();
        let stops = stops && state.rng.u32(..STOPS_ONE_IN) == 0;
        state.stops_at = stops.then(|| state.rng.u32(2..=LAST_STOP));
        (state.now_ms, state.stopped_ms, state.points) = (now_ms, 0, 0);
    }

    /// Afterwards: what the process did, and how long it was stopped in all.
    pub fn end(&self) -> (Vec<JournalLine>, u64) {
        let mut state = self.state();
        (std::mem::take(&mut state.journal), state.stopped_ms)
    }

    /// The present, as the process sees it at an instant of true time.
    pub fn moment(&self, true_ms: u64) -> Moment {
        self.present_in(&mut self.state(), true_ms).moment()
    }

    fn present_in(&self, state: &mut State, true_ms: u64) -> Present {
        let reading = self.own_clock.reading(true_ms);
        match self.store_clock(state, reading) {
            None => Present::of_agreeing_clocks(reading.wall),
            Some(clock) => clock.present(reading),
        }
    }

    /// The clock starts with its first reading.
    fn store_clock<'a>(&self, state: &'a mut State, reading: Moment) -> Option<&'a mut StoreClock> {
        let starts = || StoreClock::new(Policy::DEFAULT.clock_margin, reading);
        match self.own_clock {
            OwnClock::Right(_) => None,
            OwnClock::FarOff(_) | OwnClock::Steps(_) => Some(state.store_clock.get_or_insert_with(starts)),
        }
    }

    /// The store dates its responses, in whole seconds of true time.
    fn store_replied(&self, sent_ms: u64) {
        let mut state = self.state();
        let now_ms = state.true_ms();
        let [sent, received] = [sent_ms, now_ms].map(|at_ms| self.own_clock.reading(at_ms));
        if let Some(clock) = self.store_clock(&mut state, received) {
            clock.measured(sent, received, Timestamp::from_millis(now_ms / 1_000 * 1_000));
        }
    }

    /// Whether the process has read or written a record of this account.
    pub fn knows(&self, account: &AccountName) -> bool {
        self.state().known.contains(account)
    }

    /// The random numbers that were drawn so far.
    pub fn draws(&self) -> u64 {
        self.state().draws
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn true_ms(&self) -> u64 {
        self.now_ms + self.stopped_ms
    }

    /// A point at which the process may be stopped. None is passed without the stop that was drawn if it is the last.
    fn point(&mut self, is_last: bool) {
        self.points += 1;
        if self.stops_at.is_some_and(|point| point <= self.points || is_last) {
            self.stops_at = None;
            self.stopped_ms = stop_ms(&mut self.rng);
        }
    }

    fn note(&mut self, action: Action) {
        self.journal.push(JournalLine { stopped_ms: self.stopped_ms, action });
    }
}

/// How long a process is stopped: for up to 5 s, or for up to a minute.
pub(crate) fn stop_ms(rng: &mut Rng) -> u64 {
    let longest_ms = if rng.bool() { 5_000 } else { 60_000 };
    rng.u64(1..longest_ms)
}

struct SimulatedPorts(Arc<Link>);

/// An effect in flight. Records its end, even if the process abandons it.
struct UnderWay<'a> {
    link: &'a Link,
    number: u64,
    answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.link.state().note(Action::Ended { number: self.number, answered: self.answered });
    }
}

impl SimulatedPorts {
    async fn perform(&self, account: Option<&AccountName>, effect: Effect) -> Event {
        let link = &*self.0;
        let (reply, delivery) = oneshot::channel();
        let (number, sent_ms) = {
            let mut state = link.state();
            if !matches!(effect, Effect::Send { .. }) {
                state.point(true);
            }
            state.requested += 1;
            let number = state.requested;
            state.note(Action::Requested { number, account: account.cloned(), effect, reply });
            (number, state.true_ms())
        };
        let mut under_way = UnderWay { link, number, answered: false };
        let delivery = delivery.await;
        let event = match delivery {
            Ok(Delivery::Event(event)) => event,
            Ok(Delivery::Panic) => resume_unwind(Box::new(PlannedPanic)),
            Ok(Delivery::Accounts(_)) | Err(_) => unexpected(),
        };
        under_way.answered = true;
        if matches!(
            event,
            Event::Account(Ok(_))
                | Event::Limiter(Ok(_))
                | Event::Written(WriteOutcome::Applied | WriteOutcome::Conflict)
        ) {
            link.store_replied(sent_ms);
        }
        let has_record = match &event {
            Event::Account(Ok(record)) => record.version != Version(0),
            Event::Written(outcome) => *outcome == WriteOutcome::Applied,
            _ => false,
        };
        if let Some(account) = account.filter(|_| has_record) {
            link.state().known.insert(account.clone());
        }
        event
    }
}

/// A defect of the simulation.
fn unexpected() -> ! {
    panic!("a port got no reply, or one to another question")
}

#[async_trait]
impl Store for SimulatedPorts {
    async fn read_account(&self, name: &AccountName) -> Result<Account, StoreError> {
        match self.perform(Some(name), Effect::ReadAccount).await {
            Event::Account(read) => read,
            _ => unexpected(),
        }
    }

    async fn write_account(&self, name: &AccountName, expected: Version, next: &Account) -> WriteOutcome {
        let effect = Effect::WriteAccount { expected, next: next.clone() };
        match self.perform(Some(name), effect).await {
            Event::Written(outcome) => outcome,
            _ => unexpected(),
        }
    }

    async fn read_login_limiter(&self, name: &LimiterName) -> Result<LoginLimiter, StoreError> {
        match self.perform(None, Effect::ReadLimiter(name.clone())).await {
            Event::Limiter(read) => read,
            _ => unexpected(),
        }
    }

    async fn write_login_limiter(
        &self,
        name: &LimiterName,
        expected: Version,
        next: &LoginLimiter,
    ) -> WriteOutcome {
        let effect = Effect::WriteLimiter { name: name.clone(), expected, next: next.clone() };
        match self.perform(None, effect).await {
            Event::Written(outcome) => outcome,
            _ => unexpected(),
        }
    }

    async fn list_accounts(&self) -> Result<Vec<Listed>, StoreError> {
        let (reply, delivery) = oneshot::channel();
        let sent_ms = {
            let mut state = self.0.state();
            state.note(Action::List(reply));
            state.true_ms()
        };
        match delivery.await {
            Ok(Delivery::Accounts(read)) => {
                if read.is_ok() {
                    self.0.store_replied(sent_ms);
                }
                read
            }
            Ok(Delivery::Panic) => resume_unwind(Box::new(PlannedPanic)),
            Ok(Delivery::Event(_)) | Err(_) => unexpected(),
        }
    }
}

#[async_trait]
impl Secrets for SimulatedPorts {
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError> {
        match self.perform(Some(name), Effect::ReadSecret).await {
            Event::Secret(read) => read,
            _ => unexpected(),
        }
    }
}

#[async_trait]
impl Upstream for SimulatedPorts {
    async fn send(&self, call: &Call) -> UpstreamReply {
        let effect = Effect::Send { call: call.clone(), not_after: CHECKED };
        match self.perform(None, effect).await {
            Event::Replied(reply) => reply,
            _ => unexpected(),
        }
    }
}

#[async_trait]
impl Clock for SimulatedPorts {
    fn now(&self) -> Timestamp {
        self.present().now
    }

    fn present(&self) -> Present {
        let mut state = self.0.state();
        state.point(false);
        let true_ms = state.true_ms();
        self.0.present_in(&mut state, true_ms)
    }

    fn draw(&self) -> Draw {
        let mut state = self.0.state();
        state.draws += 1;
        Draw(state.rng.u64(..))
    }

    async fn sleep_until(&self, until: Timestamp) {
        let (reply, delivery) = oneshot::channel();
        {
            let mut state = self.0.state();
            let true_ms = state.true_ms();
            let left = until.since(self.0.present_in(&mut state, true_ms).now);
            state.note(Action::Sleep(true_ms.saturating_add(protocol::millis(left)), reply));
        }
        // If the world is gone, the end of the pause does not matter.
        let _ = delivery.await;
    }
}
