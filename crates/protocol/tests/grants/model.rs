//! The fleet as a model: its actions, and the state that each leads to.

use crate::{
    environment::Fate,
    invariants,
    setting::{GRACE, START, Setting},
    world::{Instance, Replied, Running, World},
};
use stateright::{Model, Property};
use std::{collections::BTreeSet, sync::Mutex, time::Duration};
use token_broker_protocol::{
    AccountName, Cache, Effect, Event, Failure, Flow, Intent, Moment, Outcome, Request, Step, Timestamp,
    Unclear, UpstreamReply,
};

/// The result of a request that has ended.
pub(crate) type Ended = Option<Result<Outcome, Failure>>;

/// The model of one configuration.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) setting: Setting,
    /// Situations that some run reached. Not part of the state, because they would distinguish equal states.
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
    Write(usize),
    /// A late call arrives at the server.
    Arrive(usize),
    /// Nothing happens until a relevant instant.
    Pass(Timestamp),
    /// The secret gets its next version.
    Rotate,
}

impl Model for Fleet {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.setting)]
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
                actions.push(Action::Write(who));
            }
        }
        actions.extend((0..world.late.len()).map(Action::Arrive));
        if !self.is_over(world) {
            let instants = self.instants(world);
            let ends = match (is_busy(world), world.pauses_left) {
                (false, _) => 1,
                (true, 0) => 0,
                (true, _) => instants.len(),
            };
            actions.extend(instants.into_iter().take(ends).map(Action::Pass));
        }
        if world.secret < self.setting.secrets.len() {
            actions.push(Action::Rotate);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Begin(who) => {
                let intent = self.setting.requests[who][world.instances[who].begun];
                self.begin(&mut world, who, intent);
            }
            Action::Perform(who, fate) => {
                world.faults_left -= u8::from(fate != Fate::Normal);
                world.pauses_left -= u8::from(self.costs_a_pause(&world, who));
                let event = self.perform(&mut world, who, fate);
                self.step(&mut world, who, event);
            }
            Action::Crash(who) => {
                world.faults_left -= 1;
                self.check_crash(&mut world, who);
                let Instance { begun, drawn, delayed, .. } = world.instances[who].clone();
                world.instances[who] = Instance { begun, drawn, delayed, ..Instance::default() };
            }
            Action::Write(who) => {
                let delayed = world.instances[who].delayed.take()?;
                self.apply(&mut world, &delayed);
            }
            Action::Arrive(which) => {
                let late = world.late.remove(which);
                let reply = self.arrive(&mut world, late.token, late.right_client);
                if matches!(reply, UpstreamReply::Granted(_)) {
                    self.saw("a late call that is carried out");
                    world.lose(late.token);
                }
            }
            Action::Pass(until) => {
                world.pauses_left -= u8::from(is_busy(&world));
                world.pass_until(until);
            }
            Action::Rotate => world.secret += 1,
        }
        if (world.faults_left, world.pauses_left) != (before.faults_left, before.pauses_left) {
            for token in before.uses.keys() {
                world.uses.entry(*token).and_modify(|it| it.struck_again = true);
            }
        }
        for instance in &mut world.instances {
            // A delayed write whose condition is not met now never will be, since versions only grow.
            let version = world.record.version;
            instance.delayed.take_if(
                |write| !matches!(write, Effect::WriteAccount { expected, .. } if *expected == version),
            );
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I2: a token is sent again only by the rule", |_, w: &World| {
                w.violated != Some(invariants::SENT_AGAIN)
            }),
            Property::always("other invariants", |_, w: &World| {
                w.violated.is_none_or(|violated| violated == invariants::SENT_AGAIN)
            }),
            Property::always("I6: no grant is lost that the rule keeps", |fleet, w| {
                invariants::no_grant_is_lost(fleet, w)
            }),
        ]
    }
}

