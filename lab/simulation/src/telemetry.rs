//! The log lines of a run, for the picture of the dashboard. The production code writes them.

use crate::{process::Served, world::World};
use protocol::{Failure, Outcome, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use token_broker::{
    broker::{Maintenance, MaintenanceOutcome},
    inbound::RequestError,
    telemetry::{AccountRecord, Audit, InvocationLog, Record, Severity, Style},
    work::Work,
};

/// The log of each instance, by its life. All write to one place.
#[derive(Default)]
pub(crate) struct Telemetry {
    logs: HashMap<u64, InvocationLog>,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
}

impl Telemetry {
    fn log(&mut self, life: u64) -> &InvocationLog {
        let lines = &self.lines;
        self.logs.entry(life).or_insert_with(|| {
            let lines = Arc::clone(lines);
            let write = move |line: &str| lines.lock().unwrap().push(line.to_owned());
            InvocationLog::new("token-broker", Audit::All, Style::Json, write)
        })
    }
}

impl World {
    /// Writes the line of a request, if this run has a log.
    pub(crate) fn log_request(
        &mut self,
        life: u64,
        served: &Served,
        result: &Result<Outcome, Failure>,
        work: Work,
    ) {
        let at_ms = self.now_ms;
        let Some(telemetry) = &mut self.telemetry else { return };
        let answer = match result {
            Ok(Outcome::Token(answer)) => Some(answer),
            _ => None,
        };
        let error = result.as_ref().err().map(|failure| RequestError::Failed(failure.clone()));
        telemetry.log(life).record(&Record {
            account: Some(served.request.account.as_str()),
            generation: answer.map(|answer| answer.generation.0),
            served_from: answer.map(|answer| answer.served_from),
            outcome: error.as_ref().map_or("ok", |error| error.code().as_str()),
            is_failure: error.as_ref().is_some_and(|error| error.status() >= 500),
            duration_ms: at_ms - served.arrived_ms,
            work,
            ..record(at_ms, "http", "token")
        });
    }

    /// Writes the lines of a run of the schedule, if this run has a log.
    pub(crate) fn log_maintenance(&mut self, life: u64, began_ms: u64, maintenance: &Maintenance) {
        let at_ms = self.now_ms;
        let Some(telemetry) = &mut self.telemetry else { return };
        let log = telemetry.log(life);
        let invocation = Record {
            duration_ms: at_ms - began_ms,
            work: Work { login_permits_left: maintenance.login_permits_left, ..Work::default() },
            ..record(at_ms, "schedule", "maintain")
        };
        log.record(&invocation);
        for maintained in &maintenance.accounts {
            let Some(found) = &maintained.record else { continue };
            let is_failure = match &maintained.outcome {
                MaintenanceOutcome::Failed(failure) => RequestError::from(failure.clone()).status() >= 500,
                MaintenanceOutcome::Idle(_)
                | MaintenanceOutcome::Postponed
                | MaintenanceOutcome::Done { .. } => false,
            };
            log.record_account(
                &Record {
                    account: Some(maintained.account.as_str()),
                    is_failure,
                    work: maintained.work,
                    ..invocation
                },
                &AccountRecord::of(found, invocation.at),
            );
        }
    }
}

fn record(at_ms: u64, entry: &'static str, action: &'static str) -> Record<'static> {
    Record {
        at: Timestamp::from_millis(at_ms),
        severity: Severity::Info,
        message: "",
        request_id: "",
        trace_id: None,
        entry,
        alias: None,
        caller: None,
        action: Some(action),
        account: None,
        generation: None,
        served_from: None,
        outcome: "ok",
        is_failure: false,
        duration_ms: 0,
        token: None,
        audit_rule: None,
        counts: &[],
        work: Work::default(),
    }
}
