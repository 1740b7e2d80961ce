//! The fleet as a model: which actions there are, and what each leads to.

use crate::{
    environment::Fate,
    instance::{Instance, Request, UnderLease},
    liveness,
    setting::Setting,
    timing::is_busy,
    world::{Invariant, World},
};
use protocol::{AccountName, Done, Effect, Event, Failure, Flow, Intent, Memory, Request, Timestamp};
use stateright::{Model, Property};
use std::{collections::BTreeSet, sync::Mutex, time::Duration};

/// How long a caller waits.
pub const PATIENCE: Duration = Duration::from_secs(28);

/// What a request came to, if it came to its end.
pub type Ended = Option<Result<Outcome, Failure>>;

/// The model of one configuration.
#[derive(Debug)]
pub struct Fleet {
    /// The configuration.
    pub setting: Setting,
    /// Interesting things that have happened in some run. They are no part of the state, which would keep runs
    /// apart that have come to the same.
    pub sights: Mutex<BTreeSet<&'static str>>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An instance gets its next request.
    Begin(usize),
    /// The effect that an instance waits for is performed, and the instance goes on.
    Perform(usize, Fate),
    /// An instance dies, and forgets everything.
    Die(usize),
    /// A write that nobody waits for arrives.
    Arrive(usize),
    /// Nothing happens until an instant that makes a difference: whoever is active was paused.
    Pass(Timestamp),
    /// The secret gets a new version.
    Rotate,
    /// The table is out of reach.
    Outage,
    /// It is there again.
    Recovery,
}

impl Model for Fleet {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.setting.beginnings.iter().map(|beginnings| World::new(&self.setting, beginnings)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for (who, instance) in world.instances.iter().enumerate() {
            let turn = who == 0 || !self.setting.instances_are_alike() || world.instances[who - 1].begun > 0;
            if instance.at.is_none() && turn && instance.begun < self.setting.requests[who].len() {
                actions.push(Action::Begin(who));
            }
            actions.extend(self.fates(world, who).iter().map(|fate| Action::Perform(who, *fate)));
            if instance.at.is_some() && world.faults_left > 0 {
                actions.push(Action::Die(who));
            }
            if instance.late.is_some() {
                actions.push(Action::Arrive(who));
            }
        }
        let may_pass = world.pauses_left > 0 || !is_busy(world);
        if may_pass && !self.is_over(world) {
            actions.extend(self.next_instant(world).map(Action::Pass));
            actions.extend(self.last_instants(world).into_iter().map(Action::Pass));
        }
        if world.outage {
            actions.push(Action::Recovery);
        } else if self.setting.outages && world.faults_left > 0 {
            actions.push(Action::Outage);
        }
        if world.secret < self.setting.secrets.len() {
            actions.push(Action::Rotate);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Begin(who) => {
                let (account, goal) = self.setting.requests[who][world.instances[who].begun];
                self.begin(&mut world, who, account, goal);
            }
            Action::Perform(who, fate) => {
                world.faults_left -= u8::from(fate != Fate::Done && !world.outage);
                world.pauses_left -= u8::from(self.costs_a_pause(&world, who));
                let event = self.perform(&mut world, who, fate);
                self.step(&mut world, who, event);
            }
            Action::Die(who) => {
                world.faults_left -= 1;
                let instance = &mut world.instances[who];
                let request = instance.at.take()?;
                instance.memory.fill(Cache::default());
                world.accounts[request.account].allowed += 1;
            }
            Action::Outage => {
                world.faults_left -= 1;
                world.outage = true;
                world.accounts.iter_mut().for_each(|account| account.allowed += 1);
            }
            Action::Recovery => world.outage = false,
            Action::Arrive(who) => {
                let late = world.instances[who].late.take()?;
                if self.land(&mut world, late.account, &late.effect) {
                    self.saw("a late write that counts");
                }
            }
            Action::Pass(until) => {
                world.pauses_left -= u8::from(is_busy(&world));
                world.pass_until(until);
            }
            Action::Rotate => {
                world.secret += 1;
                // A new version is worth a try.
                world.accounts.iter_mut().for_each(|account| account.allowed += 1);
            }
        }
        self.forget_what_cannot_land(&mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn kept(world: &World, invariant: Invariant) -> bool {
            world.broken != Some(invariant)
        }
        vec![
            Property::always("I1: logins in any minute", |_, w| kept(w, Invariant::TooManyLoginsInAMinute)),
            Property::always("I1: every login is paid for", |_, w| kept(w, Invariant::UnpaidLogin)),
            Property::always("I2: a refresh token is sent once", |_, w| {
                kept(w, Invariant::RefreshTokenSentTwice)
            }),
            Property::always("I3: generations grow", |_, w| kept(w, Invariant::OlderPairOverNewer)),
            Property::always("I3: a generation is one pair", |_, w| {
                kept(w, Invariant::GenerationNamesTwoPairs)
            }),
            Property::always("I4: what is handed out lives", |_, w| {
                kept(w, Invariant::ExpiredTokenHandedOut)
            }),
            Property::always("I5: a rejected_secret version rests", |_, w| {
                kept(w, Invariant::ParkedVersionSent)
            }),
            Property::always("I6, I8: no needless login", |_, w| kept(w, Invariant::NeedlessLogin)),
            Property::always("I8: a failing upstream is left alone", |_, w| {
                kept(w, Invariant::HammeredUpstream)
            }),
            Property::always("I7: failures are right", |_, w| kept(w, Invariant::WrongFailure)),
            Property::always("I7: the next request is served", liveness::the_next_request_is_served),
            Property::always("what is in use is not revoked", |_, w| kept(w, Invariant::LiveTokenRevoked)),
        ]
    }
}

impl Fleet {
    /// A fleet in which nothing was seen yet.
    pub fn new(setting: Setting) -> Self {
        Self { setting, sights: Mutex::default() }
    }

