//! Whole flows, driven by hand: a small world performs the effects, and each test says where it deviates.

use super::*;
use crate::{
    core::{
        decide::{Answer, Goal, Replaced},
        grant::{Expiry, Granted},
        policy::STORE_RETRY,
        record::{AccountName, Cooldown, CooldownReason, Dialect, Grant, Origin, Pair, TokenKind},
        test_policy,
    },
    secret::Secret,
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
    ledger: Ledger,
    secret: Result<Credentials, SecretProblem>,
    /// Everything that was asked for, by name.
    asked: Vec<String>,
    grants: u64,
    draws: u64,
    /// What the last flow came to.
    report: Option<Done>,
    /// Whether the draw falls on every request to renew a pair that is due, or on none.
    eager: bool,
}

impl World {
    fn new() -> Self {
        Self {
            now: START,
            account: Account::default(),
            ledger: Ledger::default(),
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

    fn ask(&self, goal: Goal) -> Ask {
        let deadline = self.now.plus(Duration::from_secs(28));
        Ask { account: AccountName::default(), goal, arrived_at: self.now, deadline }
    }

    fn token(&mut self) -> Result<Answer, Failure> {
        self.run(&mut Flow::new(self.ask(TOKEN), Memory::default()), |_, _| Fate::Done)
    }

    /// Drives a flow to its end.
    fn run(
        &mut self,
        flow: &mut Flow,
        mut fate: impl FnMut(&mut Self, &Effect) -> Fate,
    ) -> Result<Answer, Failure> {
        let mut event = Event::Begin;
        for _ in 0..1000 {
            // Each draw differs, as holders have to.
            self.draws += 1;
            let draw = Draw(if self.eager { self.draws } else { u64::MAX - self.draws });
            let effect = flow.step(&test_policy(), event, self.now, draw);
            if let Effect::Done(result) = effect {
                self.report = result.clone().ok();
                return result.map(|done| match done {
                    Done::Token(answer) => answer,
                    Done::Report { .. } => nothing(),
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

    fn perform(&mut self, effect: Effect) -> Event {
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.account.clone())),
            Effect::ReadLedger => Event::Ledger(Ok(self.ledger.clone())),
            Effect::ReadSecret => Event::Secret(self.secret.clone()),
            Effect::WriteAccount { expected, next } => Event::Written(if self.account.version == expected {
                self.account = next;
                Written::Done
            } else {
                Written::Conflict
            }),
            Effect::WriteLedger { expected, next } => Event::Written(if self.ledger.version == expected {
                self.ledger = next;
                Written::Done
            } else {
                Written::Conflict
            }),
            Effect::Send { not_after, .. } if self.now > not_after => Event::Replied(Reply::TooLate),
            Effect::Send { call: Call::Revoke(_), .. } => Event::Replied(Reply::Revoked),
            Effect::Send { call: Call::Probe { .. }, .. } => Event::Replied(Reply::Alive),
            Effect::Send { .. } => {
                self.grants += 1;
                Event::Replied(Reply::Granted(granted(self.grants)))
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

    fn count(&self, name: &str) -> usize {
        self.asked.iter().filter(|asked| *asked == name).count()
    }
}

const TOKEN: Goal = Goal::Token { min_ttl: Duration::from_secs(60), rejected: None };

fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::ReadAccount => "read account",
        Effect::WriteAccount { .. } => "write account",
        Effect::ReadLedger => "read ledger",
        Effect::WriteLedger { .. } => "write ledger",
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
        generation: Generation(7),
        access_token: Secret::from("access 0"),
        refresh_token: Some(Secret::from("refresh 0")),
        refresh_spent: false,
        issued_at: START.plus(left).minus(WEEK),
        expires_at: START.plus(left),
        refresh_expires_at: None,
        obtained_by: Grant::Login,
        replaces: None,
        origin: Origin::default(),
        dead: false,
    }
}

fn replied(reply: &Reply) -> Event {
    Event::Replied(reply.clone())
}

/// Answers every call of a kind with a reply, without carrying it out.
fn answering(kind: &'static str, reply: Reply) -> impl FnMut(&mut World, &Effect) -> Fate {
    move |_, effect| if name(effect) == kind { Fate::Lost(replied(&reply)) } else { Fate::Done }
}

fn fails(world: &mut World, kind: &'static str, reply: Reply) -> Failure {
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    world.run(&mut flow, answering(kind, reply)).expect_err("a failure")
}

#[test]
fn the_first_request_logs_in_and_the_second_finds_the_pair() {
    let mut world = World::new();
    let first = world.token().unwrap();
    assert_eq!(first.served_from, ServedFrom::Upstream);
    assert_eq!(
        world.asked,
        [
            "read account",
            "read secret",
            "write account",
            "read ledger",
            "write ledger",
            "login",
            "write account"
        ]
    );
    let second = world.token().unwrap();
    assert_eq!((second.served_from, second.generation), (ServedFrom::Table, first.generation));
    assert_eq!(world.count("login"), 1);
    assert_eq!(world.account.lease, None);
}

#[test]
fn a_warm_memory_answers_without_any_io() {
    let mut world = World::new();
    let mut first = Flow::new(world.ask(TOKEN), Memory::default());
    world.run(&mut first, |_, _| Fate::Done).unwrap();
    world.asked.clear();
    let mut second = Flow::new(world.ask(TOKEN), first.memory().clone());
    let answer = world.run(&mut second, |_, _| Fate::Done).unwrap();
    assert_eq!(answer.served_from, ServedFrom::Memory);
    assert_eq!(world.asked, Vec::<String>::new());
    world.pass(test_policy().memory_ttl);
    let mut third = Flow::new(world.ask(TOKEN), first.memory().clone());
    assert_eq!(world.run(&mut third, |_, _| Fate::Done).unwrap().served_from, ServedFrom::Table);
}

#[test]
fn a_pair_that_expires_is_refreshed_not_logged_in_again() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let answer = world.token().unwrap();
    assert_eq!(world.asked, ["read account", "write account", "refresh", "write account"]);
    assert!(answer.generation > Generation(7));
    assert_eq!(world.pair().obtained_by, Grant::Refresh);
    assert!(!world.pair().refresh_spent);
}

#[test]
fn f01_the_refresh_token_is_marked_as_spent_before_it_leaves() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let mut spent_when_sent = None;
    world
        .run(&mut flow, |world, effect| {
            if name(effect) == "refresh" {
                spent_when_sent = Some(world.pair().refresh_spent);
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(spent_when_sent, Some(true));
}

#[test]
fn a_refresh_without_a_clear_answer_is_never_sent_again() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let failure = fails(&mut world, "refresh", Reply::Unclear);
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    assert!(world.pair().refresh_spent);
    assert_eq!(world.account.failures(), 1);
    assert!(matches!(world.token(), Err(Failure::UpstreamUnavailable { .. })), "it rests");
    world.pass(Duration::from_secs(60));
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (1, 1));
}

#[test]
fn a_refresh_that_never_left_is_sent_again_after_a_rest() {
    for reply in [Reply::NeverLeft, Reply::RateLimited(None)] {
        let mut world = World::with_pair(Duration::from_secs(30));
        fails(&mut world, "refresh", reply.clone());
        assert!(!world.pair().refresh_spent, "{reply:?}");
        assert!(world.account.cooldown.is_some());
        world.pass(Duration::from_secs(120));
        world.token().unwrap();
        assert_eq!((world.count("refresh"), world.count("login")), (2, 0), "{reply:?}");
    }
}

#[test]
fn a_dead_refresh_token_leads_to_a_login_under_the_same_lease() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let answer = world.run(&mut flow, answering("refresh", Reply::Refused)).unwrap();
    assert_eq!(
        world.asked,
        [
            "read account",
            "write account",
            "refresh",
            "read secret",
            "read ledger",
            "write ledger",
            "login",
            "write account"
        ]
    );
    assert_eq!(answer.served_from, ServedFrom::Upstream);
    assert_eq!(world.pair().obtained_by, Grant::Login);
}

#[test]
fn f11_a_usable_token_is_answered_whatever_the_renewal_came_to() {
    for reply in [Reply::Unclear, Reply::NeverLeft, Reply::RateLimited(None), Reply::Refused] {
        let mut world = World::with_pair(Duration::from_secs(3600));
        world.secret = Err(SecretProblem::Unreachable);
        world.eager = true;
        let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
        let answer = world.run(&mut flow, answering("refresh", reply.clone())).unwrap();
        assert_eq!((answer.generation, answer.served_from), (Generation(7), ServedFrom::Table), "{reply:?}");
        assert_eq!(world.count("refresh"), 1, "it was tried");
    }
}

#[test]
fn f20_refused_credentials_are_parked_until_the_secret_changes() {
    let mut world = World::new();
    let failure = fails(&mut world, "login", Reply::Refused);
    assert_eq!(failure, Failure::CredentialsRejected(SecretVersion("v1".to_owned())));
    assert_eq!(world.account.parked, Some(SecretVersion("v1".to_owned())));
    assert_eq!(
        (world.count("login"), world.count("read secret")),
        (1, 2),
        "it was read again before parking"
    );
    for _ in 0..3 {
        assert!(matches!(world.token(), Err(Failure::CredentialsRejected(_))));
        world.pass(Duration::from_secs(3600));
    }
    assert_eq!(world.count("login"), 1);
    world.secret = Ok(credentials("v2"));
    world.token().unwrap();
    assert_eq!(world.account.parked, None);
}

#[test]
fn a_login_refused_while_the_secret_was_rotated_tries_the_newer_version_once() {
    let mut world = World::new();
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let result = world.run(&mut flow, |world, effect| {
        if name(effect) == "login" && world.count("login") == 1 {
            world.secret = Ok(credentials("v2"));
            return Fate::Lost(replied(&Reply::Refused));
        }
        Fate::Done
    });
    assert!(result.is_ok());
    assert_eq!(
        (world.count("login"), world.ledger.debits.len()),
        (2, 2),
        "a second debit for the second login"
    );

    let mut world = World::new();
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let result = world.run(&mut flow, |world, effect| {
        if name(effect) == "login" {
            let next = format!("v{}", world.count("login") + 1);
            world.secret = Ok(credentials(&next));
            return Fate::Lost(replied(&Reply::Refused));
        }
        Fate::Done
    });
    assert_eq!(result, Err(Failure::CredentialsRejected(SecretVersion("v2".to_owned()))), "and no third one");
}

#[test]
fn a_parked_version_is_looked_up_only_now_and_then() {
    let mut world = World::new();
    let mut first = Flow::new(world.ask(TOKEN), Memory::default());
    world.run(&mut first, answering("login", Reply::Refused)).unwrap_err();
    world.asked.clear();
    let mut soon = Flow::new(world.ask(TOKEN), first.memory().clone());
    world.run(&mut soon, |_, _| Fate::Done).unwrap_err();
    assert_eq!(world.asked, ["read account"]);
    world.pass(Duration::from_secs(30));
    let mut later = Flow::new(world.ask(TOKEN), first.memory().clone());
    world.run(&mut later, |_, _| Fate::Done).unwrap_err();
    assert_eq!(world.count("read secret"), 1);
}

#[test]
fn f03_a_429_stops_the_whole_fleet_for_as_long_as_it_asks() {
    for (asked, at_least) in [(None, 60), (Some(5), 60), (Some(120), 120), (Some(1_000_000), 3600)] {
        let mut world = World::new();
        let failure = fails(&mut world, "login", Reply::RateLimited(asked.map(Duration::from_secs)));
        assert!(matches!(failure, Failure::UpstreamRateLimited { .. }));
        let seconds = failure.retry_after_seconds().unwrap();
        assert!((at_least..=at_least * 11 / 10).contains(&seconds), "{asked:?}: {seconds}");
        assert!(world.ledger.blocked_until.is_some());
        // Another account of the fleet, a moment later.
        world.account = Account::default();
        world.pass(Duration::from_secs(10));
        assert!(matches!(world.token(), Err(Failure::UpstreamRateLimited { .. })));
        assert_eq!(world.count("login"), 1);
    }
}

#[test]
fn the_budget_holds_over_all_accounts_and_says_when_a_login_is_free() {
    let mut world = World::new();
    for _ in 0..5 {
        world.account = Account::default();
        world.token().unwrap();
    }
    world.account = Account::default();
    let failure = world.token().unwrap_err();
    assert!(matches!(failure, Failure::LoginBudgetExhausted { .. }));
    assert_eq!(world.count("login"), 5);
    assert_eq!(world.account.failures(), 0, "nothing has failed");
    world.pass(Duration::from_secs(failure.retry_after_seconds().unwrap()));
    world.token().unwrap();
}

#[test]
fn a_login_is_not_sent_on_a_stale_debit_or_a_short_lease() {
    for paused in [Duration::from_secs(3), Duration::from_secs(14)] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
        let mut paused_once = false;
        world
            .run(&mut flow, |world, effect| {
                if name(effect) == "login" && !paused_once {
                    paused_once = true;
                    world.pass(paused);
                }
                Fate::Done
            })
            .unwrap();
        assert_eq!((world.count("login"), world.grants), (2, 1), "the first one did not leave");
        assert_eq!(world.ledger.debits.len(), 2, "a debit each");
    }
}

#[test]
fn a_refresh_that_comes_too_late_to_be_sent_is_not_spent() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let mut paused_once = false;
    world
        .run(&mut flow, |world, effect| {
            if name(effect) == "refresh" && !paused_once {
                paused_once = true;
                world.pass(Duration::from_secs(11));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!((world.count("refresh"), world.count("login"), world.grants), (2, 0, 1));
}

#[test]
fn an_unknown_account_writes_nothing() {
    for (problem, failure) in [
        (SecretProblem::Missing, Failure::UnknownAccount),
        (
            SecretProblem::Bad("`email` is missing".to_owned()),
            Failure::BadSecret("`email` is missing".to_owned()),
        ),
        (SecretProblem::Unreachable, Failure::SecretUnavailable),
    ] {
        let mut world = World::new();
        world.secret = Err(problem);
        assert_eq!(world.token(), Err(failure));
        assert_eq!(world.asked, ["read account", "read secret"]);
    }
}

#[test]
fn a_lost_reply_to_the_acquiring_write_is_found_out() {
    for lost in [Written::Unknown, Written::Conflict] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
        let result = world.run(&mut flow, |world, effect| {
            let first_write = name(effect) == "write account" && world.count("write account") == 1;
            if first_write { Fate::DoneBut(Event::Written(lost)) } else { Fate::Done }
        });
        assert!(result.is_ok());
        assert_eq!(world.count("write account"), 2, "{lost:?}");
    }
}

#[test]
fn an_acquiring_write_that_was_not_carried_out_is_tried_again_after_a_pause() {
    let mut world = World::new();
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let result = world.run(&mut flow, |world, effect| {
        let first_write = name(effect) == "write account" && world.count("write account") == 1;
        if first_write { Fate::Lost(Event::Written(Written::Unknown)) } else { Fate::Done }
    });
    assert!(result.is_ok());
    assert_eq!((world.count("pause"), world.count("login")), (1, 1));
}

#[test]
fn f04_f05_whoever_is_outrun_waits_and_is_answered_with_the_others_pair() {
    let mut world = World::new();
    let mut slow = Flow::new(world.ask(TOKEN), Memory::default());
    let mut outrun = false;
    let answer = world
        .run(&mut slow, |world, effect| {
            if name(effect) == "write account" && !outrun {
                outrun = true;
                world.token().unwrap();
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!((world.count("login"), answer.served_from), (1, ServedFrom::Table));
}

#[test]
fn f06_f08_f09_a_dead_holder_is_waited_for_until_its_lease_lapses() {
    let mut world = World::new();
    let mut dead = Flow::new(world.ask(TOKEN), Memory::default());
    // The instance dies in the middle of its login: the last thing it wrote is its lease.
    let mut event = Event::Begin;
    loop {
        let effect = dead.step(&test_policy(), event, world.now, Draw(1));
        if name(&effect) == "login" {
            break;
        }
        event = world.perform(effect);
    }
    let lease = world.account.lease.unwrap();
    let answer = world.token().unwrap();
    assert_eq!(answer.served_from, ServedFrom::Upstream);
    assert!(world.now >= lease.until && world.now <= lease.until.plus(Duration::from_secs(1)));
}

#[test]
fn waiting_ends_with_the_callers_own_time() {
    let mut world = World::new();
    let until = START.plus(Duration::from_secs(60));
    world.account.lease = Some(Lease { holder: Holder(1), until });
    let failure = world.token().unwrap_err();
    assert!(matches!(failure, Failure::RefreshInProgress { .. }));
    assert!(world.now < START.plus(Duration::from_secs(28)));
    assert!(world.count("read account") < 60, "pauses grow: {}", world.count("read account"));
}

#[test]
fn nothing_is_begun_that_cannot_end_in_time() {
    let mut world = World::new();
    let ask = Ask { deadline: world.now.plus(Duration::from_secs(5)), ..world.ask(TOKEN) };
    let result = world.run(&mut Flow::new(ask, Memory::default()), |_, _| Fate::Done);
    assert_eq!(result, Err(Failure::TooLittleTime));
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn f10_a_pair_whose_saving_got_no_reply_was_saved_after_all() {
    for lost in [Written::Unknown, Written::Conflict] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
        let answer = world
            .run(&mut flow, |world, effect| {
                let commit = name(effect) == "write account" && world.count("login") == 1;
                if commit { Fate::DoneBut(Event::Written(lost)) } else { Fate::Done }
            })
            .unwrap();
        assert_eq!(world.pair().generation, answer.generation, "{lost:?}");
        assert_eq!((world.count("login"), world.count("write account")), (1, 2));
    }
}

#[test]
fn f10_a_pair_that_cannot_be_saved_is_served_and_saved_by_the_next_request() {
    let mut world = World::new();
    let mut first = Flow::new(world.ask(TOKEN), Memory::default());
    let down = |world: &mut World, effect: &Effect| match effect {
        Effect::WriteAccount { .. } if world.count("login") == 1 => {
            Fate::Lost(Event::Written(Written::Unknown))
        }
        Effect::ReadAccount if world.count("login") == 1 => {
            Fate::Lost(Event::Account(Err(StoreProblem::Unreachable)))
        }
        _ => Fate::Done,
    };
    let answer = world.run(&mut first, down).unwrap();
    assert!(world.account.pair.is_none(), "it is not in the table");
    assert!(world.now < START.plus(Duration::from_secs(28)), "the caller was answered in time");

    // The store is down still: memory answers, without I/O for a while and then after one try.
    let mut second = Flow::new(world.ask(TOKEN), first.memory().clone());
    let again = world.run(&mut second, |_, _| Fate::Lost(Event::Written(Written::Unknown))).unwrap();
    assert_eq!((again.generation, again.served_from), (answer.generation, ServedFrom::Memory));

    // The store is back, before anybody took over: the pair is saved, and nobody logs in.
    world.pass(STORE_RETRY);
    world.account.lease = None;
    let mut third = Flow::new(world.ask(TOKEN), second.memory().clone());
    world.run(&mut third, |_, _| Fate::Done).unwrap();
    assert_eq!(world.pair().generation, answer.generation);
    assert_eq!(world.count("login"), 1);
}

#[test]
fn f07_f14_whoever_was_overtaken_discards_its_pair_and_revokes_it() {
    let mut world = World::new();
    let mut paused = Flow::new(world.ask(TOKEN), Memory::default());
    let mut overtaken = false;
    let mut revoked = Vec::new();
    let answer = world
        .run(&mut paused, |world, effect| {
            if name(effect) == "write account" && world.count("login") == 1 && !overtaken {
                // It obtained a pair, and is paused beyond its lease before it can save it.
                overtaken = true;
                world.pass(Duration::from_secs(15));
                world.token().unwrap();
            }
            if let Effect::Send { call: Call::Revoke(revocation), .. } = effect {
                revoked.push((revocation.token.clone(), revocation.kind));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(world.pair().access_token, Secret::from("access 2"), "the later pair stands");
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!(
        revoked,
        [(Secret::from("refresh 1"), TokenKind::Refresh), (Secret::from("access 1"), TokenKind::Access)]
    );
}

#[test]
fn an_orphan_is_not_revoked_where_anybody_may_hold_its_tokens() {
    /// What happens while a flow that has obtained a pair is paused beyond its lease.
    type Meanwhile = fn(&mut World);
    let meanwhiles: [(&str, Meanwhile); 3] = [
        ("the upstream gives the very same tokens once more", |world| {
            world.grants = 0;
            world.token().unwrap();
        }),
        ("somebody is about to get tokens, which may be the same", |world| {
            let lease = Lease { holder: Holder(1), until: world.now.plus(Duration::from_secs(15)) };
            let version = world.account.version.next(world.now);
            world.account =
                Account { version, lease: Some(lease), pair: Some(pair(WEEK)), ..Account::default() };
        }),
        ("the pair had been saved after all, was handed out, and has been replaced since", |world| {
            let saved = world.account.version;
            let replaces = Some(Generation(saved.0));
            let version = saved.next(world.now);
            let successor = Pair { generation: Generation(version.0), replaces, ..pair(WEEK) };
            world.account = Account { version, pair: Some(successor), ..Account::default() };
        }),
    ];
    for (what, meanwhile) in meanwhiles {
        let mut world = World::new();
        let mut paused = Flow::new(world.ask(TOKEN), Memory::default());
        let mut overtaken = false;
        world
            .run(&mut paused, |world, effect| {
                if name(effect) == "write account" && world.count("login") == 1 && !overtaken {
                    overtaken = true;
                    world.pass(Duration::from_secs(15));
                    meanwhile(world);
                }
                Fate::Done
            })
            .unwrap();
        assert!(overtaken);
        assert_eq!(world.count("revoke"), 0, "{what}");
    }
}

#[test]
fn a_pair_that_memory_held_and_handed_out_is_not_revoked_when_somebody_took_over() {
    let mut world = World::new();
    let mut first = Flow::new(world.ask(TOKEN), Memory::default());
    world
        .run(&mut first, |world, effect| match effect {
            Effect::WriteAccount { .. } if world.count("login") == 1 => {
                Fate::Lost(Event::Written(Written::Unknown))
            }
            Effect::ReadAccount if world.count("login") == 1 => {
                Fate::Lost(Event::Account(Err(StoreProblem::Unreachable)))
            }
            _ => Fate::Done,
        })
        .unwrap();
    world.pass(Duration::from_secs(15));
    world.token().unwrap();
    let mut second = Flow::new(world.ask(TOKEN), first.memory().clone());
    let answer = world.run(&mut second, |_, _| Fate::Done).unwrap();
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!(world.count("revoke"), 0);
    assert_eq!(second.memory().unsaved, None);
}

#[test]
fn a_refresh_does_not_unpark_a_secret_version() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let parked = Some(SecretVersion("v1".to_owned()));
    world.account.parked.clone_from(&parked);
    world.token().unwrap();
    assert_eq!((world.pair().obtained_by, &world.account.parked), (Grant::Refresh, &parked));
}

#[test]
fn a_request_that_waited_for_its_turn_is_refused_by_what_was_learnt_meanwhile() {
    for (lead, asked) in
        [(Duration::from_millis(1), &[][..]), (Duration::ZERO, &["read account".to_owned()][..])]
    {
        let mut world = World::new();
        let waiting = world.ask(TOKEN);
        world.pass(lead);
        let mut first = Flow::new(world.ask(TOKEN), Memory::default());
        world.run(&mut first, answering("login", Reply::Unclear)).unwrap_err();
        world.asked.clear();
        let mut second = Flow::new(waiting, first.memory().clone());
        let result = world.run(&mut second, |_, _| Fate::Done);
        assert!(matches!(result, Err(Failure::UpstreamUnavailable { .. })));
        assert_eq!(world.asked, asked, "a copy is as good as a look only if it is younger than the request");
    }
}

#[test]
fn f19_a_store_outage_makes_nobody_log_in() {
    let unreachable = |_: &mut World, effect: &Effect| match effect {
        Effect::ReadAccount => Fate::Lost(Event::Account(Err(StoreProblem::Unreachable))),
        _ => Fate::Done,
    };
    let mut world = World::new();
    let mut empty = Flow::new(world.ask(TOKEN), Memory::default());
    assert_eq!(world.run(&mut empty, unreachable), Err(Failure::StoreUnavailable));
    assert_eq!(world.asked, ["read account"]);

    let mut warm = Flow::new(world.ask(TOKEN), Memory::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    world.pass(Duration::from_secs(3600));
    let mut later = Flow::new(world.ask(TOKEN), warm.memory().clone());
    let answer = world.run(&mut later, unreachable).unwrap();
    assert_eq!(answer.served_from, ServedFrom::Memory, "an old copy is better than none");
    assert_eq!(world.count("login"), 1);
}

#[test]
fn f16_an_item_that_cannot_be_read_is_an_error_and_never_overwritten() {
    let mut world = World::new();
    let what = "attribute `version` is missing".to_owned();
    let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
    let result =
        world.run(&mut flow, |_, _| Fate::Lost(Event::Account(Err(StoreProblem::Unreadable(what.clone())))));
    assert_eq!(result, Err(Failure::UnreadableItem(what)));
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn an_unreadable_or_unreachable_ledger_lets_nobody_log_in() {
    for problem in [StoreProblem::Unreachable, StoreProblem::Unreadable("attribute `debits`".to_owned())] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
        let result = world.run(&mut flow, |_, effect| match effect {
            Effect::ReadLedger => Fate::Lost(Event::Ledger(Err(problem.clone()))),
            _ => Fate::Done,
        });
        assert!(result.is_err());
        assert_eq!(world.count("login"), 0);
        assert_eq!(world.account.lease, None, "the lease is given back");
    }
}

#[test]
fn a_debit_whose_reply_was_lost_is_found_again_and_paid_once() {
    for (fate, debits) in [(true, 1), (false, 1)] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Memory::default());
        world
            .run(&mut flow, |world, effect| {
                let first = name(effect) == "write ledger" && world.count("write ledger") == 1;
                match (first, fate) {
                    (true, true) => Fate::DoneBut(Event::Written(Written::Unknown)),
                    (true, false) => Fate::Lost(Event::Written(Written::Unknown)),
                    _ => Fate::Done,
                }
            })
            .unwrap();
        assert_eq!((world.ledger.debits.len(), world.count("login")), (debits, 1));
    }
}

#[test]
fn a_failure_is_recorded_and_the_rest_grows() {
    let mut world = World::new();
    let mut rests = Vec::new();
    for failures in 1..=8 {
        fails(&mut world, "login", Reply::Unclear);
        assert_eq!(world.account.failures(), failures);
        let rest = world.account.cooldown.unwrap().until.since(world.now);
        rests.push(rest);
        world.pass(Duration::from_secs(120));
    }
    assert!(rests.iter().zip(rests.iter().skip(1)).all(|(one, next)| next >= one), "{rests:?}");
    assert!(rests.last().is_some_and(|rest| *rest <= Duration::from_secs(60)));
    world.token().unwrap();
    assert_eq!(world.account.cooldown, None, "a success forgets them");
}

#[test]
fn a_pair_that_is_all_but_dead_on_arrival_is_not_renewed_at_every_request() {
    let mut world = World::new();
    let brief = Granted { access_expiry: Expiry::In(Duration::from_secs(2)), ..granted(1) };
    let failure = fails(&mut world, "login", Reply::Granted(brief));
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    assert!(world.account.cooldown.is_some_and(|cooldown| cooldown.reason == CooldownReason::Unavailable));
    assert!(world.token().is_err());
    assert_eq!(world.count("login"), 1);
}

#[test]
fn two_operators_at_once_are_one() {
    let mut world = World::with_pair(WEEK);
    let goal = Goal::Replace(Replaced::Unknown);
    let mut first = Flow::new(world.ask(goal), Memory::default());
    let mut second_answer = None;
    let mut second = Flow::new(world.ask(goal), Memory::default());
    // The second one looks while the first one is at the upstream.
    let looked = second.step(&test_policy(), Event::Begin, world.now, Draw(1));
    let answer = world
        .run(&mut first, |world, effect| {
            if name(effect) == "refresh" {
                let read = world.perform(looked.clone());
                let pause = second.step(&test_policy(), read, world.now, Draw(1));
                assert_eq!(name(&pause), "pause");
            }
            Fate::Done
        })
        .unwrap();
    let read = second.step(&test_policy(), Event::Resumed, world.now, Draw(1));
    let event = world.perform(read);
    if let Effect::Done(result) = second.step(&test_policy(), event, world.now, Draw(1)) {
        second_answer = result.ok();
    }
    assert!(answer.generation > Generation(7));
    let second_generation = second_answer.map(|done| match done {
        Done::Token(answer) => answer.generation,
        Done::Report { .. } => panic!("no token"),
    });
    assert_eq!(second_generation, Some(answer.generation));
    assert_eq!(world.count("refresh"), 1);
}

#[test]
fn an_operators_refresh_respects_a_rest() {
    let mut world = World::with_pair(WEEK);
    let until = world.now.plus(Duration::from_secs(30));
    world.account.cooldown = Some(Cooldown { until, reason: CooldownReason::RateLimited, failures: 0 });
    let ask = world.ask(Goal::Replace(Replaced::Unknown));
    let result = world.run(&mut Flow::new(ask, Memory::default()), |_, _| Fate::Done);
    assert!(matches!(result, Err(Failure::UpstreamRateLimited { .. })));
}

#[test]
fn an_event_that_nobody_asked_for_is_a_defect_and_no_panic() {
    let mut flow = Flow::new(World::new().ask(TOKEN), Memory::default());
    let effect = flow.step(&test_policy(), Event::Resumed, START, Draw(1));
    assert!(matches!(effect, Effect::Done(Err(Failure::Defect(_)))));
}

fn reporting(world: &World, generation: u64) -> Ask {
    world.ask(Goal::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(generation)) })
}

#[test]
fn f12_a_rejected_token_that_a_probe_finds_dead_is_renewed() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(reporting(&world, 7), Memory::default());
    let answer = world.run(&mut flow, answering("probe", Reply::Refused)).unwrap();
    assert!(answer.generation > Generation(7));
    assert_eq!(
        world.asked,
        [
            "read account",
            "write account",
            "probe",
            "write account",
            "read account",
            "write account",
            "refresh",
            "write account"
        ]
    );
    assert!(!world.pair().dead);
}

#[test]
fn f13_a_rejected_token_that_a_probe_finds_alive_stays_and_the_verdict_answers_the_rest() {
    let mut world = World::with_pair(WEEK);
    for _ in 0..1000 {
        let mut flow = Flow::new(reporting(&world, 7), Memory::default());
        let answer = world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(answer.generation, Generation(7));
    }
    assert_eq!((world.count("probe"), world.count("refresh"), world.count("login")), (1, 0, 0));
    assert!(!world.pair().refresh_spent, "a probe spends nothing");
    world.pass(Duration::from_secs(15));
    let mut later = Flow::new(reporting(&world, 7), Memory::default());
    world.run(&mut later, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 2, "one an interval");
}

#[test]
fn a_report_on_an_old_generation_is_answered_without_asking_the_upstream() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(reporting(&world, 6), Memory::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn memory_does_not_serve_the_rejected_generation_to_the_reporter() {
    let mut world = World::with_pair(WEEK);
    let mut warm = Flow::new(world.ask(TOKEN), Memory::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    let mut reporter = Flow::new(reporting(&world, 7), warm.memory().clone());
    let answer = world.run(&mut reporter, answering("probe", Reply::Refused)).unwrap();
    assert!(answer.generation > Generation(7));
}

#[test]
fn without_a_verdict_the_same_token_is_answered_and_nobody_probes_for_a_while() {
    for reply in [Reply::Unclear, Reply::NeverLeft, Reply::RateLimited(None)] {
        let mut world = World::with_pair(WEEK);
        for _ in 0..3 {
            let mut flow = Flow::new(reporting(&world, 7), Memory::default());
            let answer = world.run(&mut flow, answering("probe", reply.clone())).unwrap();
            assert_eq!(answer.generation, Generation(7));
        }
        assert_eq!(world.count("probe"), 1, "{reply:?}");
        assert!(world.account.cooldown.is_some() && world.account.lease.is_none());
    }
}

#[test]
fn a_reporter_waits_for_whoever_is_probing_and_is_answered_by_the_verdict() {
    let mut world = World::with_pair(WEEK);
    let mut first = Flow::new(reporting(&world, 7), Memory::default());
    let mut second = Flow::new(reporting(&world, 7), Memory::default());
    let look = second.step(&test_policy(), Event::Begin, world.now, Draw(1));
    world
        .run(&mut first, |world, effect| {
            if name(effect) == "probe" {
                let read = world.perform(look.clone());
                assert_eq!(name(&second.step(&test_policy(), read, world.now, Draw(1))), "pause");
            }
            Fate::Done
        })
        .unwrap();
    let look = second.step(&test_policy(), Event::Resumed, world.now, Draw(1));
    let read = world.perform(look);
    let end = second.step(&test_policy(), read, world.now, Draw(1));
    assert!(matches!(end, Effect::Done(Ok(Done::Token(answer))) if answer.generation == Generation(7)));
    assert_eq!(world.count("probe"), 1);
}

#[test]
fn a_pair_is_withdrawn_before_its_tokens_are_revoked_and_forgotten_only_then() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.ask(Goal::Revoke), Memory::default());
    let mut withdrawn_when_sent = Vec::new();
    world
        .run(&mut flow, |world, effect| {
            if name(effect) == "revoke" {
                withdrawn_when_sent.push((world.account.pair.is_none(), world.account.pending.len()));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(withdrawn_when_sent, [(true, 2), (true, 2)]);
    assert_eq!(world.report, Some(Done::Report { renewed: false, pending: 0 }));
    assert_eq!(
        (&world.account.pair, &world.account.pending, world.account.lease),
        (&None, &Vec::new(), None)
    );
    world.token().unwrap();
    assert_eq!(world.count("login"), 1, "the next token is a new login");
}

#[test]
fn a_revocation_that_fails_stays_pending_and_the_schedule_goes_on_with_it() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.ask(Goal::Revoke), Memory::default());
    world.run(&mut flow, answering("revoke", Reply::Unclear)).unwrap();
    assert_eq!(world.report, Some(Done::Report { renewed: false, pending: 2 }));
    assert!(world.account.pair.is_none(), "withdrawn all the same");

    world.token().unwrap();
    assert_eq!(world.account.pending.len(), 2, "a new pair does not forget them");
    let mut schedule = Flow::new(world.ask(Goal::Maintain), Memory::default());
    world.run(&mut schedule, |_, _| Fate::Done).unwrap();
    assert_eq!(world.report, Some(Done::Report { renewed: false, pending: 0 }));
    assert!(world.account.pair.is_some() && world.account.pending.is_empty());
}

#[test]
fn a_crash_while_revoking_forgets_nothing() {
    let mut world = World::with_pair(WEEK);
    let mut dead = Flow::new(world.ask(Goal::Revoke), Memory::default());
    let mut event = Event::Begin;
    loop {
        let effect = dead.step(&test_policy(), event, world.now, Draw(1));
        if name(&effect) == "revoke" {
            break;
        }
        event = world.perform(effect);
    }
    world.pass(test_policy().lease);
    let mut again = Flow::new(world.ask(Goal::Revoke), Memory::default());
    world.run(&mut again, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("revoke"), world.account.pending.len()), (2, 0));
}

#[test]
fn a_pair_that_is_being_renewed_is_withdrawn_with_what_the_renewal_brings() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut renewing = Flow::new(world.ask(TOKEN), Memory::default());
    let mut withdrawn = false;
    let mut revoked = Vec::new();
    let answer = world
        .run(&mut renewing, |world, effect| {
            if name(effect) == "write account" && world.count("refresh") == 1 && !withdrawn {
                withdrawn = true;
                let mut operator = Flow::new(world.ask(Goal::Revoke), Memory::default());
                world.run(&mut operator, |_, _| Fate::Done).unwrap();
            }
            if let Effect::Send { call: Call::Revoke(revocation), .. } = effect {
                revoked.push(revocation.token.clone());
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(world.count("login"), 1);
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!(
        revoked,
        [Secret::from("refresh 1"), Secret::from("access 1")],
        "what the renewal had brought"
    );
}

#[test]
fn there_may_be_nothing_to_revoke_or_to_maintain() {
    for goal in [Goal::Revoke, Goal::Maintain] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(goal), Memory::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(world.report, Some(Done::Report { renewed: false, pending: 0 }));
        assert_eq!(world.asked, ["read account"]);
    }
}

#[test]
fn the_schedule_renews_what_is_due_and_nothing_else() {
    for (left, renewed) in [(2 * WEEK, false), (Duration::from_secs(3600), true), (Duration::ZERO, true)] {
        let mut world = World::with_pair(left);
        world.account.pair.as_mut().unwrap().issued_at = START.plus(left).minus(2 * WEEK);
        let mut flow = Flow::new(world.ask(Goal::Maintain), Memory::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(world.report, Some(Done::Report { renewed, pending: 0 }), "{left:?}");
        assert_eq!(world.count("refresh"), usize::from(renewed));
    }
}

#[test]
fn the_schedule_reports_a_failure_and_leaves_a_resting_account_alone() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let mut flow = Flow::new(world.ask(Goal::Maintain), Memory::default());
    let failure = world.run(&mut flow, answering("refresh", Reply::Unclear)).unwrap_err();
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    world.asked.clear();
    let mut again = Flow::new(world.ask(Goal::Maintain), Memory::default());
    world.run(&mut again, |_, _| Fate::Done).unwrap();
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn v2_documents_no_refresh_so_its_pairs_are_renewed_by_logging_in() {
    let mut world = World::with_pair(Duration::from_secs(30));
    world.account.pair.as_mut().unwrap().origin.dialect = Dialect::V2;
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (0, 1));
}
