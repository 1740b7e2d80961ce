//! The table at the end of a run, and whether the run passes.

use super::{Options, World, load::Outcome};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use contract::ErrorCode;
use emulators::convirza::Observed;
use std::{fmt::Write, process::ExitCode, time::Duration};

/// The result of a run, except the answers.
pub(super) struct Run {
    pub(super) faults_chosen: u64,
    /// After the run, every broker answered with a token.
    pub(super) recovered: bool,
    /// When the faults and their cooldowns were over, since the start of the run. `None` without a fault.
    pub(super) failures_end: Option<Duration>,
    /// How long a token lives in this run.
    pub(super) access_lifetime: Duration,
    /// How many times the console's button revoked all sessions.
    pub(super) revocations: u64,
}

/// Prints the table, and the complaints about the run.
pub(super) fn print(world: &World, options: &Options, outcome: &Outcome, run: &Run) -> ExitCode {
    let upstream = world.convirza.observed();
    let store = world.dynamodb.counts();
    let failures: u64 = outcome.failures.values().sum();
    let faults = upstream.faults_injected + store.faults_injected;

    let mut sorted = outcome.latencies.clone();
    sorted.sort_unstable();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("brokers", options.instances.to_string());
    row("requests", options.requests.to_string());
    row("failures", failures.to_string());
    for (code, count) in &outcome.failures {
        row(&format!("  {code}"), count.to_string());
    }
    row("logins", upstream.logins_arrived.to_string());
    row("  most in any minute", upstream.most_logins_in_a_minute.to_string());
    row("  refused by the limit", upstream.logins_limited.to_string());
    row("refreshes", upstream.refreshes.to_string());
    row("  refresh tokens sent twice", upstream.refresh_tokens_sent_twice.to_string());
    row("store reads", store.reads.to_string());
    row("store writes", store.writes.to_string());
    row("  conditional conflicts", store.conditional_conflicts.to_string());
    row("faults injected", faults.to_string());
    row("latency p50", milliseconds(percentile(&sorted, 50)));
    row("latency p99", milliseconds(percentile(&sorted, 99)));
    row("latency max", milliseconds(sorted.last().copied().unwrap_or_default()));
    row("took", format!("{:.1} s", outcome.elapsed.as_secs_f64()));
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");

    let complaints = complaints(&upstream, store.faults_injected, options.requests, outcome, run);
    if complaints.is_empty() {
        println!(
            "PASSED: the login limit was not hit, no login without need, no refresh token sent twice; all brokers \
             answer at the end."
        );
        println!("{}", allowed_failures(failures, outcome, run));
        return ExitCode::SUCCESS;
    }
    for complaint in complaints {
        println!("FAILED: {complaint} (seed {})", options.seed);
    }
    ExitCode::FAILURE
}

/// Why requests may fail in a run that passes.
fn allowed_failures(failures: u64, outcome: &Outcome, run: &Run) -> String {
    let (Some(last), Some(end)) = (outcome.last_failure, run.failures_end) else {
        return "No request failed.".to_owned();
    };
    let (last, end, lifetime) = (last.as_secs(), end.as_secs(), run.access_lifetime.as_secs());
    let mut text = format!(
        "{failures} requests failed, the last one after {last} s. That is allowed until {end} s, when the last fault \
         and what follows from it are over: tokens live for {lifetime} s here, so they expire while renewals pause. In \
         production they live for days, and callers get the current one meanwhile."
    );
    for code in outcome.failures.keys() {
        let why = match ErrorCode::parse(code) {
            Some(ErrorCode::LoginBudgetExhausted) => {
                "a refresh that fails costs a login, and an account gets half of the permits of a minute"
            }
            Some(ErrorCode::UpstreamRateLimited) => "a 429 stops logins for a minute",
            Some(ErrorCode::UpstreamUnavailable) => "a failed call puts the account into a cooldown",
            Some(ErrorCode::RefreshInProgress) => {
                "another broker was renewing the pair for longer than the request could wait"
            }
            Some(ErrorCode::StoreUnavailable) => "the table met a fault, or took longer than an attempt may",
            _ => "not expected",
        };
        let _ = write!(text, "\n  {code}: {why}");
    }
    text
}

