//! Records what an invocation requested and what became of it.

use super::{
    authorization::{Action, Caller},
    deadline::Entry,
    response::RequestError,
};
use crate::{
    broker::Maintenance,
    telemetry::{AccountRecord, InvocationLog, Record, Severity},
    work::Work,
};
use lambda_runtime::Context;
use protocol::{Account, AccountName, Answer, Failure, Outcome, Timestamp, millis};

/// What came in, as far as it was understood.
pub(super) struct Received {
    pub(super) arrived_at: Timestamp,
    pub(super) entry: Entry,
    pub(super) alias: Option<String>,
    pub(super) caller: Option<Caller>,
    pub(super) action: Option<Action>,
    pub(super) account: Option<AccountName>,
}

/// What came of a request, besides its answer.
#[derive(Default)]
pub(super) struct Details {
    /// What the log says instead of the error's text.
    pub(super) message: Option<&'static str>,
    /// The answer of a pair, and whether the caller gets the token.
    pub(super) answer: Option<(Answer, bool)>,
    pub(super) maintenance: Option<Maintenance>,
    pub(super) audit_rule: Option<usize>,
    pub(super) work: Work,
}

/// Writes the line of an invocation, and one for each account that the schedule looked after.
pub(super) fn record(
    log: &InvocationLog,
    at: Timestamp,
    context: &Context,
    received: &Received,
    error: Option<&RequestError>,
    details: &Details,
) {
    let caller = received.caller.as_ref().map(Caller::to_string);
    let description = error.filter(|_| details.message.is_none()).map(RequestError::description);
    let answer = details.answer.as_ref();
    let maintenance = details.maintenance.as_ref();
    let counts = maintenance.map(counts).unwrap_or_default();
    let record = Record {
        at,
        severity: error.map_or(Severity::Info, severity),
        message: details.message.or(description.as_deref()).unwrap_or("answered"),
        request_id: &context.request_id,
        trace_id: context.xray_trace_id.as_deref(),
        entry: received.entry.name(),
        alias: received.alias.as_deref(),
        caller: caller.as_deref(),
        action: received.action.map(Action::name),
        account: received.account.as_ref().map(AccountName::as_str),
        generation: answer.map(|(answer, _)| answer.generation.0),
        served_from: answer.map(|(answer, _)| answer.served_from),
        outcome: error.map_or("ok", RequestError::code),
        is_failure: error.is_some_and(|error| error.status() >= 500),
        duration_ms: millis(at.since(received.arrived_at)),
        token: answer.filter(|(_, is_handed_out)| *is_handed_out).map(|(answer, _)| &answer.access_token),
        audit_rule: details.audit_rule,
        counts: &counts,
        work: Work {
            login_permits_left: maintenance
                .map_or(details.work.login_permits_left, |maintenance| maintenance.login_permits_left),
            ..details.work
        },
    };
    log.record(&record);
    let Some(maintenance) = maintenance else { return };
    for (account, found) in &maintenance.records {
        record_account(log, &record, maintenance, account, Some(found));
    }
    for (account, _) in &maintenance.outcomes {
        if !maintenance.records.iter().any(|(readable, _)| readable == account) {
            record_account(log, &record, maintenance, account, None);
        }
    }
}

/// Writes the line of an account that the schedule looked after. `found` is its record, if it is readable.
fn record_account(
    log: &InvocationLog,
    invocation: &Record<'_>,
    maintenance: &Maintenance,
    account: &AccountName,
    found: Option<&Account>,
) {
    let outcome = maintenance.outcomes.iter().find(|(name, _)| name == account).map(|(_, outcome)| outcome);
    let failure = outcome.and_then(|outcome| outcome.as_ref().err());
    let description = failure.map(Failure::to_string);
    let renewed = matches!(outcome, Some(Ok(Outcome::Report { renewed: true, .. })));
    let levels = found.map(|account| AccountRecord::of(account, invocation.at)).unwrap_or_default();
    let pair = found.and_then(|account| account.pair.as_ref());
    log.record_account(
        &Record {
            severity: if failure.is_some() { Severity::Warn } else { Severity::Info },
            message: description.as_deref().unwrap_or(if renewed { "renewed" } else { "maintained" }),
            account: Some(account.as_str()),
            generation: pair.map(|pair| pair.generation.0),
            outcome: failure.map_or("ok", Failure::code),
            is_failure: failure.is_some(),
            counts: &[],
            work: maintenance.work.get(account).copied().unwrap_or_default(),
            ..*invocation
        },
        &levels,
    );
}

fn counts(maintenance: &Maintenance) -> Vec<(&'static str, u64)> {
    vec![
        ("renewed", maintenance.renewed() as u64),
        ("failed", maintenance.failed() as u64),
        ("postponed", maintenance.postponed as u64),
    ]
}

