//! Every reachable transition of the state machine, as a reviewed snapshot, and the diagram in `docs/protocol/state-machine.md`.
//!
//! The walk drives the production code through every kind of event at every state, at once and late. It visits each
//! combination of state, progress and time left once, so a transition is in the snapshot if and only if some run of
//! events reaches it.

mod visit;

use super::*;
use crate::AccountWrite;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write,
    sync::LazyLock,
};
use visit::Visit;

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