impl Fleet {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, sights: Mutex::default() }
    }

    /// Notes that a situation was reached.
    pub(crate) fn saw(&self, what: &'static str) {
        self.sights.lock().unwrap().insert(what);
    }

    /// How long a call may travel.
    pub(crate) fn travel(&self) -> Duration {
        Setting::POLICY.upstream_timeout * 2
    }

    /// When another attempt may send a token that an instance sends now, by the clock that is furthest ahead.
    pub(crate) fn settled_at(&self, world: &World, who: usize) -> Timestamp {
        let deadline = world.instances[who].running.as_ref().expect("a request").deadline;
        let furthest = self.setting.clocks.iter().max().copied().unwrap_or_default();
        let ahead = (self.setting.clocks[who] - furthest) * 1000;
        let latest = deadline.plus(Setting::POLICY.longest_travel() + Setting::POLICY.clock_margin);
        Timestamp::from_millis(latest.as_millis().saturating_add_signed(ahead))
    }

    /// An instance gets a request. Returns the result if the request ends at once.
    pub(crate) fn begin(&self, world: &mut World, who: usize, intent: Intent) -> Ended {
        let (now, patience) =
            (world.clock(&self.setting, who), Duration::from_secs(self.setting.patience[who]));
        let uptime = Moment::of_agreeing_clocks(world.now).uptime;
        let request = Request {
            account: AccountName::default(),
            intent,
            arrived: Moment { wall: now, uptime },
            deadline: now.plus(patience),
        };
        let cx = world.context(&self.setting, who);
        let deadline = world.now.plus(patience);
        world.is_revoked |= intent == Intent::RevokeConfirmed;
        let instance = &mut world.instances[who];
        instance.begun += 1;
        let mut flow = Flow::new(request, instance.cache.clone());
        let step = flow.begin(cx);
        let (effect, replied) = (Effect::ReadAccount, Replied::default());
        instance.running = Some(Running { flow, effect, intent, deadline, replied });
        self.proceed(world, who, step)
    }

    /// Tells an instance how its effect ended. Returns the result if the request has ended.
    pub(crate) fn step(&self, world: &mut World, who: usize, event: Event) -> Ended {
        let cx = world.context(&self.setting, who);
        let running = world.instances[who].running.as_mut()?;
        if let Event::Replied(reply) = &event {
            running.replied = match reply {
                UpstreamReply::Unclear(Unclear::Unexpected { .. }) => Replied::With5xx,
                UpstreamReply::NeverLeft
                | UpstreamReply::TooLate
                | UpstreamReply::RateLimited(_)
                | UpstreamReply::ClientRefused => Replied::NotCarriedOut,
                _ => Replied::Otherwise,
            };
        }
        let step = running.flow.step(cx, event);
        drop(running.flow.take_notices());
        self.proceed(world, who, step)
    }

    /// An instance takes the next step of its flow.
    fn proceed(&self, world: &mut World, who: usize, step: Step) -> Ended {
        let cx = world.context(&self.setting, who);
        let instance = &mut world.instances[who];
        instance.cache = instance.running.as_ref()?.flow.cache().clone();
        match step {
            Step::Perform(effect) => {
                instance.drawn +=
                    u64::from(matches!(effect, Effect::WriteAccount { .. } | Effect::ReadLimiter(_)));
                let effect = self.altered_write(world, who, effect);
                world.instances[who].running.as_mut()?.effect = effect;
                None
            }
            Step::Done(result) => {
                self.check_result(world, who, &result);
                world.instances[who].running = None;
                if world.instances[who].cache.is_forgettable(cx) {
                    world.instances[who].cache = Cache::default();
                }
                Some(result)
            }
        }
    }

    /// No request is running or pending, and nothing is in transit.
    pub(crate) fn is_over(&self, world: &World) -> bool {
        is_quiet(world)
            && world
                .instances
                .iter()
                .zip(&self.setting.requests)
                .all(|(it, requests)| it.begun == requests.len())
    }

    /// The instants within the horizon at which something lapses or begins, in order.
    pub(crate) fn instants(&self, world: &World) -> BTreeSet<Timestamp> {
        let policy = Setting::POLICY;
        let (second, margin) = (Duration::from_secs(1), policy.clock_margin);
        let mut by_all_clocks = Vec::new();
        let record = &world.record;
        by_all_clocks.extend(record.lease.map(|lease| lease.until));
        by_all_clocks.extend(record.cooldown.map(|cooldown| cooldown.until));
        if let Some(pair) = &record.pair {
            let wanted = Duration::from_secs(60);
            by_all_clocks.extend([
                pair.expires_at.minus(margin + wanted),
                pair.expires_at.minus(margin),
                pair.expires_at.plus(margin),
            ]);
        }
        if let Some(grant) = &record.grant {
            by_all_clocks.extend(grant.send_after);
            let marks = grant.held.mark.into_iter().chain(grant.trial.as_ref().and_then(|it| it.usage.mark));
            for mark in marks {
                let latest = mark.at.plus(GRACE).minus(policy.longest_travel());
                by_all_clocks.extend([mark.settled_at, latest, latest.plus(second)]);
            }
        }
        let mut instants: BTreeSet<Timestamp> = world.late.iter().map(|call| call.until).collect();
        for (who, instance) in world.instances.iter().enumerate() {
            let mut own = by_all_clocks.clone();
            if let Some(Running { effect: Effect::Send { not_after, .. }, .. }) = &instance.running {
                own.extend([*not_after, not_after.plus(second)]);
            }
            own.extend(instance.cache.rejection_seen.map(|at| at.wall.plus(Duration::from_secs(30))));
            instants.extend(own.into_iter().map(|at| World::true_time(&self.setting, who, at)));
        }
        let rounded = |at: Timestamp| Timestamp::from_millis(at.as_millis().div_ceil(1000) * 1000);
        let horizon = START.plus(Duration::from_secs(self.setting.horizon));
        instants.into_iter().map(rounded).filter(|at| *at > world.now && *at <= horizon).collect()
    }

    /// When a pause ends. While another attempt holds the lease and the record does not change, repeated reads are left
    /// out.
    pub(crate) fn end_of_pause(&self, world: &World, who: usize, until: Timestamp) -> Timestamp {
        let until = self.waits_until(world, who).map_or(until, |later| until.max(later));
        World::true_time(&self.setting, who, until)
    }

    /// Whether an instance waits for another one that has something to do.
    pub(crate) fn costs_a_pause(&self, world: &World, who: usize) -> bool {
        let running = world.instances[who].running.as_ref();
        let pauses = running.is_some_and(|running| matches!(running.effect, Effect::Pause { .. }));
        pauses && is_busy(world)
    }

    fn waits_until(&self, world: &World, who: usize) -> Option<Timestamp> {
        let running = world.instances[who].running.as_ref()?;
        let seen = running.flow.cache().record.as_ref().map(|cached| cached.account.version);
        let clock = world.clock(&self.setting, who);
        let lease = world.record.lease.filter(|lease| {
            seen == Some(world.record.version)
                && lease.until > clock
                && World::who_drew(lease.holder) != Some(who)
        })?;
        let ahead = clock.since(world.now);
        let last_look = running.deadline.plus(ahead).minus(Duration::from_millis(250));
        Some(lease.until.min(last_look))
    }
}

/// No request is running, and nothing is in transit.
pub(crate) fn is_quiet(world: &World) -> bool {
    let idle = |instance: &Instance| instance.running.is_none() && instance.delayed.is_none();
    world.late.is_empty() && world.instances.iter().all(idle)
}

/// Whether an instance has something to do. One that pauses by itself does not.
pub(crate) fn is_busy(world: &World) -> bool {
    let running = world.instances.iter().filter_map(|instance| instance.running.as_ref());
    running.into_iter().any(|running| !matches!(running.effect, Effect::Pause { .. }))
}
