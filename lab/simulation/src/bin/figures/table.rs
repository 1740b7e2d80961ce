//! The figures as a table for a terminal, and as comma-separated values.

use crate::outcome::{Outcome, Run};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

const COLUMNS: [&str; 13] = [
    "strategy",
    "requests",
    "without a token",
    "dead tokens",
    "logins",
    "most in 60 s",
    "needless",
    "429s",
    "refresh tokens sent twice",
    "wait p99",
    "longest",
    "reads",
    "writes (refused)",
];

/// The columns of the CSV file. Units are in the names.
const CSV_COLUMNS: [&str; 15] = [
    "plan",
    "strategy",
    "requests",
    "without_token",
    "dead_tokens",
    "logins",
    "most_logins_in_60_s",
    "needless_logins",
    "responses_429",
    "refresh_tokens_sent_twice",
    "wait_p99_ms",
    "longest_wait_ms",
    "reads",
    "writes",
    "refused_writes",
];

/// The name of a plan as text.
pub(crate) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// The plan, its size and its seed in one line.
pub(crate) fn title(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let counted = |number: u64, one: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} {one}{plural}", thousands(number))
    };
    format!(
        "{}: {}, {}, {}, seed {}",
        words(plan.name),
        counted(plan.instances as u64, "instance"),
        counted(plan.accounts as u64, "account"),
        counted(plan.days, "day"),
        outcome.seed
    )
}

/// One plan, for a terminal.
pub(crate) fn terminal(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(COLUMNS);
    outcome.runs.iter().for_each(|run| {
        table.add_row(row(run));
    });
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table.to_string()
}

/// All plans as comma-separated values: one line for each plan and strategy.
pub(crate) fn csv(outcomes: &[Outcome]) -> String {
    let mut text = format!("{}\n", CSV_COLUMNS.join(","));
    for outcome in outcomes {
        for run in &outcome.runs {
            let numbers = numbers(run).map(|number| number.to_string());
            for part in [outcome.plan.name, ",", run.strategy.name(), ",", &numbers.join(","), "\n"] {
                text.push_str(part);
            }
        }
    }
    text
}

fn row(run: &Run) -> [String; 13] {
    let tally = &run.tally;
    [
        run.strategy.name().to_owned(),
        thousands(tally.requests),
        with_percentage(tally.failed(), tally.requests),
        thousands(tally.dead_tokens),
        thousands(tally.logins()),
        thousands(tally.most_logins_in_a_minute as u64),
        thousands(tally.needless_logins),
        thousands(tally.limited),
        thousands(run.sent_twice()),
        seconds(run.wait_ms(99)),
        seconds(run.waits_ms.last().copied().unwrap_or(0)),
        thousands(run.figures.reads),
        format!("{} ({})", thousands(run.figures.writes), thousands(run.figures.conflicts)),
    ]
}

fn numbers(run: &Run) -> [u64; 13] {
    let tally = &run.tally;
    [
        tally.requests,
        tally.failed(),
        tally.dead_tokens,
        tally.logins(),
        tally.most_logins_in_a_minute as u64,
        tally.needless_logins,
        tally.limited,
        run.sent_twice(),
        run.wait_ms(99),
        run.waits_ms.last().copied().unwrap_or(0),
        run.figures.reads,
        run.figures.writes,
        run.figures.conflicts,
    ]
}

/// A number and its percentage of the whole.
#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 requests")]
fn with_percentage(number: u64, whole: u64) -> String {
    if number == 0 {
        return "0".to_owned();
    }
    let percent = 100.0 * number as f64 / whole.max(1) as f64;
    let digits = if percent < 0.1 { 4 } else { 1 };
    format!("{} ({percent:.digits$} %)", thousands(number))
}

#[expect(clippy::cast_precision_loss, reason = "waits are far below 2^53 ms")]
fn seconds(wait_ms: u64) -> String {
    if wait_ms == 0 { "0".to_owned() } else { format!("{:.2} s", wait_ms as f64 / 1000.0) }
}

/// 1234567 as 1,234,567.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
