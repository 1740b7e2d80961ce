//! The table at the end of a run, and whether the run passes.

use super::{Options, World, load::Outcome};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use std::{process::ExitCode, time::Duration};

/// Prints the table. Fails if the upstream's limit was hit, a login was sent without need, a refresh token was sent
/// twice, or a request failed without a fault. `revocations` counts how often all sessions were revoked.
pub(super) fn print(world: &World, options: &Options, outcome: &Outcome, revocations: u64) -> ExitCode {
    let upstream = world.convirza.observed();
    let store = world.dynamodb.counts();
    let failures: u64 = outcome.failures.values().sum();
    // The first pair takes a login. Each fault and each revocation of all sessions may cost one more.
    let faults = upstream.faults_injected + store.faults_injected;
    let needed = 1 + faults + revocations;

    let mut sorted = outcome.latencies.clone();
    sorted.sort_unstable();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("brokers", options.instances.to_string());
    row("requests", outcome.latencies.len().to_string());
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

    let complaints = [
        (upstream.logins_limited > 0, "the upstream's login limit was hit"),
        (upstream.logins_arrived > needed, "a login was sent without need"),
        (upstream.refresh_tokens_sent_twice > 0, "a refresh token was sent twice"),
        (faults == 0 && failures > 0, "requests failed without a fault"),
    ];
    let complaints: Vec<&str> =
        complaints.iter().filter(|(wrong, _)| *wrong).map(|(_, what)| *what).collect();
    if complaints.is_empty() {
        println!("PASSED: the login limit was not hit, no login without need, no refresh token sent twice.");
        return ExitCode::SUCCESS;
    }
    for complaint in complaints {
        println!("FAILED: {complaint} (seed {})", options.seed);
    }
    ExitCode::FAILURE
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}

fn milliseconds(latency: Duration) -> String {
    format!("{:.3} ms", latency.as_secs_f64() * 1000.0)
}