    /// Notes that something interesting has happened.
    pub fn saw(&self, what: &'static str) {
        self.sights.lock().unwrap().insert(what);
    }

    /// An instance gets a request.
    pub fn begin(&self, world: &mut World, who: usize, account: usize, goal: Intent) -> Ended {
        let now = world.clock(&self.setting, who);
        let deadline = now.plus(PATIENCE);
        let name = AccountName::parse(&format!("account-{account}")).expect("a name");
        let ask = Request { account: name, goal, arrived_at: now, deadline };
        let instance = &mut world.instances[who];
        instance.begun += 1;
        let flow = Flow::new(ask, instance.memory[account].clone());
        let drawn_before = instance.drawn;
        // The effect is replaced by the first step.
        let effect = Effect::ReadAccount;
        instance.at = Some(Request {
            account,
            flow,
            effect,
            goal,
            deadline,
            drawn_before,
            leased: false,
            under_lease: UnderLease::default(),
            logins: 0,
        });
        self.step(world, who, Event::Begin)
    }

    /// Tells an instance what became of its effect. Says what the request came to, if it came to its end.
    pub fn step(&self, world: &mut World, who: usize, event: Event) -> Ended {
        let (now, draw) = (world.clock(&self.setting, who), world.draw(&self.setting, who));
        let confirmed = matches!(event, Event::Account(_));
        let event = self.told(event);
        let Instance { at, memory, .. } = &mut world.instances[who];
        let request = at.as_mut()?;
        let account = request.account;
        let memory = &mut memory[account];
        let had_unsaved = memory.pending_write.is_some();
        let effect = request.flow.step(&self.setting.policy(), event, now, draw);
        for notice in request.flow.take_notices() {
            self.note(&notice, confirmed, had_unsaved, &effect);
        }
        memory.clone_from(request.flow.memory());
        let effect = self.asked(world, who, effect);
        self.rename(&mut world.accounts[account], &effect);
        let Instance { at, memory, drawn, .. } = &mut world.instances[who];
        at.as_mut()?.wait_for(&effect);
        // These are the steps that give a name to an attempt, or to a debit.
        *drawn += u64::from(matches!(effect, Effect::WriteAccount { .. } | Effect::ReadLimiter));
        let Effect::Done(result) = effect else { return None };
        *at = None;
        // As in the function, an account that nothing is known of is not remembered.
        if memory[account].copy.as_ref().is_none_or(|copy| copy.account.version.0 == 0) {
            memory[account] = Cache::default();
        }
        match &result {
            Ok(Outcome::Token(answer)) => self.check_answer(world, who, account, answer),
            Ok(Outcome::Report { .. }) => {}
            Err(failure) => self.check_failure(world, failure),
        }
        Some(result)
    }

    /// Nobody is at anything, nobody will be, and nothing is on its way.
    fn is_over(&self, world: &World) -> bool {
        world.instances.iter().zip(&self.setting.requests).all(|(instance, requests)| {
            instance.at.is_none() && instance.late.is_none() && instance.begun == requests.len()
        })
    }

    /// A late write whose condition is not met any more never will land, since versions only grow.
    fn forget_what_cannot_land(&self, world: &mut World) {
        for who in 0..world.instances.len() {
            let late = world.instances[who].late.as_ref();
            if late.is_some_and(|late| !self.would_land(world, late.account, &late.effect)) {
                world.instances[who].late = None;
            }
        }
    }
}
