//! The fleet as a model: its actions, and the state that each leads to.

use crate::{
    environment::{Fate, is_refused},
    instance::{Instance, Running, UnderLease},
    liveness,
    setting::{LATEST, Outage, Setting},
    timing::is_busy,
    world::{Invariant, World},
};
use stateright::{Model, Property};
use std::{collections::BTreeSet, sync::Mutex, time::Duration};
use token_broker_protocol::{
    AccountName, Cache, Effect, Event, Failure, Flow, Intent, Moment, Outcome, Request, Step, Timestamp,
};

/// How long a caller waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(28);

/// The result of a request that has ended.
pub(crate) type Ended = Option<Result<Outcome, Failure>>;

/// The model of one configuration.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) setting: Setting,
    /// Situations that some run reached. They are not part of the state, because they would distinguish runs that lead
    /// to the same state.
    pub(crate) sights: Mutex<BTreeSet<&'static str>>,
}

/// One step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// An instance gets its next request.
    Begin(usize),
    /// The effect that an instance waits for is performed, and the instance continues.
    Perform(usize, Fate),
    /// An instance crashes, and loses its cache.
    Crash(usize),
    /// A delayed write arrives.
    Arrive(usize),
    /// Nothing happens until a relevant instant. Every instance that has something to do is paused.
    Pass(Timestamp),
    /// The secret gets a new version.
    Rotate,
    /// The table begins to refuse requests.
    Outage(Outage),
    /// The table is back.
    Recovery,
    /// Another login of the same user ends all sessions of an account.
    EndSessions(usize),
    /// The wall clock of an instance steps.
    StepClock(usize),
}

