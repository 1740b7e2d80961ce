//! Every reachable transition of the state machine, as a reviewed snapshot, and the diagram in `docs/protocol/state-machine.md`.
//!
//! The walk drives the production code through every kind of event at every state, at once and late. It visits each
//! combination of state, progress and time left once, so a transition is in the snapshot if and only if some run of
//! events of a Convirza account reaches it. Revocations at an OAuth 2.0 provider, and so `ReadingClient`, have tests of
//! their own.

use super::*;
use crate::{AccountWrite, OperatorTarget};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

/// The pauses before an event: none, until the lease is nearly over, until the caller is gone.
const LATE: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(9_500), Duration::from_secs(12), Duration::from_secs(40)];

/// One step of the machine.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Transition {
    state: &'static str,
    event: String,
    next: &'static str,
    effect: String,
}

fn state_name(state: &State) -> &'static str {
    match state {
        State::Start => "Start",
        State::ReadingRecord => "ReadingRecord",
        State::Waiting => "Waiting",
        State::CheckingSecret => "CheckingSecret",
        State::Writing(write) => match write {
            Attempt::Lease(_) => "WritingLease",
            Attempt::Save(_) => "WritingSave",
            Attempt::Mark(_) => "WritingMark",
            Attempt::Permit(_) => "WritingPermit",
            Attempt::Block(_) => "WritingBlock",
        },
        State::ReadingBack(write) => match write {
            Attempt::Lease(_) => "ReadingBackLease",
            Attempt::Save(_) => "ReadingBackSave",
            Attempt::Mark(_) => "ReadingBackMark",
            Attempt::Permit(_) => "ReadingLimiterForPermit",
            Attempt::Block(_) => "ReadingLimiterForBlock",
        },
        State::BackingOff(write) => match write {
            Attempt::Lease(_) => "BackingOffLease",
            Attempt::Save(_) => "BackingOffSave",
            Attempt::Mark(_) => "BackingOffMark",
            Attempt::Permit(_) => "BackingOffPermit",
            Attempt::Block(_) => "BackingOffBlock",
        },
        State::Refreshing(..) => "Refreshing",
        State::RenewingGrant(..) => "RenewingGrant",
        State::ReadingClient(_) => "ReadingClient",
        State::RereadingSecret(_) => "RereadingSecret",
        State::LoggingIn(..) => "LoggingIn",
        State::Probing(_) => "Probing",
        State::ReadingLimiter => "ReadingLimiter",
        State::Revoking { .. } => "Revoking",
        State::Done => "Done",
    }
}

fn step_name(step: &Step) -> String {
    match step {
        Step::Perform(effect) => effect.name().to_owned(),
        Step::Done(Ok(Outcome::Token(_))) => "answer".to_owned(),
        Step::Done(Ok(Outcome::Report { .. } | Outcome::Unblocked { .. })) => "report".to_owned(),
        Step::Done(Err(failure)) => format!("fail with {}", failure.code()),
    }
}

/// A flow in the middle of its work, and what it last wrote.
#[derive(Clone)]
struct Visit {
    flow: Flow,
    pending: Effect,
    now: Timestamp,
    written: Option<Account>,
    limiter: LoginLimiter,
}