fn complaints(
    upstream: &Observed,
    store_faults: u64,
    requests: u64,
    outcome: &Outcome,
    run: &Run,
) -> Vec<&'static str> {
    let faults = upstream.faults_injected + store_faults;
    // The first pair takes a login. Each fault and each revocation of all sessions may take another.
    let needed = 1 + faults + run.revocations;
    // A fault that was switched on in the console may last, and its end is unknown.
    let by_hand = faults > run.faults_chosen;
    let all = [
        (upstream.logins_limited > 0, "the upstream's login limit was hit"),
        (upstream.logins_arrived > needed, "a login was sent needlessly"),
        (upstream.refresh_tokens_sent_twice > 0, "a refresh token was sent twice"),
        (outcome.latencies.len() as u64 != requests, "requests were not answered"),
        (faults < run.faults_chosen, "not all faults were injected"),
        (outcome.last_failure > run.failures_end && !by_hand, "requests failed without a fault"),
        (!run.recovered && faults == run.faults_chosen, "the brokers did not recover"),
    ];
    all.into_iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what).collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}

fn milliseconds(latency: Duration) -> String {
    format!("{:.3} ms", latency.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of one request, with the fault that was chosen.
    fn complaints_of(change: impl Fn(&mut Observed, &mut Outcome, &mut Run)) -> Vec<&'static str> {
        let mut upstream = Observed { logins_arrived: 2, faults_injected: 1, ..Observed::default() };
        let mut outcome = Outcome { latencies: vec![Duration::ZERO], ..Outcome::default() };
        let mut run = Run {
            faults_chosen: 1,
            recovered: true,
            failures_end: Some(Duration::from_secs(9)),
            access_lifetime: Duration::from_secs(8),
            revocations: 0,
        };
        change(&mut upstream, &mut outcome, &mut run);
        complaints(&upstream, 0, 1, &outcome, &run)
    }

    #[test]
    fn a_run_that_keeps_every_promise_passes() {
        assert_eq!(complaints_of(|_, _, _| {}), Vec::<&str>::new());
    }

    #[test]
    fn each_broken_promise_fails_the_run() {
        let limited = complaints_of(|upstream, _, _| upstream.logins_limited = 1);
        assert_eq!(limited, ["the upstream's login limit was hit"]);
        let needless = complaints_of(|upstream, _, _| upstream.logins_arrived = 3);
        assert_eq!(needless, ["a login was sent needlessly"]);
        let twice = complaints_of(|upstream, _, _| upstream.refresh_tokens_sent_twice = 1);
        assert_eq!(twice, ["a refresh token was sent twice"]);
        // A worker that panicked returns no answers.
        let unanswered = complaints_of(|_, outcome, _| outcome.latencies.clear());
        assert_eq!(unanswered, ["requests were not answered"]);
        let unmet = complaints_of(|_, _, run| run.faults_chosen = 2);
        assert_eq!(unmet, ["not all faults were injected"]);
        let late = complaints_of(|_, outcome, _| outcome.last_failure = Some(Duration::from_secs(10)));
        assert_eq!(late, ["requests failed without a fault"]);
        let broken = complaints_of(|_, _, run| run.recovered = false);
        assert_eq!(broken, ["the brokers did not recover"]);
    }

    #[test]
    fn a_fault_from_the_console_excuses_failures() {
        let by_hand = complaints_of(|upstream, outcome, run| {
            upstream.faults_injected = 2;
            (outcome.last_failure, run.recovered) = (Some(Duration::from_secs(10)), false);
        });
        assert_eq!(by_hand, Vec::<&str>::new());
    }
}
