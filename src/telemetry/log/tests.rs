//! When a line is written, and what it says.

use super::*;
use crate::telemetry::Severity;
use protocol::testing;
use protocol::{Account, GrantState, Holder, Mark, Secret};
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
        client: None,
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
        clock_off: true,
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
        client: Some(&bloated),
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
fn the_longest_names_fit_into_512_bytes_from_memory() {
    let (account, token) = ("a".repeat(63), Secret::from("token"));
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0";
    let role = |name_length| format!("arn:aws-us-gov:iam::123456789012:role/{}", "r".repeat(name_length));
    let (client, short_role, long_role, path) = ("c".repeat(64), role(40), role(64), role(512));
    let line = |served_from, caller, client| {
        let longest = Record {
            trace_id: Some(trace),
            entry: "schedule",
            alias: Some("operator"),
            caller: Some(caller),
            client: Some(client),
            account: Some(&account),
            generation: Some(1_000_000),
            duration_ms: 30_000,
            token: Some(&token),
            audit_rule: Some(100),
            ..record(0, served_from)
        };
        // The first line of an instance has metrics.
        let line = written(Audit::All, Style::Json, &[longest, longest]).remove(1);
        serde_json::from_str::<Value>(&line).unwrap();
        line
    };
    let has = |line: &str, fields: [bool; 2]| {
        assert_eq!([line.contains("trace_id"), line.contains("\"client\"")], fields, "{line}");
    };
    let (all, no_trace, no_client) = ([true, true], [false, true], [false, false]);
    for (caller, client, fields) in [
        ("direct", "c", all),
        (&short_role, "c", no_trace),
        (&long_role, &client, no_client),
        (&path, &client, no_client),
    ] {
        let line = line(Memory, caller, client);
        assert!(line.len() <= 512, "{}: {line}", line.len());
        assert!(line.contains(&format!(r#""account":"{account}""#)), "{line}");
        has(&line, fields);
    }
    let line = line(Table, &path, &client);
    assert!(line.len() <= 1024, "{}: {line}", line.len());
    has(&line, all);
}

#[test]
fn a_long_message_fills_its_line_up_to_700_bytes() {
    let message = "m".repeat(1_000);
    let caller = "c".repeat(256);
    for length in [0, 1, 100, 256] {
        let record = Record { message: &message, caller: Some(&caller[..length]), ..record(0, Table) };
        // The first line of an instance has one more metric.
        let lines =
            written(Audit::All, Style::Json, &[record, Record { served_from: Some(Memory), ..record }]);
        assert_eq!(lines[1].len(), 700, "{}", lines[1]);
    }
    // If the other fields take that much, the start of the message is still shown.
    let record = Record { message: &message, caller: Some(&caller), ..record(0, Table) };
    let line = written(Audit::All, Style::Json, &[record]).remove(0);
    assert!(line.contains(&format!(r#""message":"{}…""#, "m".repeat(120))), "{line}");
}

#[test]
fn a_line_has_every_field_and_metric() {
    let (token, work) = (Secret::from("abc"), Work { logins: 1, is_account_known: true, ..Work::default() });
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
    // Callers may request any name, so accounts without a record get no metrics.
    let unknown = Record { work: Work { is_account_known: false, ..work }, ..record };
    let line = written(Audit::All, Style::Json, &[unknown]).remove(0);
    assert!(line.contains(r#""account":"default""#) && !line.contains(r#""Account""#), "{line}");
}

#[test]
fn the_line_of_an_account_has_what_maintenance_found() {
    let pair = testing::pair(START.plus(Duration::from_secs(9)));
    let account = Account { pair: Some(pair), ..Account::default() };
    let found = AccountRecord::of(&account, START);
    let expected = AccountRecord {
        token_seconds_left: Some(9),
        refresh_token_seconds_left: None,
        pending_revocations: Some(0),
        is_secret_rejected: Some(false),
        grant: None,
        needs_a_person: None,
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
fn maintenance_counts_a_grant_that_stays_in_doubt_as_lost() {
    let at = START.minus(Duration::from_secs(3_600));
    let mut grant = GrantState::default();
    grant.held.mark = Some(Mark { at, settled_at: at, by: Holder(1) });
    let levels = |expires_at| {
        let (pair, grant) = (Some(testing::pair(expires_at)), Some(Box::new(grant.clone())));
        let lines: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&lines);
        let log = InvocationLog::new("f", Audit::All, Style::Json, move |line| {
            written.lock().unwrap().push_str(line);
        });
        let found = AccountRecord::of(&Account { pair, grant, ..Account::default() }, START);
        log.record_account(&record(0, Table), &found);
        let line: Value = serde_json::from_str(&lines.lock().unwrap()).unwrap();
        [line["GrantsInDoubt"].clone(), line["GrantsLost"].clone()]
    };
    assert_eq!(levels(START), [json!(1), json!(0)], "the broker may still heal it");
    assert_eq!(levels(at), [json!(1), json!(1)], "callers have had no token for an hour");
}

#[test]
fn failed_maintenance_is_not_a_refused_answer() {
    let lines: Arc<Mutex<String>> = Arc::default();
    let written = Arc::clone(&lines);
    let log = InvocationLog::new("f", Audit::All, Style::Json, move |line| {
        written.lock().unwrap().push_str(line);
    });
    log.record_account(&Record { is_failure: true, ..record(0, Table) }, &AccountRecord::default());
    let line = lines.lock().unwrap().clone();
    let expected = concat!(
        r#""CloudWatchMetrics":[{"Namespace":"TokenBroker","Dimensions":[["Function","Account"]],"#,
        r#""Metrics":[{"Name":"Errors"}]}]},"Function":"f","Account":"default","Errors":1}"#,
    );
    assert!(line.contains(expected), "{line}");
}

#[test]
fn on_a_terminal_a_line_is_readable() {
    let lines = lines(Audit::All, Style::Readable, &[(0, Table)]);
    let expected = "12:34:56 INFO  token default ok from table generation 7 in 3 ms for direct\n";
    assert_eq!(lines, [expected]);
}