impl Visit {
    /// Everything that the rest of the walk depends on. Two visits with the same key are not walked twice.
    fn key(&self) -> u64 {
        let flow = &self.flow;
        let cx = cx(self.now, Draw(1));
        let deadline = flow.request.ends(cx);
        let left = [1_300, 6_000, 12_000].map(|ms| self.now.plus(Duration::from_millis(ms)) > deadline);
        let account = flow.account(cx);
        let pair = account.pair.as_ref();
        let kind = pair.map(|pair| {
            let refresh = pair.refresh_token.as_ref().map(|refresh| refresh.consumed);
            let verdict = std::mem::discriminant(&pair.verdict);
            (refresh, verdict, POLICY.usable(pair, Duration::from_secs(60), self.now))
        });
        let (detail, lease) = match &flow.state {
            State::Writing(write) | State::ReadingBack(write) | State::BackingOff(write) => {
                let lease = match write {
                    Attempt::Permit(attempt) => Some(attempt.held.lease),
                    Attempt::Block(attempt) => Some(attempt.held.lease),
                    Attempt::Mark(attempt) => Some(attempt.held.lease),
                    Attempt::Lease(_) | Attempt::Save(_) => None,
                };
                let tries = write.tries();
                (format!("{} {}", tries.min(1) + tries / 7, write.detail()), lease)
            }
            State::Refreshing(held, _)
            | State::RenewingGrant(held, _)
            | State::ReadingClient(held)
            | State::RereadingSecret(held)
            | State::LoggingIn(held, _)
            | State::Probing(held)
            | State::Revoking { held, .. } => {
                let failed = matches!(&flow.state, State::Revoking { failed, .. } if !failed.is_empty());
                let pending = held.account.pending_revocations.is_empty();
                (format!("{failed} {pending}"), Some(held.lease))
            }
            _ => (String::new(), None),
        };
        let held = lease.map(|lease| self.now > POLICY.latest_send(&lease, deadline));
        let account = (
            account.active_cooldown(self.now).map(|cooldown| cooldown.reason),
            account.active_lease(self.now).is_some(),
            account.rejected_secret.is_some(),
            account.pending_revocations.is_empty(),
            account
                .grant
                .as_ref()
                .map(|grant| (std::mem::discriminant(&grant.health()), grant.trial.is_some())),
        );
        let flags = [
            flow.progress.target == OperatorTarget::NotSeen,
            flow.progress.tried_revocations,
            flow.jittered,
            flow.orphan.is_some(),
            flow.cache.pending_write.is_some(),
            flow.late_login,
            flow.rejected_version.is_some(),
            flow.lease_failed_since.is_some(),
            flow.cache.recent_secret_failure(cx).is_some(),
        ];
        let intent = flow.request.intent;
        let state = state_name(&flow.state);
        let mut hasher = DefaultHasher::new();
        (state, detail, held, left, kind, intent, account, flags).hash(&mut hasher);
        hasher.finish()
    }

    /// Every event that may answer the pending effect.
    fn events(&self) -> Vec<(String, Event)> {
        match &self.pending {
            Effect::ReadAccount => {
                let records =
                    self.records().into_iter().map(|(name, account)| (name, Event::Account(Ok(account))));
                let errors = [
                    ("unreachable", StoreError::Unreachable),
                    ("unreadable", StoreError::Unreadable("attribute".to_owned())),
                ];
                let errors = errors.map(|(name, error)| (name, Event::Account(Err(error))));
                records.chain(errors).map(|(name, event)| (name.to_owned(), event)).collect()
            }
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => vec![
                ("applied".to_owned(), Event::Written(WriteOutcome::Applied)),
                ("conflict".to_owned(), Event::Written(WriteOutcome::Conflict)),
                ("unknown".to_owned(), Event::Written(WriteOutcome::Unknown)),
            ],
            Effect::ReadLimiter(_) => {
                let mut full = LoginLimiter::default();
                for holder in 0..POLICY.login_budget as u64 {
                    full = full
                        .try_acquire(&POLICY, &other(holder), Holder(u64::MAX - holder), self.now)
                        .unwrap_or(full);
                }
                let blocked = LoginLimiter::default().block(self.now.plus(Duration::from_secs(60)), self.now);
                let limiters = [
                    ("login is free", LoginLimiter::default()),
                    ("budget exhausted", full),
                    ("blocked", blocked),
                    ("own permit", self.limiter.clone()),
                ];
                let known = usize::from(self.limiter.permits.is_empty());
                let limiters = limiters.into_iter().take(4 - known);
                limiters
                    .map(|(name, limiter)| (name.to_owned(), Event::Limiter(Ok(limiter))))
                    .chain([("unreachable".to_owned(), Event::Limiter(Err(StoreError::Unreachable)))])
                    .collect()
            }
            Effect::ReadSecret => {
                let version = |name: &str| Event::Secret(Ok(credentials(name)));
                vec![
                    ("secret v1".to_owned(), version("v1")),
                    ("secret v2".to_owned(), version("v2")),
                    ("a grant".to_owned(), Event::Secret(Ok(testing::grant("v1", "bootstrap")))),
                    ("no secret".to_owned(), Event::Secret(Err(SecretError::Missing))),
                    ("bad secret".to_owned(), Event::Secret(Err(SecretError::Bad("field".to_owned())))),
                    ("unreachable".to_owned(), Event::Secret(Err(SecretError::Unreachable))),
                ]
            }
            Effect::Send { call, .. } => {
                let replies: &[UpstreamReply] = match call {
                    Call::Login(_) | Call::Refresh(..) => &[
                        UpstreamReply::Granted(granted(1)),
                        UpstreamReply::Granted(TokenResponse {
                            access_expiry: Expiry::In(Duration::from_secs(2)),
                            ..granted(2)
                        }),
                        UpstreamReply::Unauthorized,
                        UpstreamReply::Refused,
                        UpstreamReply::ClientRefused,
                        UpstreamReply::RateLimited(None),
                        UpstreamReply::UNEXPECTED,
                        UpstreamReply::NeverLeft,
                        UpstreamReply::TooLate,
                    ],
                    Call::Revoke(..) => &[
                        UpstreamReply::Revoked,
                        UpstreamReply::Refused,
                        UpstreamReply::UNEXPECTED,
                        UpstreamReply::TooLate,
                    ],
                    Call::Probe(_) => &[
                        UpstreamReply::Alive,
                        UpstreamReply::Unauthorized,
                        UpstreamReply::Refused,
                        UpstreamReply::RateLimited(None),
                        UpstreamReply::UNEXPECTED,
                        UpstreamReply::NeverLeft,
                        UpstreamReply::TooLate,
                    ],
                };
                replies.iter().map(|reply| (reply.name().to_owned(), replied(reply))).collect()
            }
            Effect::Pause { .. } => vec![("resumed".to_owned(), Event::Resumed)],
        }
    }

