//! Records what an invocation requested and how it ended.

use super::{
    authorization::Caller,
    invocation::Invocation,
    response::{Reply, RequestError},
};
use crate::{
    broker::{Maintained, Maintenance, MaintenanceOutcome},
    telemetry::{AccountRecord, InvocationLog, Record, Severity},
    work::Work,
};
use contract::{AccountName, Call, ClientName, millis};
use lambda_runtime::Context;
use protocol::{Failure, IdleReason, Moment};

/// How an invocation ended.
pub(super) struct Answered {
    pub(super) result: Result<Reply, RequestError>,
    /// The `audit` rule that alone allowed it.
    pub(super) audit_rule: Option<usize>,
    pub(super) maintenance: Option<Maintenance>,
    pub(super) work: Work,
}

impl Answered {
    /// It failed before it did anything.
    pub(super) fn failed(error: RequestError) -> Self {
        Self { result: Err(error), audit_rule: None, maintenance: None, work: Work::default() }
    }
}

/// Writes the line of an invocation, and one for each account that the schedule maintained.
pub(super) fn record(
    log: &InvocationLog,
    ended: Moment,
    context: &Context,
    invocation: &Invocation,
    answered: &Answered,
) {
    let call = invocation.call.as_ref().ok();
    let (caller, account) = (invocation.caller.as_ref().map(Caller::to_string), call.and_then(Call::subject));
    let error = answered.result.as_ref().err();
    let text = error.map(RequestError::log_text);
    let token = match &answered.result {
        Ok(Reply::Token(token)) => Some(token),
        Ok(Reply::Other(_)) | Err(_) => None,
    };
    let maintenance = answered.maintenance.as_ref();
    let counts = maintenance.map(counts).unwrap_or_default();
    let record = Record {
        at: ended.wall,
        severity: error.map_or(Severity::Info, severity),
        message: text.as_deref().unwrap_or("answered"),
        request_id: &context.request_id,
        trace_id: context.xray_trace_id.as_deref(),
        entry: invocation.way_in.name(),
        alias: invocation.alias.as_deref(),
        caller: caller.as_deref(),
        client: call.and_then(|call| call.client.as_ref()).map(ClientName::as_str),
        action: call.map(|call| call.action.name()),
        account: account.as_ref().map(AccountName::as_str),
        generation: token.map(|token| token.generation.0),
        served_from: token.map(|token| token.served_from),
        outcome: error.map_or("ok", |error| error.code().as_str()),
        is_failure: error.is_some_and(|error| error.status() >= 500),
        duration_ms: millis(ended.uptime.since(invocation.arrived.uptime)),
        token: token.and_then(|token| token.access_token.as_ref()),
        audit_rule: answered.audit_rule,
        counts: &counts,
        work: Work {
            login_permits_left: maintenance
                .map_or(answered.work.login_permits_left, |maintenance| maintenance.login_permits_left),
            ..answered.work
        },
    };
    log.record(&record);
    let Some(maintenance) = maintenance else { return };
    for maintained in &maintenance.accounts {
        record_account(log, &record, maintained);
    }
}

/// Writes the line of an account that the schedule maintained.
fn record_account(log: &InvocationLog, invocation: &Record<'_>, maintained: &Maintained) {
    let error = match &maintained.outcome {
        MaintenanceOutcome::Failed(failure) => Some(RequestError::from(failure.clone())),
        MaintenanceOutcome::Postponed => Some(RequestError::from(Failure::TooLittleTime)),
        MaintenanceOutcome::Idle(_) | MaintenanceOutcome::Done { .. } => None,
    };
    let description = error.as_ref().map(RequestError::description);
    let message = match &maintained.outcome {
        MaintenanceOutcome::Idle(IdleReason::NotDue) => Some("nothing is due"),
        MaintenanceOutcome::Idle(IdleReason::Leased) => Some("skipped: another attempt holds the lease"),
        MaintenanceOutcome::Idle(IdleReason::InCooldown) => Some("skipped: in cooldown"),
        MaintenanceOutcome::Idle(IdleReason::TriedLately) => Some("skipped: a renewal failed recently"),
        MaintenanceOutcome::Done { renewed: true } => Some("renewed"),
        MaintenanceOutcome::Done { renewed: false } => Some("maintained"),
        MaintenanceOutcome::Postponed => Some("postponed"),
        MaintenanceOutcome::Failed(_) => description.as_deref(),
    };
    let has_failed = matches!(maintained.outcome, MaintenanceOutcome::Failed(_));
    let record = maintained.record.as_ref();
    let pair = record.and_then(|record| record.pair.as_ref());
    log.record_account(
        &Record {
            severity: if error.is_some() { Severity::Warn } else { Severity::Info },
            message: message.unwrap_or_default(),
            account: Some(maintained.account.as_str()),
            generation: pair.map(|pair| pair.generation.0),
            outcome: error.as_ref().map_or("ok", |error| error.code().as_str()),
            is_failure: has_failed && error.as_ref().is_some_and(|error| error.status() >= 500),
            counts: &[],
            work: maintained.work,
            ..*invocation
        },
        &record.map(|record| AccountRecord::of(record, invocation.at)).unwrap_or_default(),
    );
}

