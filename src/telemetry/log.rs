//! Decides when a line is written, and with which metrics.

use super::{
    line::{self, Style},
    metrics::{Metric, Metrics},
    record::{AccountRecord, Record},
};
use crate::work::Work;
use contract::ErrorCode;
use protocol::{GrantHealth, ServedFrom, Timestamp};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The metrics of answers from memory are written at most once per interval.
const SUMMED_FOR: Duration = Duration::from_secs(60);

/// Which answers get a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// All of them.
    #[default]
    All,
    /// All except those from memory.
    Changes,
}

/// Writes the lines of one instance.
pub struct InvocationLog {
    function: String,
    audit: Audit,
    style: Style,
    write: Box<dyn Fn(&str) + Send + Sync>,
    sums: Mutex<Sums>,
}

/// Metrics that are not written yet.
#[derive(Default)]
struct Sums {
    answers_from_memory: u64,
    /// How long answers from memory waited for another request of this instance.
    wait_ms: u64,
    /// When this sum began.
    since: Option<Timestamp>,
    /// Whether an invocation was recorded.
    is_warm: bool,
}

impl InvocationLog {
    /// The log of one instance. `write` receives each line, with its line feed.
    pub fn new(
        function: &str,
        audit: Audit,
        style: Style,
        write: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        // The function's name is written unescaped, so it must not need escapes.
        let is_plain = |character: &char| character.is_ascii_alphanumeric() || "-_.".contains(*character);
        let mut function: String = function.chars().filter(is_plain).take(64).collect();
        if function.is_empty() {
            // A dimension must have a value.
            function.push_str("token-broker");
        }
        Self { function, audit, style, write: Box::new(write), sums: Mutex::default() }
    }

    /// Records an invocation: writes its line, and the sums of the last minute.
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
            (Metric::GrantsInDoubt, found.grant.map(|grant| u64::from(grant == GrantHealth::InDoubt))),
            (Metric::GrantsLost, found.needs_a_person.map(u64::from)),
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
    if record.outcome == ErrorCode::CredentialsRejected.as_str() {
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
