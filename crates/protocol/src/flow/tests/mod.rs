//! Whole flows: a small world performs the effects, and each test says where it deviates.

mod clocks;
mod expiry_herd;
mod grants;
mod lease;
mod life_cycle;
mod limits;
mod logins;
mod oauth2;
mod operator;
mod outages;
mod refused_writes;
mod rejections;
mod renew;
mod reports;
mod revocations;
mod save;
mod transitions;

use super::{state::*, *};
use crate::{
    Account, AccountName, Answer, ApiVersion, Call, Cooldown, CooldownReason, Credentials, Draw, Expiry,
    Generation, Holder, Intent, Lease, LoginLimiter, LoginLimits, NewRefreshToken, ObtainedBy, Origin,
    Outcome, Policy, Revocation, STORE_RETRY, STORE_TIMEOUT, Secret, SecretError, StoreError, Task,
    TokenKind, TokenResponse, UpstreamReply, Verdict, Version, WriteOutcome, testing,
};
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_000_000_000);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// What a test does to an effect.
enum Fate {
    /// It is carried out, and the reply arrives.
    Done,
    /// It is carried out, and this event arrives instead of the reply.
    DoneBut(Event),
    /// It is not carried out, and this event arrives.
    Lost(Event),
}

struct World {
    now: Timestamp,
    account: Account,
    limiter: LoginLimiter,
    secret: Result<Credentials, SecretError>,
    /// The names of all effects so far.
    requested: Vec<String>,
    grants: u64,
    draws: u64,
    /// The outcome of the last flow.
    report: Option<Outcome>,
    /// Whether every request is selected for early refresh of a due pair, or none.
    eager: bool,
    limits: &'static LoginLimits,
}

impl World {
    fn new() -> Self {
        Self {
            now: START,
            account: Account::default(),
            limiter: LoginLimiter::default(),
            secret: Ok(credentials("v1")),
            requested: Vec::new(),
            grants: 0,
            draws: 0,
            report: None,
            eager: false,
            limits: const { &LoginLimits::NONE },
        }
    }

