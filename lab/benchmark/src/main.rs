//! What the broker adds to the cost of the runtime: start, latency, throughput, memory, size.
//!
//! Every figure is compared with that of a do-nothing function on the same runtime, alternately in the same run. If
//! Python with boto3 and Node with the AWS SDK are installed, the usual functions that cache the token are started as
//! well. `cargo benchmark` prints the table of docs/PERFORMANCE.md; it has to be alone on the machine.
//! `cargo benchmark instructions` counts instructions instead, and compares them with `instructions.txt`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures and prints, and fails by panicking"
)]

mod driver;
mod instructions;
mod report;
mod table;

use driver::{Function, Program};
use report::{Ratio, Report};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

const STARTS: usize = 100;
const STARTS_OF_OTHERS: usize = 10;
const WARM_UP: usize = 1_000;
const REQUESTS: usize = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let which = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "times",
        ["instructions"] => "instructions",
        _ => {
            println!("usage: cargo benchmark [instructions]");
            return ExitCode::FAILURE;
        }
    };
    let broker = build();
    let table = table::Table::start(&broker);
    let program = |path: PathBuf| Program {
        command: vec![path.display().to_string()],
        environment: table.environment().to_vec(),
    };
    let nothing = program(broker.with_file_name("do-nothing"));
    let broker = program(broker);
    if which == "instructions" {
        let events =
            [("direct", direct()), ("HTTP API", event("http-token")), ("REST API", event("rest-token"))];
        return ExitCode::from(u8::from(!instructions::check(&broker, &nothing, &events)));
    }
    let mut report = Report::default();
    starts(&mut report, &broker, &nothing);
    others(&mut report, &broker, &table);
    warm(&mut report, &broker, &nothing);
    throughput(&mut report, &broker, &nothing);
    report.print(&broker.command[0]);
    ExitCode::SUCCESS
}

/// Builds the function as shipped, and alone, because other packages would add features to its dependencies. The
/// do-nothing function is built the same way, because its linked libraries count.
fn build() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    for (package, program) in [("token-broker-benchmark", "do-nothing"), ("token-broker", "token-broker")] {
        let built = Command::new(env!("CARGO"))
            .current_dir(folder)
            .args(["build", "--release", "--locked", "--package", package, "--bin", program])
            .status();
        assert!(built.expect("cargo").success(), "it does not build");
    }
    std::env::current_exe().expect("this program").with_file_name("token-broker")
}

fn direct() -> Arc<[u8]> {
    Arc::from(*b"{}")
}

fn event(name: &str) -> Arc<[u8]> {
    let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let event: Value = serde_json::from_slice(&std::fs::read(path).expect("an event")).expect("JSON");
    Arc::from(event.to_string().into_bytes())
}

fn token_of(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("access_token")
}

/// From exec to the first request for an event, and to the first answer, whose event is already waiting.
fn starts(report: &mut Report, broker: &Program, nothing: &Program) {
    let (mut requests, mut answers) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..STARTS {
        for (which, program) in [broker, nothing].into_iter().enumerate() {
            let function = Function::start(program);
            requests[which].push(function.until_first_request());
            let function = Function::start(program);
            let answer = function.begin(&direct()).recv().expect("an answer");
            assert!(which == 1 || token_of(&answer.body), "a token");
            answers[which].push(answer.at - function.started_at);
        }
    }
    report.compare("start to the first request for an event", requests, "2.00");
    report.compare("start to the first answer, pair in the table", answers, "4.00");
}

/// The usual functions in other languages that cache the token.
fn others(report: &mut Report, broker: &Program, table: &table::Table) {
    for (name, program) in table::others(table) {
        let Some(program) = program else {
            report.note(format!("{name}: not installed, not measured"));
            continue;
        };
        let (mut own, mut other) = (vec![], vec![]);
        for _ in 0..STARTS_OF_OTHERS {
            for (program, latencies) in [(broker, &mut own), (&program, &mut other)] {
                let function = Function::start(program);
                let answer = function.begin(&direct()).recv().expect("an answer");
                assert!(token_of(&answer.body), "a token");
                latencies.push(answer.at - function.started_at);
            }
        }
        report.row(
            Ratio::of(&format!("{name}: start to the first token, compared with the broker's"), other, own),
            "",
        );
    }
}

fn warm(report: &mut Report, broker: &Program, nothing: &Program) {
    let uncached = Program {
        environment: with(&broker.environment, "BROKER_MEMORY_TTL_SECONDS", "0"),
        ..broker.clone()
    };
    let (warm, floor) = (Function::start(broker), Function::start(nothing));
    let reads = Function::start(&uncached);
    for (name, function, event, target) in [
        ("direct", &warm, direct(), "1.15"),
        ("HTTP API", &warm, event("http-token"), "1.20"),
        ("REST API", &warm, event("rest-token"), "1.20"),
        ("Function URL", &warm, event("url-token"), "1.20"),
        ("direct, read from the table each time", &reads, direct(), ""),
    ] {
        let mut latencies = [vec![], vec![]];
        for number in 0..WARM_UP + REQUESTS {
            for (which, function) in [function, &floor].into_iter().enumerate() {
                let answer = function.invoke(&event);
                assert!(which == 1 || token_of(&answer.body), "a token");
                if number >= WARM_UP {
                    latencies[which].push(answer.latency);
                }
            }
        }
        report.compare(&format!("warm, {name}"), latencies, target);
    }
    report.resident([warm.resident_bytes(), floor.resident_bytes()], "9.0 MB");
    let own_us = floor.own_share().as_secs_f64() * 1e6;
    report.note(format!("the driver's own share of a latency: {own_us:.1} µs"));
}

fn throughput(report: &mut Report, broker: &Program, nothing: &Program) {
    for in_flight in [1, 8, 64] {
        let mut rates = [vec![], vec![]];
        let functions = [broker, nothing].map(|program| {
            let environment =
                with(&program.environment, "AWS_LAMBDA_MAX_CONCURRENCY", &in_flight.to_string());
            Function::start(&Program { environment, ..program.clone() })
        });
        for round in 0..11 {
            for (which, function) in functions.iter().enumerate() {
                let elapsed = burst(function, in_flight);
                if round > 0 {
                    rates[which].push(elapsed);
                }
            }
        }
        report.throughput(in_flight, rates, if in_flight == 64 { "0.85" } else { "" });
    }
}

/// How long a thousand requests take with this many in flight.
fn burst(function: &Function, in_flight: usize) -> Duration {
    let (event, begun) = (direct(), std::time::Instant::now());
    let mut waiting: std::collections::VecDeque<_> = (0..in_flight).map(|_| function.begin(&event)).collect();
    for sent in in_flight..report::BURST + in_flight {
        waiting.pop_front().expect("one in flight").recv().expect("an answer");
        if sent < report::BURST {
            waiting.push_back(function.begin(&event));
        }
        if waiting.is_empty() {
            break;
        }
    }
    begun.elapsed()
}

fn with(environment: &[(String, String)], name: &str, value: &str) -> Vec<(String, String)> {
    environment.iter().cloned().chain([(name.to_owned(), value.to_owned())]).collect()
}