fn counts(maintenance: &Maintenance) -> Vec<(&'static str, u64)> {
    vec![
        ("renewed", maintenance.renewed() as u64),
        ("failed", maintenance.failed() as u64),
        ("postponed", maintenance.postponed() as u64),
    ]
}

fn severity(error: &RequestError) -> Severity {
    match error {
        RequestError::Failed(
            Failure::Defect(_) | Failure::UnreadableItem(_) | Failure::Misconfigured(_),
            _,
        ) => Severity::Error,
        _ => Severity::Warn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inbound::aliases::{Aliases, Denial},
        telemetry::{Audit, Style},
    };
    use protocol::{Account, Pair, Timestamp, Version, testing};
    use serde_json::{Value, json};
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_775_478_896_000);

    fn lines(payload: &str, answered: &Answered) -> Vec<Value> {
        let written: Arc<Mutex<String>> = Arc::default();
        let sink = Arc::clone(&written);
        let log = InvocationLog::new("f", Audit::All, Style::Json, move |line| {
            sink.lock().unwrap().push_str(line);
        });
        let mut context = Context::default();
        context.request_id = "id".to_owned();
        context.invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:f:live".to_owned();
        // The wall clock steps while the invocation is under way.
        let arrived = Moment::of_agreeing_clocks(NOW.minus(Duration::from_hours(1)));
        let ended = Moment { wall: NOW, uptime: arrived.uptime.plus(Duration::from_millis(7)) };
        let invocation =
            Invocation::classify(payload, &context, &Aliases::default(), arrived, Timestamp::default());
        record(&log, ended, &context, &invocation, answered);
        let written = written.lock().unwrap().clone();
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// These fields of a line. A missing field is null.
    fn fields<const N: usize>(line: &Value, names: [&str; N]) -> [Value; N] {
        names.map(|name| line[name].clone())
    }

    /// The record of an account with a pair of generation 7.
    fn a_record() -> Account {
        let pair = Pair { refresh_token: None, ..testing::pair(NOW.plus(Duration::from_secs(9))) };
        Account { version: Version(7), pair: Some(pair), ..Account::default() }
    }

    fn answered(result: Result<Reply, RequestError>) -> Answered {
        Answered { result, ..Answered::failed(Denial::NoRule.into()) }
    }

    fn maintenance_lines(accounts: Vec<(Option<Account>, MaintenanceOutcome)>) -> Vec<Value> {
        let accounts = accounts.into_iter().zip(0..).map(|((record, outcome), logins)| Maintained {
            account: AccountName::default(),
            record,
            outcome,
            work: Work { logins, ..Work::default() },
        });
        let maintenance = Maintenance { accounts: accounts.collect(), login_permits_left: Some(3) };
        let result = Ok(Reply::Other(Value::Null));
        let answered = Answered { maintenance: Some(maintenance), ..answered(result) };
        lines(r#"{"action":"maintain"}"#, &answered)
    }

    #[test]
    fn each_account_that_maintenance_saw_has_a_line() {
        let unreadable = Failure::UnreadableItem("it is broken".to_owned());
        let lines = maintenance_lines(vec![
            (None, MaintenanceOutcome::Failed(unreadable)),
            (Some(a_record()), MaintenanceOutcome::Done { renewed: true }),
            (Some(a_record()), MaintenanceOutcome::Postponed),
        ]);
        let summary = ["level", "message", "account", "outcome", "renewed", "failed", "postponed"];
        let expected =
            [json!("INFO"), json!("answered"), Value::Null, json!("ok"), json!(1), json!(1), json!(1)];
        assert_eq!(fields(&lines[0], summary), expected);
        assert_eq!(fields(&lines[0], ["LoginPermitsLeft", "duration_ms"]), [json!(3), json!(7)]);
        let names = ["account", "generation", "PendingRevocations", "Logins", "renewed"];
        let unknown = [json!("default"), Value::Null, Value::Null, Value::Null, Value::Null];
        assert_eq!(fields(&lines[1], names), unknown, "nothing is known of it");
        let known = |logins| [json!("default"), json!(7), json!(0), json!(logins), Value::Null];
        assert_eq!([fields(&lines[2], names), fields(&lines[3], names)], [known(1), known(2)]);
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn the_line_of_an_account_says_how_its_maintenance_ended() {
        let unreadable = Failure::UnreadableItem("it is broken".to_owned());
        let texts = [
            Failure::StoreUnavailable { retry_after: Duration::from_secs(1) },
            Failure::UnknownAccount,
            unreadable.clone(),
        ];
        let [down, gone, broken] = &texts.map(|failure| failure.to_string());
        let (idle, failed) = (MaintenanceOutcome::Idle, MaintenanceOutcome::Failed);
        let done = |renewed| MaintenanceOutcome::Done { renewed };
        for (record, outcome, level, message, code, errors) in [
            (Some(a_record()), idle(IdleReason::NotDue), "INFO", "nothing is due", "ok", None),
            (Some(a_record()), idle(IdleReason::InCooldown), "INFO", "skipped: in cooldown", "ok", None),
            (
                Some(a_record()),
                idle(IdleReason::TriedLately),
                "INFO",
                "skipped: a renewal failed recently",
                "ok",
                None,
            ),
            (
                Some(a_record()),
                idle(IdleReason::Leased),
                "INFO",
                "skipped: another attempt holds the lease",
                "ok",
                None,
            ),
            (
                Some(a_record()),
                MaintenanceOutcome::Postponed,
                "WARN",
                "postponed",
                "refresh_in_progress",
                None,
            ),
            (Some(a_record()), done(true), "INFO", "renewed", "ok", None),
            (Some(a_record()), done(false), "INFO", "maintained", "ok", None),
            (
                Some(a_record()),
                failed(Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }),
                "WARN",
                down,
                "store_unavailable",
                Some(1),
            ),
            (Some(a_record()), failed(Failure::UnknownAccount), "WARN", gone, "unknown_account", None),
            (None, failed(unreadable), "WARN", broken, "internal", Some(1)),
        ] {
            let lines = maintenance_lines(vec![(record, outcome)]);
            let expected = [json!(level), json!(message), json!(code), json!(errors)];
            assert_eq!(fields(&lines[1], ["level", "message", "outcome", "Errors"]), expected);
        }
    }

    #[test]
    fn an_error_says_whether_the_broker_is_to_blame() {
        for (error, level, errors) in [
            (RequestError::from(Denial::NoRule), "WARN", Value::Null),
            (Failure::UnknownAccount.into(), "WARN", Value::Null),
            (Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }.into(), "WARN", json!(1)),
            (Failure::UnreadableItem("it is broken".to_owned()).into(), "ERROR", json!(1)),
            (Failure::Defect("a defect").into(), "ERROR", json!(1)),
        ] {
            let [line] = &lines("{}", &Answered::failed(error.clone()))[..] else { panic!("one line") };
            let expected = [json!(error.code().as_str()), json!(level), json!(error.log_text()), errors];
            assert_eq!(fields(line, ["outcome", "level", "message", "Errors"]), expected);
        }
        let work = Work { login_permits_left: Some(4), ..Work::default() };
        let denied = Answered { work, ..Answered::failed(Denial::DirectAtHttp.into()) };
        let lines = lines("{}", &denied);
        assert_eq!(lines[0]["message"], Denial::DirectAtHttp.message(), "which the caller does not learn");
        assert_eq!(lines[0]["LoginPermitsLeft"], 4);
    }

    #[test]
    fn a_caller_is_logged_as_it_names_itself() {
        let failed = Answered::failed(Failure::UnknownAccount.into());
        let lines = lines(r#"{"client":"team/billing:3","account":"emea"}"#, &failed);
        let expected = [json!("team/billing:3"), json!("direct:live"), json!("emea"), json!("token")];
        assert_eq!(fields(&lines[0], ["client", "caller", "account", "action"]), expected);
    }
}
