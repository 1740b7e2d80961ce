//! Metrics in CloudWatch's embedded metric format.
//!
//! AWS Labs' `metrique-writer-format-emf` is not used: it does not limit the length of a line, cannot omit the account
//! dimension per line, and adds some twenty crates to the function.

use contract::named;
use std::fmt::Write;

/// The namespace of all metrics.
const NAMESPACE: &str = "TokenBroker";

named! {
    /// A metric of the broker.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(missing_docs, reason = "docs/OPERATIONS.md describes them")]
    pub enum Metric, name {
        /// All answers, errors included.
        Answers = "Answers",
        /// Faults of the broker or a dependency: answers with status 500 or above.
        ///
        /// In maintenance, accounts that fail like this count by account only, because no caller was refused.
        Errors = "Errors",
        AnswersFromMemory = "AnswersFromMemory",
        AnswersFromTable = "AnswersFromTable",
        AnswersFromUpstream = "AnswersFromUpstream",
        /// Login calls that were sent.
        Logins = "Logins",
        /// Refresh calls that were sent.
        Refreshes = "Refreshes",
        /// Probe calls that were sent.
        Probes = "Probes",
        /// Answers with this error; in maintenance, accounts with a rejected secret version.
        CredentialsRejected = "CredentialsRejected",
        /// Logins to the configured upstream that the budget still allows.
        LoginPermitsLeft = "LoginPermitsLeft",
        WriteConflicts = "WriteConflicts",
        /// How long a request waited for other requests or instances.
        WaitMilliseconds = "WaitMilliseconds",
        /// Zero once a probe has found the token dead.
        TokenSecondsLeft = "TokenSecondsLeft",
        RefreshTokenSecondsLeft = "RefreshTokenSecondsLeft",
        PendingRevocations = "PendingRevocations",
        /// Grants whose refresh token may have been used.
        GrantsInDoubt = "GrantsInDoubt",
        /// Grants that a person has to renew: lost ones, and those that stay in doubt.
        GrantsLost = "GrantsLost",
        ColdStarts = "ColdStarts",
        /// Requests for which an instance took no lease, because its clocks disagreed.
        ClockOff = "ClockOff",
    }
}

impl Metric {
    /// The metric's unit in CloudWatch. Counts have none, which keeps the lines short.
    pub const fn unit(self) -> Option<&'static str> {
        match self {
            Self::WaitMilliseconds => Some("Milliseconds"),
            Self::TokenSecondsLeft | Self::RefreshTokenSecondsLeft => Some("Seconds"),
            _ => None,
        }
    }

    /// Whether the metric is also published by account.
    pub const fn is_by_account(self) -> bool {
        matches!(
            self,
            Self::Errors
                | Self::Logins
                | Self::Refreshes
                | Self::CredentialsRejected
                | Self::TokenSecondsLeft
                | Self::RefreshTokenSecondsLeft
                | Self::PendingRevocations
                | Self::GrantsInDoubt
                | Self::GrantsLost
        )
    }
}

/// The sets of dimensions that a metric is published with.
const BY_FUNCTION: &str = r#"[["Function"]]"#;
const BY_ACCOUNT: &str = r#"[["Function","Account"]]"#;
const BY_BOTH: &str = r#"[["Function"],["Function","Account"]]"#;

#[derive(Debug, Default)]
pub(super) struct Metrics {
    values: Vec<(Metric, u64)>,
    is_maintenance: bool,
}

impl Metrics {
    /// The metrics of an account's line in maintenance.
    pub(super) fn of_maintenance() -> Self {
        Self { values: Vec::new(), is_maintenance: true }
    }

    /// Adds to a metric. A line states each metric once.
    pub(super) fn add(&mut self, metric: Metric, value: u64) {
        match self.values.iter_mut().find(|(present, _)| *present == metric) {
            Some((_, sum)) => *sum += value,
            None => self.values.push((metric, value)),
        }
    }

    /// Adds to a metric, unless the value is zero.
    pub(super) fn add_some(&mut self, metric: Metric, value: u64) {
        if value > 0 {
            self.add(metric, value);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Appends the metrics to a JSON object that is not closed yet.
    pub(super) fn push(&self, out: &mut String, at_ms: u64, function: &str, account: Option<&str>) {
        if self.values.is_empty() {
            return;
        }
        let dimensions_of = |metric: Metric| match account {
            Some(_) if self.is_maintenance && metric == Metric::Errors => BY_ACCOUNT,
            Some(_) if metric.is_by_account() => BY_BOTH,
            _ => BY_FUNCTION,
        };
        let _ = write!(out, r#","_aws":{{"Timestamp":{at_ms},"CloudWatchMetrics":["#);
        let mut first = true;
        for dimensions in [BY_FUNCTION, BY_BOTH, BY_ACCOUNT] {
            let mut members =
                self.values.iter().filter(|(metric, _)| dimensions_of(*metric) == dimensions).peekable();
            if members.peek().is_none() {
                continue;
            }
            let comma = if first { "" } else { "," };
            first = false;
            let _ =
                write!(out, r#"{comma}{{"Namespace":"{NAMESPACE}","Dimensions":{dimensions},"Metrics":["#);
            while let Some((metric, _)) = members.next() {
                let _ = write!(out, r#"{{"Name":"{}""#, metric.name());
                if let Some(unit) = metric.unit() {
                    let _ = write!(out, r#","Unit":"{unit}""#);
                }
                out.push_str(if members.peek().is_some() { "}," } else { "}" });
            }
            out.push_str("]}");
        }
        let _ = write!(out, r#"]}},"Function":"{function}""#);
        if let Some(account) =
            account.filter(|_| self.values.iter().any(|(metric, _)| metric.is_by_account()))
        {
            let _ = write!(out, r#","Account":"{account}""#);
        }
        for (metric, value) in &self.values {
            let _ = write!(out, r#","{}":{value}"#, metric.name());
        }
    }
}