    /// A world with a pair that expires that long from now.
    fn with_pair(left: Duration) -> Self {
        let mut world = Self::new();
        world.account = Account { version: Version(7), pair: Some(pair(left)), ..Account::default() };
        world
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    fn request(&self, intent: Intent) -> Request {
        let deadline = self.now.plus(Duration::from_secs(28));
        Request {
            account: AccountName::default(),
            intent,
            arrived: Moment::of_agreeing_clocks(self.now),
            deadline,
        }
    }

    fn token(&mut self) -> Result<Answer, Failure> {
        self.run(&mut Flow::new(self.request(TOKEN), Cache::default()), |_, _| Fate::Done)
    }

    /// Drives a flow to its end.
    fn run(
        &mut self,
        flow: &mut Flow,
        mut fate: impl FnMut(&mut Self, &Effect) -> Fate,
    ) -> Result<Answer, Failure> {
        let mut event = None;
        for _ in 0..1000 {
            let effect = match self.step(flow, event) {
                Step::Perform(effect) => effect,
                Step::Done(result) => {
                    self.report = result.clone().ok();
                    return result.map(|outcome| match outcome {
                        Outcome::Token(answer) => answer,
                        Outcome::Report { .. } | Outcome::Unblocked { .. } => nothing(),
                    });
                }
            };
            self.requested.push(effect.name().to_owned());
            event = Some(match fate(self, &effect) {
                Fate::Done => self.perform(effect),
                Fate::DoneBut(event) => {
                    self.perform(effect);
                    event
                }
                Fate::Lost(event) => event,
            });
        }
        panic!("the flow does not end: {:?}", self.requested);
    }

    /// Begins a flow, or goes on with an event.
    fn step(&mut self, flow: &mut Flow, event: Option<Event>) -> Step {
        // Each draw differs, as holders have to.
        self.draws += 1;
        let draw = Draw(if self.eager { self.draws } else { u64::MAX - self.draws });
        let cx = Context { limits: self.limits, ..cx(self.now, draw) };
        match event {
            None => flow.begin(cx),
            Some(event) => flow.step(cx, event),
        }
    }

    /// Drives a flow until it asks for an effect of that name, which is not performed.
    fn drive_to(&mut self, flow: &mut Flow, wanted: &str) -> Effect {
        let mut event = None;
        for _ in 0..1000 {
            let Step::Perform(effect) = self.step(flow, event) else {
                break;
            };
            self.requested.push(effect.name().to_owned());
            if effect.name() == wanted {
                return effect;
            }
            event = Some(self.perform(effect));
        }
        panic!("it never asks for {wanted}: {:?}", self.requested);
    }

    fn perform(&mut self, effect: Effect) -> Event {
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.account.clone())),
            Effect::ReadLimiter(_) => Event::Limiter(Ok(self.limiter.clone())),
            Effect::ReadSecret => Event::Secret(self.secret.clone()),
            Effect::WriteAccount { expected, next } => Event::Written(if self.account.version == expected {
                self.account = next;
                WriteOutcome::Applied
            } else {
                WriteOutcome::Conflict
            }),
            Effect::WriteLimiter { expected, next, .. } => {
                Event::Written(if self.limiter.version == expected {
                    self.limiter = next;
                    WriteOutcome::Applied
                } else {
                    WriteOutcome::Conflict
                })
            }
            Effect::Send { not_after, .. } if self.now > not_after => Event::Replied(UpstreamReply::TooLate),
            Effect::Send { call: Call::Revoke(..), .. } => Event::Replied(UpstreamReply::Revoked),
            Effect::Send { call: Call::Probe(_), .. } => Event::Replied(UpstreamReply::Alive),
            Effect::Send { .. } => {
                self.grants += 1;
                Event::Replied(UpstreamReply::Granted(granted(self.grants)))
            }
            Effect::Pause { until } => {
                self.now = self.now.max(until);
                Event::Resumed
            }
        }
    }

    fn pair(&self) -> &Pair {
        self.account.pair.as_ref().expect("a pair")
    }

    /// The tokens that are to be revoked.
    fn pending(&self) -> Vec<&str> {
        self.account.pending_revocations.iter().map(|revocation| revocation.token.expose()).collect()
    }

    fn consumed(&self) -> bool {
        self.pair().refresh_token.as_ref().is_some_and(|refresh| refresh.consumed)
    }

    /// Whether this effect is the first one of its name.
    fn is_first(&self, effect: &Effect, wanted: &str) -> bool {
        effect.name() == wanted && self.count(wanted) == 1
    }

    fn count(&self, name: &str) -> usize {
        self.requested.iter().filter(|requested| *requested == name).count()
    }
}

const TOKEN: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };

const POLICY: Policy = Policy::DEFAULT;
const SECOND: Duration = Duration::from_secs(1);

fn cx(now: Timestamp, draw: Draw) -> Context<'static> {
    Context::new(&POLICY, now, draw)
}

/// The effect of a step that does not end the flow.
fn performed(step: Step) -> Effect {
    match step {
        Step::Perform(effect) => effect,
        Step::Done(result) => panic!("the flow has ended: {result:?}"),
    }
}

/// The answer of a flow that hands out no token.
fn nothing() -> Answer {
    Answer {
        access_token: Secret::from("none"),
        generation: Generation(0),
        expires_in_seconds: 0,
        expires_at: START,
        served_from: ServedFrom::Table,
        extra: None,
    }
}

fn credentials(version: &str) -> Credentials {
    testing::credentials(version)
}

fn granted(number: u64) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new(format!("access {number}")),
        refresh_token: NewRefreshToken::Token(Secret::new(format!("refresh {number}"))),
        access_expiry: Expiry::In(WEEK),
        refresh_expiry: Expiry::Unknown,
        extra: None,
    }
}

fn pair(left: Duration) -> Pair {
    Pair {
        access_token: Secret::from("access 0"),
        refresh_token: Some(testing::refresh_token("refresh 0")),
        ..testing::pair(START.plus(left))
    }
}

fn replied(reply: &UpstreamReply) -> Event {
    Event::Replied(reply.clone())
}

/// Answers every call of a kind with a reply, without carrying it out.
fn answering(kind: &'static str, reply: UpstreamReply) -> impl FnMut(&mut World, &Effect) -> Fate {
    move |_, effect| {
        if effect.name() == kind { Fate::Lost(replied(&reply)) } else { Fate::Done }
    }
}

fn fails(world: &mut World, kind: &'static str, reply: UpstreamReply) -> Failure {
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut flow, answering(kind, reply)).expect_err("a failure")
}
