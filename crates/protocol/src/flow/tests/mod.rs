//! Whole flows, driven by hand: a small world performs the effects, and each test says where it deviates.

mod crowds;
mod granting;
mod leasing;
mod life;
mod outages;
mod saving;

use super::*;
use crate::{
    decide::Answer, decide::Intent, decide::Target, grant::Expiry, grant::Granted, policy::STORE_RETRY,
    record::AccountName, record::ApiVersion, record::Cooldown, record::CooldownReason, record::Grant,
    record::Origin, record::Pair, record::TokenKind, secret::Secret, test_pair, test_policy,
};
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_000_000_000);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// What a test does to one effect.
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
    /// Everything that was asked for, by name.
    asked: Vec<String>,
    grants: u64,
    draws: u64,
    /// What the last flow came to.
    report: Option<Outcome>,
    /// Whether the draw falls on every request to renew a pair that is due, or on none.
    eager: bool,
}

impl World {
    fn new() -> Self {
        Self {
            now: START,
            account: Account::default(),
            limiter: LoginLimiter::default(),
            secret: Ok(credentials("v1")),
            asked: Vec::new(),
            grants: 0,
            draws: 0,
            report: None,
            eager: false,
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

    fn ask(&self, goal: Intent) -> Request {
        let deadline = self.now.plus(Duration::from_secs(28));
        Request { account: AccountName::default(), goal, arrived_at: self.now, deadline }
    }

    fn token(&mut self) -> Result<Answer, Failure> {
        self.run(&mut Flow::new(self.ask(TOKEN), Cache::default()), |_, _| Fate::Done)
    }

    /// Drives a flow to its end.
    fn run(
        &mut self,
        flow: &mut Flow,
        mut fate: impl FnMut(&mut Self, &Effect) -> Fate,
    ) -> Result<Answer, Failure> {
        let mut event = Event::Begin;
        for _ in 0..1000 {
            let effect = self.step(flow, event);
            if let Effect::Done(result) = effect {
                self.report = result.clone().ok();
                return result.map(|done| match done {
                    Outcome::Token(answer) => answer,
                    Outcome::Report { .. } => nothing(),
                });
            }
            self.asked.push(name(&effect).to_owned());
            event = match fate(self, &effect) {
                Fate::Done => self.perform(effect),
                Fate::DoneBut(event) => {
                    self.perform(effect);
                    event
                }
                Fate::Lost(event) => event,
            };
        }
        panic!("the flow does not end: {:?}", self.asked);
    }

    fn step(&mut self, flow: &mut Flow, event: Event) -> Effect {
        // Each draw differs, as holders have to.
        self.draws += 1;
        let draw = Draw(if self.eager { self.draws } else { u64::MAX - self.draws });
        flow.step(&test_policy(), event, self.now, draw)
    }

    /// Drives a flow until it asks for an effect of that name, and gives the effect, which is not performed.
    fn drive_to(&mut self, flow: &mut Flow, wanted: &str) -> Effect {
        let mut event = Event::Begin;
        for _ in 0..1000 {
            let effect = self.step(flow, event);
            self.asked.push(name(&effect).to_owned());
            if name(&effect) == wanted {
                return effect;
            }
            event = self.perform(effect);
        }
        panic!("it never asks for that: {:?}", self.asked);
    }

    fn perform(&mut self, effect: Effect) -> Event {
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.account.clone())),
            Effect::ReadLimiter => Event::Limiter(Ok(self.limiter.clone())),
            Effect::ReadSecret => Event::Secret(self.secret.clone()),
            Effect::WriteAccount { expected, next } => Event::Written(if self.account.version == expected {
                self.account = next;
                WriteOutcome::Applied
            } else {
                WriteOutcome::Conflict
            }),
            Effect::WriteLimiter { expected, next } => Event::Written(if self.limiter.version == expected {
                self.limiter = next;
                WriteOutcome::Applied
            } else {
                WriteOutcome::Conflict
            }),
            Effect::Send { not_after, .. } if self.now > not_after => Event::Replied(UpstreamReply::TooLate),
            Effect::Send { call: Call::Revoke(_), .. } => Event::Replied(UpstreamReply::Revoked),
            Effect::Send { call: Call::Probe { .. }, .. } => Event::Replied(UpstreamReply::Alive),
            Effect::Send { .. } => {
                self.grants += 1;
                Event::Replied(UpstreamReply::Granted(granted(self.grants)))
            }
            Effect::Pause { until } => {
                self.now = self.now.max(until);
                Event::Resumed
            }
            Effect::Done(_) => unreachable!("performed nothing after the end"),
        }
    }

    fn pair(&self) -> &Pair {
        self.account.pair.as_ref().expect("a pair")
    }

    /// Whether this effect, which was just asked for, is the first one of its name.
    fn is_first(&self, effect: &Effect, wanted: &str) -> bool {
        name(effect) == wanted && self.count(wanted) == 1
    }

    fn count(&self, name: &str) -> usize {
        self.asked.iter().filter(|asked| *asked == name).count()
    }
}

const TOKEN: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };

fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::ReadAccount => "read account",
        Effect::WriteAccount { .. } => "write account",
        Effect::ReadLimiter => "read ledger",
        Effect::WriteLimiter { .. } => "write ledger",
        Effect::ReadSecret => "read secret",
        Effect::Send { call: Call::Login(_), .. } => "login",
        Effect::Send { call: Call::Refresh { .. }, .. } => "refresh",
        Effect::Send { call: Call::Revoke(_), .. } => "revoke",
        Effect::Send { call: Call::Probe { .. }, .. } => "probe",
        Effect::Pause { .. } => "pause",
        Effect::Done(_) => "done",
    }
}

/// Stands for the answer of a flow that hands out no token.
fn nothing() -> Answer {
    Answer {
        access_token: Secret::from("none"),
        generation: Generation(0),
        expires_in_seconds: 0,
        expires_at: START,
        served_from: ServedFrom::Table,
    }
}

fn credentials(version: &str) -> Credentials {
    Credentials {
        version: SecretVersion(version.to_owned()),
        email: Secret::from("email"),
        password: Secret::from("password"),
        client: None,
        origin: Origin::default(),
    }
}

fn granted(number: u64) -> Granted {
    Granted {
        access_token: Secret::new(format!("access {number}")),
        refresh_token: Some(Secret::new(format!("refresh {number}"))),
        access_expiry: Expiry::In(WEEK),
        refresh_expiry: Expiry::Unknown,
    }
}

fn pair(left: Duration) -> Pair {
    Pair {
        access_token: Secret::from("access 0"),
        refresh_token: Some(Secret::from("refresh 0")),
        ..test_pair(START.plus(left))
    }
}

fn replied(reply: &UpstreamReply) -> Event {
    Event::Replied(reply.clone())
}

/// Answers every call of a kind with a reply, without carrying it out.
fn answering(kind: &'static str, reply: UpstreamReply) -> impl FnMut(&mut World, &Effect) -> Fate {
    move |_, effect| if name(effect) == kind { Fate::Lost(replied(&reply)) } else { Fate::Done }
}

fn fails(world: &mut World, kind: &'static str, reply: UpstreamReply) -> Failure {
    let mut flow = Flow::new(world.ask(TOKEN), Cache::default());
    world.run(&mut flow, answering(kind, reply)).expect_err("a failure")
}
