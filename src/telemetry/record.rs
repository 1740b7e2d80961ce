//! The record of an invocation, and the log that it is written to.

use super::{
    line::{self, Style},
    metrics::{Metric, Metrics},
};
use crate::work::Work;
use protocol::{Account, Secret, ServedFrom, Timestamp, Verdict};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The metrics of answers from memory are written at most once in this time.
const SUMMED_FOR: Duration = Duration::from_secs(60);

/// Which answers have a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// All of them.
    #[default]
    All,
    /// All but those from memory.
    Changes,
}

/// How much attention a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Severity {
    Info,
    Warn,
    Error,
}

impl Severity {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// One invocation: who requested what, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it was answered.
    pub at: Timestamp,
    /// How much attention the line asks for.
    pub severity: Severity,
    /// What happened.
    pub message: &'a str,
    /// Lambda's id of the invocation.
    pub request_id: &'a str,
    /// The header of X-Ray.
    pub trace_id: Option<&'a str>,
    /// The way in.
    pub entry: &'static str,
    /// The alias that was invoked.
    pub alias: Option<&'a str>,
    /// Who requested it, where that is known.
    pub caller: Option<&'a str>,
    /// The caller's name for itself, which proves nothing.
    pub client: Option<&'a str>,
    /// What was requested, where that is known.
    pub action: Option<&'static str>,
    /// The account, if the request is about one.
    pub account: Option<&'a str>,
    /// The generation of the pair that answered.
    pub generation: Option<u64>,
    /// Where a token came from.
    pub served_from: Option<ServedFrom>,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
    /// Whether the error is the broker's, or that of something behind it.
    pub is_failure: bool,
    /// From arrival to answer.
    pub duration_ms: u64,
    /// The token, if it was handed out. Only its fingerprint is logged.
    pub token: Option<&'a Secret>,
    /// The number of the rule with `audit` without which the request would have been denied.
    pub audit_rule: Option<usize>,
    /// Further numbers.
    pub counts: &'a [(&'static str, u64)],
    /// What the request made the instance do.
    pub work: Work,
}

/// What maintenance found in one account. Each account has a line, because a line can state metrics by account for one
/// account only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AccountRecord {
    pub token_seconds_left: Option<u64>,
    pub refresh_token_seconds_left: Option<u64>,
    pub pending_revocations: Option<u64>,
    pub is_secret_rejected: Option<bool>,
}

impl AccountRecord {
    /// What a record says at this time.
    pub fn of(account: &Account, at: Timestamp) -> Self {
        let seconds_left = |until: Timestamp| until.since(at).as_secs();
        let pair = account.pair.as_ref();
        Self {
            token_seconds_left: pair.map(|pair| match pair.verdict {
                Verdict::Dead => 0,
                Verdict::Unverified | Verdict::Alive { .. } | Verdict::Inconclusive { .. } => {
                    seconds_left(pair.expires_at)
                }
            }),
            refresh_token_seconds_left: pair
                .and_then(|pair| pair.refresh_token.as_ref())
                .filter(|refresh_token| !refresh_token.consumed)
                .and_then(|refresh_token| refresh_token.expires_at.map(seconds_left)),
            pending_revocations: Some(account.pending_revocations.len() as u64),
            is_secret_rejected: Some(account.rejected_secret.is_some()),
        }
    }
}

/// Writes the lines of one instance.
pub struct InvocationLog {
    function: String,
    audit: Audit,
    style: Style,
    write: Box<dyn Fn(&str) + Send + Sync>,
    sums: Mutex<Sums>,
}

/// What is not written yet.
#[derive(Default)]
struct Sums {
    answers_from_memory: u64,
    /// How long these waited for a request of the same instance.
    wait_ms: u64,
    /// Since when these are summed.
    since: Option<Timestamp>,
    /// Whether an invocation was recorded.
    is_warm: bool,
}

