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