fn severity(error: &RequestError) -> Severity {
    match error {
        RequestError::Failed(Failure::Defect(_) | Failure::UnreadableItem(_)) => Severity::Error,
        _ => Severity::Warn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Audit, Style};
    use protocol::{Generation, Grant, Origin, Pair, Secret, Verdict, Version};
    use serde_json::{Value, json};
    use std::{
        collections::HashMap,
        sync::{Arc, Mutex},
        time::Duration,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_775_478_896_000);

    fn lines(action: Action, error: Option<&RequestError>, details: &Details) -> Vec<Value> {
        let written: Arc<Mutex<String>> = Arc::default();
        let sink = Arc::clone(&written);
        let log = InvocationLog::new("f", Audit::All, Style::Json, move |line| {
            sink.lock().unwrap().push_str(line);
        });
        let mut context = Context::default();
        context.request_id = "id".to_owned();
        let received = Received {
            arrived_at: NOW.minus(Duration::from_millis(7)),
            entry: Entry::Direct,
            alias: Some("live".to_owned()),
            caller: Some(Caller::Direct { alias: Some("live".to_owned()) }),
            action: Some(action),
            account: None,
        };
        record(&log, NOW, &context, &received, error, details);
        let written = written.lock().unwrap().clone();
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// These fields of a line. One that is missing is null.
    fn fields<const N: usize>(line: &Value, names: [&str; N]) -> [Value; N] {
        names.map(|name| line[name].clone())
    }

    #[test]
    fn each_account_that_maintenance_saw_has_a_line() {
        let name = |text| AccountName::parse(text).unwrap();
        let pair = Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token: None,
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_secs(9)),
            obtained_by: Grant::Login,
            replaces: None,
            secret_version: None,
            verdict: Verdict::Unverified,
            origin: Origin::default(),
        };
        let record = Account { version: Version(7), pair: Some(pair), ..Account::default() };
        let report = |renewed| Ok(Outcome::Report { renewed, pending_revocations: 0 });
        let maintenance = Maintenance {
            outcomes: vec![
                (name("broken"), Err(Failure::UnreadableItem("it is broken".to_owned()))),
                (name("down"), Err(Failure::StoreUnavailable)),
                (name("due"), report(true)),
                (name("idle"), report(false)),
            ],
            work: HashMap::from([(name("due"), Work { logins: 1, ..Work::default() })]),
            records: ["down", "due", "idle"].map(|account| (name(account), record.clone())).into(),
            login_permits_left: Some(3),
            postponed: 2,
        };
        let details = Details { maintenance: Some(maintenance), ..Details::default() };
        let lines = lines(Action::Maintain, None, &details);
        let summary = ["level", "message", "account", "outcome", "renewed", "failed", "postponed"];
        let expected =
            [json!("INFO"), json!("answered"), Value::Null, json!("ok"), json!(1), json!(2), json!(2)];
        assert_eq!(fields(&lines[0], summary), expected);
        assert_eq!(fields(&lines[0], ["LoginPermitsLeft", "duration_ms"]), [json!(3), json!(7)]);
        let names = ["account", "level", "message", "outcome", "Errors", "Logins", "renewed"];
        let [down, due, idle, broken] = [1, 2, 3, 4].map(|index| fields(&lines[index], names));
        let store = Failure::StoreUnavailable.to_string();
        let none = Value::Null;
        assert_eq!(
            down,
            [
                json!("down"),
                json!("WARN"),
                json!(store),
                json!("store_unavailable"),
                json!(1),
                none.clone(),
                none.clone()
            ]
        );
        assert_eq!(
            due,
            [
                json!("due"),
                json!("INFO"),
                json!("renewed"),
                json!("ok"),
                none.clone(),
                json!(1),
                none.clone()
            ]
        );
        assert_eq!(
            idle,
            [
                json!("idle"),
                json!("INFO"),
                json!("maintained"),
                json!("ok"),
                none.clone(),
                none.clone(),
                none.clone()
            ]
        );
        assert_eq!(
            fields(&lines[4], ["account", "level", "outcome"]),
            [json!("broken"), json!("WARN"), json!("internal")]
        );
        assert_eq!(broken[4], 1, "an item that cannot be read is an error");
        assert_eq!(fields(&lines[1], ["generation", "PendingRevocations"]), [json!(7), json!(0)]);
        assert_eq!(lines[4]["PendingRevocations"], none, "nothing is known of it");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn an_error_says_whether_the_broker_is_to_blame() {
        for (error, level, errors) in [
            (RequestError::AccessDenied, "WARN", Value::Null),
            (Failure::UnknownAccount.into(), "WARN", Value::Null),
            (Failure::StoreUnavailable.into(), "WARN", json!(1)),
            (Failure::UnreadableItem("it is broken".to_owned()).into(), "ERROR", json!(1)),
            (Failure::Defect("a defect").into(), "ERROR", json!(1)),
        ] {
            let [line] = &lines(Action::Token, Some(&error), &Details::default())[..] else {
                panic!("one line")
            };
            let expected = [json!(error.code()), json!(level), json!(error.description()), errors];
            assert_eq!(fields(line, ["outcome", "level", "message", "Errors"]), expected);
        }
        let details = Details {
            message: Some("a message for the log only"),
            work: Work { login_permits_left: Some(4), ..Work::default() },
            ..Details::default()
        };
        let lines = lines(Action::Token, Some(&RequestError::AccessDenied), &details);
        assert_eq!(lines[0]["message"], "a message for the log only");
        assert_eq!(lines[0]["LoginPermitsLeft"], 4);
    }
}