impl InvocationLog {
    /// The log of an instance of this function. `write` gets each line, with its line feed.
    pub fn new(
        function: &str,
        audit: Audit,
        style: Style,
        write: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        // The function's name is written as it is, so it must not need escapes.
        let is_plain = |character: &char| character.is_ascii_alphanumeric() || "-_.".contains(*character);
        let mut function: String = function.chars().filter(is_plain).take(64).collect();
        if function.is_empty() {
            // A dimension must have a value.
            function.push_str("token-broker");
        }
        Self { function, audit, style, write: Box::new(write), sums: Mutex::default() }
    }

    /// Records an invocation: writes its line, and what was summed for a minute.
    pub fn record(&self, record: &Record<'_>) {
        let is_from_memory = record.served_from == Some(ServedFrom::Memory);
        let mut metrics = Metrics::default();
        {
            let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
            if is_from_memory {
                sums.answers_from_memory += 1;
                sums.wait_ms += protocol::millis(record.work.waited);
                sums.since.get_or_insert(record.at);
            }
            if !sums.is_warm {
                sums.is_warm = true;
                metrics.add(Metric::ColdStarts, 1);
            }
            if sums.since.is_some_and(|since| record.at.since(since) >= SUMMED_FOR) {
                metrics.add(Metric::Answers, sums.answers_from_memory);
                metrics.add(Metric::AnswersFromMemory, sums.answers_from_memory);
                metrics.add_some(Metric::WaitMilliseconds, sums.wait_ms);
                (sums.answers_from_memory, sums.wait_ms, sums.since) = (0, 0, None);
            }
        }
        if is_from_memory {
            let is_audited = self.audit == Audit::All || record.audit_rule.is_some();
            if !is_audited && metrics.is_empty() {
                return;
            }
        } else {
            add_metrics(&mut metrics, record);
        }
        self.write(record, &metrics, record.account.filter(|_| record.work.is_account_known));
    }

    /// Records what maintenance found and did in one account.
    pub fn record_account(&self, record: &Record<'_>, found: &AccountRecord) {
        let mut metrics = Metrics::of_maintenance();
        add_work(&mut metrics, &record.work);
        if record.is_failure {
            metrics.add(Metric::Errors, 1);
        }
        let levels = [
            (Metric::TokenSecondsLeft, found.token_seconds_left),
            (Metric::RefreshTokenSecondsLeft, found.refresh_token_seconds_left),
            (Metric::PendingRevocations, found.pending_revocations),
            (Metric::CredentialsRejected, found.is_secret_rejected.map(u64::from)),
        ];
        for (metric, level) in levels {
            if let Some(level) = level {
                metrics.add(metric, level);
            }
        }
        self.write(record, &metrics, record.account);
    }

    fn write(&self, record: &Record<'_>, metrics: &Metrics, account: Option<&str>) {
        (self.write)(&line::of_invocation(record, self.style, &self.function, metrics, account));
    }
}

fn add_metrics(metrics: &mut Metrics, record: &Record<'_>) {
    metrics.add(Metric::Answers, 1);
    match record.served_from {
        Some(ServedFrom::Table) => metrics.add(Metric::AnswersFromTable, 1),
        Some(ServedFrom::Upstream) => metrics.add(Metric::AnswersFromUpstream, 1),
        Some(ServedFrom::Memory) | None => {}
    }
    if record.is_failure {
        metrics.add(Metric::Errors, 1);
    }
    if record.outcome == "credentials_rejected" {
        metrics.add(Metric::CredentialsRejected, 1);
    }
    add_work(metrics, &record.work);
}

fn add_work(metrics: &mut Metrics, work: &Work) {
    metrics.add_some(Metric::Logins, work.logins);
    metrics.add_some(Metric::Refreshes, work.refreshes);
    metrics.add_some(Metric::Probes, work.probes);
    metrics.add_some(Metric::WriteConflicts, work.write_conflicts);
    metrics.add_some(Metric::ClockOff, u64::from(work.clock_off));
    metrics.add_some(Metric::WaitMilliseconds, protocol::millis(work.waited));
    if let Some(left) = work.login_permits_left {
        metrics.add(Metric::LoginPermitsLeft, left);
    }
}

#[cfg(test)]
mod tests;
