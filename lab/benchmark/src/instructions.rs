//! The processor's instructions of a cold start and of warm invocations, counted by Callgrind. Unlike times, they
//! hardly depend on the machine, so CI compares them with the numbers in `instructions.txt`.

use crate::driver::{Function, Program};
use std::{fmt::Write as _, path::Path, sync::Arc};

const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
/// A change that adds or saves more than this must update the numbers too.
const TOLERANCE_PERCENT: u64 = 3;
const INVOCATIONS: u64 = 200;

/// Counts and compares. The result says whether all numbers are within the tolerance.
pub(crate) fn check(broker: &Program, nothing: &Program, events: &[(&str, Arc<[u8]>)]) -> bool {
    let (measured, floor) = (measure(broker, true, events), measure(nothing, false, events));
    let budget = std::fs::read_to_string(BUDGET).unwrap_or_default();
    let allowed = |name: &str| {
        let line = budget.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|number| number.parse::<u64>().ok())
    };
    let (mut all_within, mut now) = (true, String::new());
    for ((name, instructions), (_, floor)) in measured.into_iter().zip(floor) {
        let allowed = allowed(name).unwrap_or(0);
        let verdict = if 100 * instructions > (100 + TOLERANCE_PERCENT) * allowed {
            "  MORE THAN 3 % ABOVE"
        } else if 100 * instructions < (100 - TOLERANCE_PERCENT) * allowed {
            "  MORE THAN 3 % BELOW: the file is out of date"
        } else {
            ""
        };
        all_within &= verdict.is_empty();
        println!("{name:14}{instructions:>10}, in the file {allowed:>10}, do-nothing {floor:>10}{verdict}");
        let _ = writeln!(now, "{name}: {instructions}");
    }
    if !all_within {
        println!("\nIf this is intended, {} must say:\n{now}", Path::new(BUDGET).display());
    }
    all_within
}

/// `gives_tokens`: whether each answer has to contain a token.
fn measure<'a>(
    program: &Program,
    gives_tokens: bool,
    events: &[(&'a str, Arc<[u8]>)],
) -> Vec<(&'a str, u64)> {
    let count = |events: Option<(&Arc<[u8]>, u64)>| count(program, gives_tokens, events);
    let first = |(_, event): &(&str, Arc<[u8]>)| count(Some((event, 1)));
    let mut measured = vec![("start", count(None)), ("first answer", events.first().map_or(0, first))];
    for (name, event) in events {
        let [few, many] = [100, 100 + INVOCATIONS].map(|times| count(Some((event, times))));
        measured.push((*name, (many - few) / INVOCATIONS));
    }
    measured
}

/// The instructions until the program has requested its first event, or has answered it that many times.
fn count(program: &Program, gives_tokens: bool, events: Option<(&Arc<[u8]>, u64)>) -> u64 {
    let out = std::env::temp_dir().join(format!("callgrind-{}.out", std::process::id()));
    let valgrind = [
        "valgrind".to_owned(),
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let command = valgrind.into_iter().chain(program.command.iter().cloned()).collect();
    // An invocation that reads the table again would be counted as a warm one.
    let memory = ("BROKER_MEMORY_TTL_SECONDS".to_owned(), "3600".to_owned());
    let path = ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default());
    let environment = program.environment.iter().cloned().chain([memory, path]).collect();
    let mut function = Function::start(&Program { command, environment });
    match events {
        None => drop(function.until_first_request()),
        Some((event, times)) => (0..times).for_each(|_| {
            let answer = function.invoke(event);
            assert!(!gives_tokens || crate::token_of(&answer.body), "a token");
        }),
    }
    function.terminate();
    let profile = std::fs::read_to_string(&out).expect("Callgrind's profile");
    let _ = std::fs::remove_file(&out);
    let total =
        profile.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.and_then(|total| total.trim().parse().ok()).expect("a total")
}