impl Model for Fleet {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.setting.records.iter().map(|records| World::new(&self.setting, records)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violated.is_some() {
            return;
        }
        for (who, instance) in world.instances.iter().enumerate() {
            let in_order =
                who == 0 || !self.setting.instances_are_alike() || world.instances[who - 1].begun > 0;
            if instance.running.is_none() && in_order && instance.begun < self.setting.requests[who].len() {
                actions.push(Action::Begin(who));
            }
            actions.extend(self.fates(world, who).iter().map(|fate| Action::Perform(who, *fate)));
            if instance.running.is_some() && world.faults_left > 0 {
                actions.push(Action::Crash(who));
            }
            if instance.delayed.is_some() {
                actions.push(Action::Arrive(who));
            }
        }
        if !self.is_over(world) {
            let instants = self.instants(world);
            // A pause ends at any of the instants. While every instance is idle, time passes from one to the next.
            let ends = match (is_busy(world), world.pauses_left) {
                (false, _) => 1,
                (true, 0) => 0,
                (true, _) => instants.len(),
            };
            actions.extend(instants.into_iter().take(ends).map(Action::Pass));
        }
        if world.outage.is_some() {
            actions.push(Action::Recovery);
        } else if world.faults_left > 0 {
            actions.extend(self.setting.outages.iter().copied().map(Action::Outage));
        }
        if world.lost_sessions_left > 0 {
            let accounts = 0..world.accounts.len();
            let alive = |account: &usize| {
                world.sessions.iter().any(|session| session.account == *account && session.is_alive())
            };
            actions.extend(accounts.filter(alive).map(Action::EndSessions));
        }
        if world.secret < self.setting.secrets.len() {
            actions.push(Action::Rotate);
        }
        if world.steps_left > 0 {
            actions.extend((0..world.instances.len()).map(Action::StepClock));
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Begin(who) => {
                let (account, intent) = self.setting.requests[who][world.instances[who].begun];
                self.begin(&mut world, who, account, intent);
            }
            Action::Perform(who, fate) => {
                let effect = world.instances[who].running.as_ref().map(|running| &running.effect);
                let refused = effect.is_some_and(|effect| is_refused(world.outage, effect));
                world.faults_left -= u8::from(fate != Fate::Normal && !refused);
                world.pauses_left -= u8::from(self.costs_a_pause(&world, who));
                let event = self.perform(&mut world, who, fate);
                self.step(&mut world, who, event);
            }
            Action::Crash(who) => {
                world.faults_left -= 1;
                let instance = &mut world.instances[who];
                let running = instance.running.take()?;
                instance.caches.fill(Cache::default());
                world.start_clock(&self.setting, who);
                world.accounts[running.account].allowed_logins += 1;
            }
            Action::Outage(outage) => {
                world.faults_left -= 1;
                world.outage = Some(outage);
                world.accounts.iter_mut().for_each(|account| account.allowed_logins += 1);
            }
            Action::Recovery => world.outage = None,
            Action::EndSessions(account) => {
                world.lost_sessions_left -= 1;
                world.accounts[account].allowed_logins += 1;
                for session in world.sessions.iter_mut().filter(|session| session.account == account) {
                    (session.access, session.refresh) = (false, false);
                }
            }
            Action::Arrive(who) => {
                let delayed = world.instances[who].delayed.take()?;
                if self.apply(&mut world, delayed.account, &delayed.effect, delayed.intent) {
                    self.saw("a delayed write that is applied");
                }
            }
            Action::Pass(until) => {
                world.pauses_left -= u8::from(is_busy(&world));
                world.pass_until(until);
            }
            Action::StepClock(who) => {
                world.steps_left -= 1;
                world.instances[who].stepped += self.setting.step;
            }
            Action::Rotate => {
                world.secret += 1;
                // A new version is worth one login.
                world.accounts.iter_mut().for_each(|account| account.allowed_logins += 1);
            }
        }
        self.drop_stale_writes(&mut world);
        if world.violated.is_none() && Self::disturbs(action, before) {
            world.violated = liveness::all_are_served(self, &world).err();
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(world: &World, invariant: Invariant) -> bool {
            world.violated != Some(invariant)
        }
        vec![
            Property::always("I1: logins per minute", |_, w| holds(w, Invariant::LoginsPerMinute)),
            Property::always("I1: a permit for every login", |_, w| holds(w, Invariant::PermitForEveryLogin)),
            Property::always("I2: a refresh token is sent once", |_, w| {
                holds(w, Invariant::RefreshTokenSentOnce)
            }),
            Property::always("I1: an account's share of logins", |_, w| holds(w, Invariant::AccountShare)),
            Property::always("I1: permits are used", |_, w| holds(w, Invariant::PermitsAreUsed)),
            Property::always("I3: generations grow", |_, w| holds(w, Invariant::GenerationsGrow)),
            Property::always("I3: a generation names one pair", |_, w| {
                holds(w, Invariant::GenerationNamesOnePair)
            }),
            Property::always("I4: an answer is valid", |_, w| holds(w, Invariant::AnswerIsValid)),
            Property::always("I5: a rejected secret is not sent", |_, w| {
                holds(w, Invariant::RejectedSecretIsNotSent)
            }),
            Property::always("I6, I8: no needless login", |_, w| holds(w, Invariant::NoNeedlessLogin)),
            Property::always("I8: a cooldown is kept", |_, w| holds(w, Invariant::CooldownIsKept)),
            Property::always("I7: a failure has a reason", |_, w| holds(w, Invariant::FailureHasReason)),
            Property::always("I7: the next request is served", liveness::the_next_request_is_served),
            Property::always("I7: every caller is served", |_, w| holds(w, Invariant::EveryCallerIsServed)),
            Property::always("I7: an outage is answered soon", liveness::an_outage_is_answered_soon),
            Property::always("I7: a pause begins now", |_, w| holds(w, Invariant::PauseBeginsNow)),
            Property::always("renewals are bounded", |_, w| holds(w, Invariant::RenewalsAreBounded)),
            Property::always("an operator's refresh once a minute", |_, w| {
                holds(w, Invariant::ReplacedOncePerMinute)
            }),
            Property::always("a token in use is not revoked", |_, w| {
                holds(w, Invariant::TokenInUseIsNotRevoked)
            }),
        ]
    }
}

impl Fleet {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, sights: Mutex::default() }
    }

    /// Records that a situation was reached.
    pub(crate) fn saw(&self, what: &'static str) {
        self.sights.lock().unwrap().insert(what);
    }

    /// An instance gets a request. Returns the result if the request ends at once.
    pub(crate) fn begin(&self, world: &mut World, who: usize, account: usize, intent: Intent) -> Ended {
        let now = world.clock(&self.setting, who);
        let deadline = now.plus(PATIENCE);
        let intent = match intent {
            Intent::Token { min_ttl, rejected: Some(LATEST) } => {
                Intent::Token { min_ttl, rejected: world.instances[who].answered.take() }
            }
            intent => intent,
        };
        let request = Request {
            account: account_name(account),
            intent,
            arrived: Moment { wall: now, ..world.reading(&self.setting, who) },
            deadline,
        };
        let (policy, draw) = (self.setting.policy(), world.draw(&self.setting, who));
        let cx = world.context(&self.setting, who, &policy, now, draw);
        let instance = &mut world.instances[who];
        instance.begun += 1;
        let mut flow = Flow::new(request, instance.caches[account].clone());
        let step = flow.begin(cx);
        instance.running = Some(Running {
            account,
            flow,
            // `proceed` replaces it.
            effect: Effect::ReadAccount,
            intent,
            deadline: world.now.plus(PATIENCE),
            first_draw: instance.drawn,
            leased: false,
            under_lease: UnderLease::default(),
            logins: 0,
        });
        self.proceed(world, who, step)
    }

    /// Reports to an instance how its effect ended. Returns the result if the request has ended.
    pub(crate) fn step(&self, world: &mut World, who: usize, event: Event) -> Ended {
        let (now, draw) = (self.clock_of_step(world, who, &event), world.draw(&self.setting, who));
        let after_a_read = matches!(event, Event::Account(_));
        let event = self.alter_event(event);
        let policy = self.setting.policy();
        let cx = world.context(&self.setting, who, &policy, now, draw);
        let running = world.instances[who].running.as_mut()?;
        let had_pending = running.flow.cache().pending_write.is_some();
        let step = running.flow.step(cx, event);
        for notice in running.flow.take_notices() {
            self.note(&notice, after_a_read, had_pending, &step);
        }
        self.proceed(world, who, step)
    }

    /// An instance takes the next step of its flow.
    fn proceed(&self, world: &mut World, who: usize, step: Step) -> Ended {
        let Instance { running, caches, .. } = &mut world.instances[who];
        let Running { account, flow, .. } = running.as_ref()?;
        let account = *account;
        caches[account].clone_from(flow.cache());
        self.alter_cache(&mut caches[account]);
        let result = match step {
            Step::Perform(effect) => {
                let effect = self.alter_effect(world, who, effect);
                self.rename(&mut world.accounts[account], &effect);
                let instance = &mut world.instances[who];
                // These are the steps whose draw becomes a holder.
                instance.drawn +=
                    u64::from(matches!(effect, Effect::WriteAccount { .. } | Effect::ReadLimiter(_)));
                instance.running.as_mut()?.wait_for(effect);
                return None;
            }
            Step::Done(result) => result,
        };
        *running = None;
        // As in the function, an account of which nothing is known is not kept.
        if caches[account].record.as_ref().is_none_or(|cached| cached.account.version.0 == 0) {
            caches[account] = Cache::default();
        }
        match &result {
            Ok(Outcome::Token(answer)) => self.check_answer(world, who, account, answer),
            Ok(Outcome::Report { .. } | Outcome::Unblocked { .. }) => {}
            Err(failure) => self.check_failure(world, account, failure),
        }
        Some(result)
    }

    /// Whether an action is a fault, or lets time pass while an instance has something to do.
    fn disturbs(action: Action, before: &World) -> bool {
        match action {
            Action::Perform(who, fate) => {
                let effect = before.instances[who].running.as_ref().map(|running| &running.effect);
                fate != Fate::Normal && !effect.is_some_and(|effect| is_refused(before.outage, effect))
            }
            Action::Pass(_) => is_busy(before),
            Action::Crash(_) | Action::Outage(_) | Action::EndSessions(_) | Action::StepClock(_) => true,
            Action::Begin(_) | Action::Arrive(_) | Action::Rotate | Action::Recovery => false,
        }
    }

    /// No request is running or pending, and no write is in transit.
    fn is_over(&self, world: &World) -> bool {
        world.instances.iter().zip(&self.setting.requests).all(|(instance, requests)| {
            instance.running.is_none() && instance.delayed.is_none() && instance.begun == requests.len()
        })
    }

    /// A delayed write whose condition is not met now will never be applied, since versions only grow.
    fn drop_stale_writes(&self, world: &mut World) {
        for who in 0..world.instances.len() {
            let delayed = world.instances[who].delayed.as_ref();
            if delayed.is_some_and(|delayed| !self.would_apply(world, delayed.account, &delayed.effect)) {
                world.instances[who].delayed = None;
            }
        }
    }
}

pub(crate) fn account_name(account: usize) -> AccountName {
    AccountName::parse(&format!("account-{account}")).expect("a name")
}