    /// Records that may stand in the table: as last read, as last written by this flow, or by another attempt.
    fn records(&self) -> Vec<(&'static str, Account)> {
        let own = self.written.clone().map(|account| ("own write", account));
        let known = self.flow.cache.record.as_ref().map(|cached| ("unchanged", cached.account.clone()));
        // Another attempt's write has another version, also at the instant of the last one.
        let known_version = self.flow.cache.record.as_ref().map_or(0, |cached| cached.account.version.0);
        let version = Version(known_version.max(self.now.as_millis() + 1_000_000) + 1);
        let until = self.now.plus(Duration::from_secs(10));
        let usable = Pair { generation: Generation(version.0), ..testing::pair(self.now.plus(WEEK)) };
        let expiring = testing::pair(self.now.plus(Duration::from_secs(30)));
        let due = testing::pair(self.now.plus(Duration::from_secs(3600)));
        let base = Account { version, ..Account::default() };
        let with = |pair: &Pair| Account { pair: Some(pair.clone()), ..base.clone() };
        let consumed = |pair: &Pair| {
            let mut account = with(pair);
            account.mark_refresh_token(true);
            account
        };
        let lease = Some(Lease { holder: Holder(u64::MAX), until });
        let cooldown = Some(Cooldown {
            until,
            reason: CooldownReason::Unavailable(crate::UpstreamFault::Unexpected),
            failures: 1,
        });
        let rejected_secret = Some(testing::rejection("v1", START));
        let others = [
            base.clone(),
            Account { lease, ..base.clone() },
            Account { cooldown, ..base.clone() },
            Account { rejected_secret: rejected_secret.clone(), ..base.clone() },
            Account { pending_revocations: expiring.revocations().collect(), ..base.clone() },
            with(&usable),
            Account { lease, ..with(&usable) },
            with(&testing::pair(self.now.plus(WEEK))),
            with(&due),
            consumed(&due),
            with(&expiring),
            Account { rejected_secret, ..with(&expiring) },
            consumed(&expiring),
            Account { lease, ..with(&expiring) },
            Account { grant: Some(Box::default()), ..with(&expiring) },
        ];
        own.into_iter().chain(known).chain(others.map(|account| ("record", account))).collect()
    }

    fn after(&self, event: Event, late: Duration, draw: u64) -> (Step, Flow, Timestamp) {
        let mut flow = self.flow.clone();
        let now = match &self.pending {
            Effect::Pause { until } => self.now.max(*until),
            _ => self.now,
        };
        let now = now.plus(late);
        let step = flow.step(cx(now, Draw(draw)), event);
        (step, flow, now)
    }
}

impl Attempt {
    fn tries(&self) -> u32 {
        match self {
            Self::Lease(_) => 0,
            Self::Save(attempt) => attempt.tries,
            Self::Mark(attempt) => attempt.tries,
            Self::Permit(attempt) => attempt.tries,
            Self::Block(attempt) => attempt.tries,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Lease(attempt) => format!("{:?}", std::mem::discriminant(&attempt.purpose)),
            Self::Save(attempt) => match &attempt.ending {
                Ending::Failed(failure) => failure.code().as_str().to_owned(),
                ending => format!("{ending:?}"),
            },
            Self::Permit(_) | Self::Block(_) | Self::Mark(_) => String::new(),
        }
    }
}

