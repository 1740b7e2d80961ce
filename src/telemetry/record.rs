//! The record of an invocation, and the log that it is written to.

use super::{
    line::{self, Style},
    metrics::{Metric, Metrics},
};
use crate::work::Work;
use protocol::{Account, RefreshToken, Secret, ServedFrom, Timestamp, Verdict};
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
            refresh_token_seconds_left: pair.and_then(|pair| match pair.refresh_token {
                RefreshToken::Available { expires_at, .. } => expires_at.map(seconds_left),
                RefreshToken::Absent | RefreshToken::Consumed { .. } => None,
            }),
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
        let mut metrics = Metrics::default();
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
    metrics.add_some(Metric::WaitMilliseconds, protocol::millis(work.waited));
    if let Some(left) = work.login_permits_left {
        metrics.add(Metric::LoginPermitsLeft, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Generation, Grant, Origin, Pair};
    use serde_json::{Value, json};
    use std::sync::Arc;

    const START: Timestamp = Timestamp::from_millis(1_775_478_896_000);

    fn record(seconds: u64, served_from: ServedFrom) -> Record<'static> {
        Record {
            at: START.plus(Duration::from_secs(seconds)),
            severity: Severity::Info,
            message: "answered",
            request_id: "00000000-0000-4000-8000-000000000001",
            trace_id: None,
            entry: "direct",
            alias: None,
            caller: Some("direct"),
            action: Some("token"),
            account: Some("default"),
            generation: Some(7),
            served_from: Some(served_from),
            outcome: "ok",
            is_failure: false,
            duration_ms: 3,
            token: None,
            audit_rule: None,
            counts: &[],
            work: Work::default(),
        }
    }

    /// Records these answers, and returns the lines.
    fn lines(audit: Audit, style: Style, answers: &[(u64, ServedFrom)]) -> Vec<String> {
        let records: Vec<_> =
            answers.iter().map(|(seconds, served_from)| record(*seconds, *served_from)).collect();
        written(audit, style, &records)
    }

    fn written(audit: Audit, style: Style, records: &[Record<'_>]) -> Vec<String> {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let written = Arc::clone(&lines);
        let log = InvocationLog::new("f", audit, style, move |line| {
            written.lock().unwrap().push(line.to_owned());
        });
        for record in records {
            log.record(record);
        }
        lines.lock().unwrap().clone()
    }

    fn sums(line: &str) -> [Value; 2] {
        let line: Value = serde_json::from_str(line).unwrap();
        [line["Answers"].clone(), line["AnswersFromMemory"].clone()]
    }

    use ServedFrom::{Memory, Table};

    #[test]
    fn answers_from_memory_are_summed_for_a_minute() {
        let answers =
            [(0, Table), (10, Memory), (20, Memory), (69, Table), (70, Memory), (80, Memory), (130, Table)];
        let lines = lines(Audit::All, Style::Json, &answers);
        let sums: Vec<_> = lines.iter().map(|line| sums(line)).collect();
        let none = || [Value::Null, Value::Null];
        let expected = [
            [json!(1), Value::Null],
            none(),
            none(),
            [json!(1), Value::Null],
            [json!(3), json!(3)],
            none(),
            [json!(1), Value::Null],
        ];
        assert_eq!(sums, expected);
    }

    #[test]
    fn a_wait_for_an_answer_from_memory_is_summed_too() {
        let waiting = |seconds| {
            let waited = Duration::from_millis(300);
            Record { work: Work { waited, ..Work::default() }, ..record(seconds, ServedFrom::Memory) }
        };
        let lines = written(Audit::All, Style::Json, &[waiting(0), waiting(1), record(60, Memory)]);
        let last: Value = serde_json::from_str(&lines[2]).unwrap();
        assert_eq!(last["WaitMilliseconds"], 600);
    }

    #[test]
    fn sums_go_with_the_next_line_whatever_its_source() {
        let lines = lines(Audit::All, Style::Json, &[(0, Memory), (5, Memory), (60, Table)]);
        assert_eq!(sums(&lines[2]), [json!(3), json!(2)]);
    }

    #[test]
    fn with_changes_memory_has_a_line_only_for_its_sums() {
        let answers = [(0, Table), (1, Memory), (2, Memory), (61, Memory), (62, Memory)];
        let lines = lines(Audit::Changes, Style::Json, &answers);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(sums(&lines[1]), [json!(3), json!(3)]);
    }

    #[test]
    fn no_input_makes_a_line_longer_than_the_limit() {
        let bloated = "\n\"é".repeat(100_000);
        let every_metric = Work {
            logins: u64::MAX,
            refreshes: u64::MAX,
            probes: u64::MAX,
            write_conflicts: u64::MAX,
            waited: Duration::MAX,
            login_permits_left: Some(u64::MAX),
            is_account_known: true,
        };
        let account = "a".repeat(63);
        let (trace, token) = (format!("Root={bloated}"), Secret::from("token"));
        let longest = Record {
            message: &bloated,
            request_id: &bloated,
            trace_id: Some(&trace),
            alias: Some(&bloated),
            caller: Some(&bloated),
            account: Some(&account),
            generation: Some(u64::MAX),
            outcome: "credentials_rejected",
            is_failure: true,
            duration_ms: u64::MAX,
            token: Some(&token),
            audit_rule: Some(usize::MAX),
            work: every_metric,
            ..record(0, ServedFrom::Upstream)
        };
        for style in [Style::Json, Style::Readable] {
            let log = InvocationLog::new(&"f".repeat(99), Audit::All, style, |line| {
                assert!(line.len() <= line::LONGEST_LINE, "{}: {line}", line.len());
                assert_eq!(line.matches('\n').count(), 1);
            });
            log.record(&longest);
            log.record_account(&longest, &AccountRecord::default());
        }
    }

    #[test]
    fn a_line_has_every_field_and_metric() {
        let (token, work) =
            (Secret::from("abc"), Work { logins: 1, is_account_known: true, ..Work::default() });
        let work = Work { waited: Duration::from_millis(5), login_permits_left: Some(4), ..work };
        let record = Record {
            trace_id: Some("Root=1-2;Sampled=0"),
            alias: Some("live"),
            token: Some(&token),
            audit_rule: Some(2),
            counts: &[("renewed", 9)],
            outcome: "credentials_rejected",
            is_failure: true,
            work,
            ..record(0, ServedFrom::Upstream)
        };
        let expected = concat!(
            r#"{"timestamp":"2026-04-06T12:34:56.000Z","level":"INFO","message":"answered","#,
            r#""request_id":"00000000-0000-4000-8000-000000000001","trace_id":"1-2","entry":"direct","#,
            r#""alias":"live","caller":"direct","action":"token","account":"default","generation":7,"#,
            r#""served_from":"upstream","outcome":"credentials_rejected","duration_ms":3,"#,
            r#""token_sha256":"ba7816bf8f01cfea","audit_rule":2,"renewed":9,"#,
            r#""_aws":{"Timestamp":1775478896000,"CloudWatchMetrics":[{"Namespace":"TokenBroker","#,
            r#""Dimensions":[["Function"]],"Metrics":[{"Name":"ColdStarts"},{"Name":"Answers"},"#,
            r#"{"Name":"AnswersFromUpstream"},{"Name":"WaitMilliseconds","Unit":"Milliseconds"},"#,
            r#"{"Name":"LoginPermitsLeft"}]},{"Namespace":"TokenBroker","#,
            r#""Dimensions":[["Function"],["Function","Account"]],"Metrics":[{"Name":"Errors"},"#,
            r#"{"Name":"CredentialsRejected"},{"Name":"Logins"}]}]},"Function":"f","Account":"default","#,
            r#""ColdStarts":1,"Answers":1,"AnswersFromUpstream":1,"Errors":1,"CredentialsRejected":1,"#,
            r#""Logins":1,"WaitMilliseconds":5,"LoginPermitsLeft":4}"#,
            "\n"
        );
        assert_eq!(written(Audit::All, Style::Json, &[record]), [expected]);
        // Callers may request any name, so the metrics have no account without a record.
        let unknown = Record { work: Work { is_account_known: false, ..work }, ..record };
        let line = written(Audit::All, Style::Json, &[unknown]).remove(0);
        assert!(line.contains(r#""account":"default""#) && !line.contains(r#""Account""#), "{line}");
    }

    #[test]
    fn the_line_of_an_account_has_what_maintenance_found() {
        let pair = Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token: RefreshToken::Available { token: Secret::from("refresh"), expires_at: None },
            issued_at: START,
            expires_at: START.plus(Duration::from_secs(9)),
            obtained_by: Grant::Login,
            replaces: None,
            secret_version: None,
            verdict: Verdict::Unverified,
            origin: Origin::default(),
        };
        let account = Account { pair: Some(pair), ..Account::default() };
        let found = AccountRecord::of(&account, START);
        let expected = AccountRecord {
            token_seconds_left: Some(9),
            refresh_token_seconds_left: None,
            pending_revocations: Some(0),
            is_secret_rejected: Some(false),
        };
        assert_eq!(found, expected);
        let lines: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&lines);
        let log = InvocationLog::new("f", Audit::All, Style::Json, move |line| {
            written.lock().unwrap().push_str(line);
        });
        log.record_account(&record(0, Table), &found);
        let line = lines.lock().unwrap().clone();
        let expected = concat!(
            r#""Dimensions":[["Function"],["Function","Account"]],"Metrics":["#,
            r#"{"Name":"TokenSecondsLeft","Unit":"Seconds"},{"Name":"PendingRevocations"},"#,
            r#"{"Name":"CredentialsRejected"}]}]},"Function":"f","Account":"default","#,
            r#""TokenSecondsLeft":9,"PendingRevocations":0,"CredentialsRejected":0}"#,
        );
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn on_a_terminal_a_line_is_readable() {
        let lines = lines(Audit::All, Style::Readable, &[(0, Table)]);
        let expected = "12:34:56 INFO  token default ok from table generation 7 in 3 ms for direct\n";
        assert_eq!(lines, [expected]);
    }
}