/// The flows to start with: every intent, with an empty cache, with a pending write, and soon after the secret failed.
fn beginnings(transitions: &mut BTreeSet<Transition>) -> Vec<Visit> {
    let world = World::new();
    let reported = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(7)) };
    let pending = AccountWrite {
        expected: Version(7),
        next: Account { version: Version(8), pair: Some(pair(WEEK)), ..Account::default() },
    };
    let failed = |error| Some((error, Moment::of_agreeing_clocks(START)));
    let caches = [
        Cache::default(),
        Cache { pending_write: Some(pending), ..Cache::default() },
        Cache { secret_failure: failed(SecretError::Unreachable), ..Cache::default() },
        Cache { secret_failure: failed(SecretError::Missing), ..Cache::default() },
    ];
    let mut visits = Vec::new();
    for intent in [
        TOKEN,
        reported,
        Intent::Replace,
        Intent::Revoke,
        Intent::RevokeConfirmed,
        Intent::Unblock,
        Intent::Maintain(Task::Renew),
        Intent::Maintain(Task::Revoke),
    ] {
        for cache in &caches {
            let mut flow = Flow::new(world.request(intent), cache.clone());
            let step = flow.begin(cx(START, Draw(1)));
            transitions.insert(Transition {
                state: "Start",
                event: "begin".to_owned(),
                next: state_name(&flow.state),
                effect: step_name(&step),
            });
            let Step::Perform(pending) = step else {
                continue;
            };
            let written = cache.pending_write.as_ref().map(|write| write.next.clone());
            visits.push(Visit { flow, pending, now: START, written, limiter: LoginLimiter::default() });
        }
    }
    visits
}

static WALK: LazyLock<BTreeSet<Transition>> = LazyLock::new(walk);

/// Another account of the fleet.
fn other(number: u64) -> AccountName {
    AccountName::parse(&format!("other-{number}")).unwrap()
}

fn walk() -> BTreeSet<Transition> {
    let mut transitions = BTreeSet::new();
    let mut visits = beginnings(&mut transitions);
    let mut seen = HashSet::new();
    let mut draw = 1;
    while let Some(visit) = visits.pop() {
        assert!(seen.len() < 100_000, "the walk does not end");
        for (name, event) in visit.events() {
            for late in LATE {
                // Each draw differs, as holders have to. They are small: every due pair is selected for early refresh.
                draw += 1;
                let (step, flow, now) = visit.after(event.clone(), late, draw);
                transitions.insert(Transition {
                    state: state_name(&visit.flow.state),
                    event: name.clone(),
                    next: state_name(&flow.state),
                    effect: step_name(&step),
                });
                let Step::Perform(pending) = step else {
                    continue;
                };
                let (mut written, mut limiter) = (visit.written.clone(), visit.limiter.clone());
                match &pending {
                    Effect::WriteAccount { next, .. } => written = Some(next.clone()),
                    Effect::WriteLimiter { next, .. } => limiter.clone_from(next),
                    _ => {}
                }
                let next = Visit { flow, pending, now, written, limiter };
                if seen.insert(next.key()) {
                    visits.push(next);
                }
            }
        }
    }
    println!("{} situations", seen.len());
    transitions
}

fn table(transitions: &BTreeSet<Transition>) -> String {
    let mut table = format!("{:<25}{:<18}{:<25}{}\n", "state", "event", "next state", "effect or outcome");
    for Transition { state, event, next, effect } in transitions {
        writeln!(table, "{state:<25}{event:<18}{next:<25}{effect}").unwrap();
    }
    table
}

/// One edge for each pair of states, labelled with its events.
fn diagram(transitions: &BTreeSet<Transition>) -> String {
    let mut edges: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for Transition { state, event, next, .. } in transitions {
        edges.entry((state, next)).or_default().insert(event);
    }
    let mut lines = vec!["stateDiagram-v2".to_owned(), "    [*] --> Start".to_owned()];
    for ((state, next), events) in edges {
        let events: Vec<_> = events.into_iter().collect();
        let next = if next == "Done" { "[*]" } else { next };
        lines.push(format!("    {state} --> {next}: {}", events.join(", ")));
    }
    lines.join("\n")
}

#[test]
fn every_reachable_transition() {
    insta::assert_snapshot!(table(&WALK));
}

/// `UPDATE_DOCS=1 cargo test -p token-broker-protocol transitions` writes the diagram.
#[test]
fn the_documented_diagram_is_generated_from_the_code() {
    const BEGIN: &str = "<!-- generated from the code: begin -->\n```mermaid\n";
    const END: &str = "\n```\n<!-- generated from the code: end -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/state-machine.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the diagram's beginning");
    let (shown, after) = rest.split_once(END).expect("the diagram's end");
    let generated = diagram(&WALK);
    #[expect(clippy::disallowed_methods, reason = "the switch of this test")]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{generated}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, generated, "run this test with UPDATE_DOCS=1");
}
