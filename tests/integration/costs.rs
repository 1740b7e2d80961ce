//! The costs in `docs/OPERATIONS.md`: the bytes and the operations of the real broker, and the page's own arithmetic.

use crate::{events, instance, lines, world};
use emulators::World;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../docs/OPERATIONS.md");
const README: &str = include_str!("../../README.md");
const API_PAGE: &str = include_str!("../../docs/API.md");
const TEMPLATE: &str = include_str!("../../template.yaml");
const ANSWERS: u64 = 5;
/// How far the page may round up a line's length.
const ROUNDING: f64 = 25.0;

/// The most that a million answers from memory may cost, by direct invocation.
const TARGET: f64 = 0.45;

/// The table whose first column has this heading: the name in each row, and its other cells as numbers.
fn table(head: &str) -> BTreeMap<String, Vec<f64>> {
    let start = format!("| {head} |");
    let rows = PAGE.lines().skip_while(|line| !line.starts_with(&start)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let numbers = cells[1..].iter().filter_map(|cell| cell.trim_start_matches('$').parse().ok());
            (cells[0].to_owned(), numbers.collect())
        })
        .collect();
    assert!(!table.is_empty(), "a table whose first column is {head}");
    table
}

/// The list prices, in dollars, by name.
fn prices() -> BTreeMap<&'static str, f64> {
    let rows = include_str!("../../docs/prices.csv").lines().skip(1).map(|row| row.split(','));
    rows.map(|mut row| (row.next().unwrap(), row.next().unwrap().parse().unwrap())).collect()
}

/// A row of the table of answers.
struct Row {
    log_bytes: f64,
    access_log_bytes: f64,
    reads: f64,
    billed_ms: f64,
    dollars: f64,
}

fn row(name: &str) -> Row {
    let table = table("a million answers");
    let cells = table.get(name).unwrap_or_else(|| panic!("a row {name} in {:?}", table.keys()));
    let [log_bytes, access_log_bytes, reads, billed_ms, dollars] = cells[..] else {
        panic!("{name}: {cells:?}")
    };
    Row { log_bytes, access_log_bytes, reads, billed_ms, dollars }
}

/// The length of a line, and the reads of the table, of an answer with this source.
async fn measure(
    world: &World,
    settings: &[(&str, &str)],
    event: &Value,
    alias: &str,
    from: &str,
) -> (f64, f64) {
    let settings = [&[("BROKER_HTTP_ALIAS", "http")], settings].concat();
    let instance = instance::start(world, &settings).await;
    // The first answer of an instance reports its cold start.
    instance.invoke_through(Some(alias), event).await.expect("an answer");
    let before = world.dynamodb.counts();
    for _ in 0..ANSWERS {
        instance.invoke_through(Some(alias), event).await.expect("an answer");
    }
    let after = world.dynamodb.counts();
    assert_eq!(after.writes, before.writes, "an answer {from} writes nothing");
    let output = instance.output().await;
    let lengths = output.lines().skip(1).map(|text| {
        let line = &lines::answers(text)[0];
        assert_eq!(line["served_from"], from, "{text}");
        // With one digit, however slow the machine is.
        text.len() + 2 - line["duration_ms"].to_string().len()
    });
    // A busy machine adds the metric of a wait to some lines.
    let shortest = lengths.min().expect("a line");
    let reads = f64::from(u32::try_from(after.reads - before.reads).unwrap());
    (f64::from(u32::try_from(shortest).unwrap()), reads / f64::from(u32::try_from(ANSWERS).unwrap()))
}

/// The line that API Gateway writes for an answer, by the format of the template.
fn access_log_bytes(is_private: bool) -> f64 {
    let formats = TEMPLATE.split("Format: >-\n").skip(1).map(|rest| {
        let lines = rest.lines().take_while(|line| line.trim_start().starts_with(['{', '"']));
        lines.map(str::trim).collect::<Vec<_>>().join(" ")
    });
    let mut text = formats
        .into_iter()
        .find(|format| format.contains("vpceId") == is_private)
        .expect("a format of the access log");
    for (name, value) in [
        ("requestId", if is_private { "00000000-0000-4000-8000-000000000000" } else { "000000000000400=" }),
        ("requestTime", "06/Apr/2026:12:19:56 +0000"),
        ("identity.sourceIp", "192.0.2.10"),
        ("identity.vpceId", "vpce-0123456789abcdef0"),
        ("identity.userArn", "arn:aws:sts::123456789012:assumed-role/call-reporting/i-0123456789abcdef0"),
        ("routeKey", "POST /token"),
        ("httpMethod", "POST"),
        ("resourcePath", "/token"),
        ("status", "200"),
        ("error.message", "-"),
        ("integrationErrorMessage", "-"),
        ("integrationLatency", "12"),
        ("responseLength", "321"),
    ] {
        text = text.replace(&format!("\"$context.{name}\""), &format!("\"{value}\""));
        text = text.replace(&format!("$context.{name}"), value);
    }
    assert!(!text.contains("$context"), "{text}");
    f64::from(u32::try_from(text.len() + 1).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_table_reads_are_those_of_the_page() {
    let world = world().await;
    let (direct, http) = (json!({}), events::read("http-token"));
    let from_table: &[_] = &[("BROKER_MEMORY_TTL_SECONDS", "0")];
    instance::start(&world, &[]).await.invoke(json!({})).await.expect("a pair");
    for (name, settings, event, alias, source) in [
        ("direct, from memory", &[][..], &direct, "live", "memory"),
        ("direct, from the table", from_table, &direct, "live", "table"),
        ("HTTP API, from memory", &[], &http, "http", "memory"),
        ("HTTP API, from the table", from_table, &http, "http", "table"),
        ("private API, from memory", &[], &http, "http", "memory"),
    ] {
        let (bytes, reads) = measure(&world, settings, event, alias, source).await;
        let stated = row(name);
        let is_stated = bytes <= stated.log_bytes && stated.log_bytes < bytes + ROUNDING;
        assert!(is_stated, "{name}: a line has {bytes} bytes, the page says {}", stated.log_bytes);
        assert!((reads - stated.reads).abs() < 0.01, "{name}: {reads} reads, the page says {}", stated.reads);
        let access_log = match alias {
            "http" => access_log_bytes(name.starts_with("private")),
            _ => 0.0,
        };
        let is_stated =
            access_log <= stated.access_log_bytes && stated.access_log_bytes < access_log + ROUNDING;
        assert!(
            is_stated,
            "{name}: {access_log} bytes of access log, the page says {}",
            stated.access_log_bytes
        );
    }
    // A strongly consistent read of up to 4 KB is one request unit.
    let item = crate::items::get(&world, crate::items::DEFAULT_ACCOUNT).await;
    assert!(item.to_string().len() < 4096, "{}", item.to_string().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_changes_answers_from_memory_write_no_line() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_AUDIT", "changes")]).await;
    for _ in 0..=ANSWERS {
        instance.invoke_through(Some("live"), "{}").await.expect("a token");
    }
    assert_eq!(instance.output().await.lines().count(), 1, "that of the first answer, from the upstream");
    let stated = row("direct, from memory, `BROKER_AUDIT=changes`");
    assert!(stated.log_bytes.abs() < 0.01, "{}", stated.log_bytes);
}

#[test]
fn the_arithmetic_of_the_page_is_right() {
    let prices = prices();
    let price = |name: &str| *prices.get(name).unwrap_or_else(|| panic!("a price {name}"));
    let quoted = |name: &str| TEMPLATE.split(name).nth(1).and_then(|rest| rest.split("Default: ").nth(1));
    let default = |name: &str| -> f64 {
        let text = quoted(&format!("\n  {name}:\n")).and_then(|rest| rest.lines().next());
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a default of {name}"))
    };
    let (gigabytes, months) = (default("MemorySize") / 1024.0, default("LogRetentionDays") / 30.0);
    for name in table("a million answers").keys() {
        let row = row(name);
        let million = 1e6;
        let seconds = million * row.billed_ms / 1000.0;
        let log_gb = million * (row.log_bytes + row.access_log_bytes) / 1e9;
        let api = match name.split(',').next() {
            Some("HTTP API") => price("HTTP API"),
            Some("private API") => price("REST API"),
            _ => 0.0,
        };
        let dollars = price("invocation")
            + seconds * gigabytes * price("computing")
            + log_gb * (price("writing logs") + months * price("keeping logs"))
            + row.reads * price("table read")
            + api;
        assert!((dollars - row.dollars).abs() < 0.005, "{name}: {dollars:.4}, the page says {}", row.dollars);
    }
    let direct = row("direct, from memory").dollars;
    assert!(direct <= TARGET, "{direct}");
    for name in ["direct, from memory", "HTTP API, from memory", "private API, from memory"] {
        let dollars = format!("${:.2}", row(name).dollars);
        assert!(API_PAGE.contains(&dollars), "docs/API.md has another price than {dollars} for {name}");
    }
    let saved = direct - row("direct, from memory, `BROKER_AUDIT=changes`").dollars;
    let saved = format!("saves ${saved:.2}");
    assert!(PAGE.contains(&saved), "the page does not say that BROKER_AUDIT=changes {saved}");
}

/// The metrics of lines, each with its dimensions: what CloudWatch bills.
fn series(output: &str) -> BTreeSet<String> {
    let directives = output.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["_aws"]["CloudWatchMetrics"].as_array().cloned()
    });
    let of = |directive: Value| {
        let dimensions = directive["Dimensions"].as_array().cloned().unwrap_or_default();
        let metrics = directive["Metrics"].as_array().cloned().unwrap_or_default();
        dimensions.into_iter().flat_map(move |set| {
            metrics.clone().into_iter().map(move |metric| format!("{} {set}", metric["Name"]))
        })
    };
    directives.flatten().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_costs_what_the_page_says() {
    let world = world().await;
    instance::start(&world, &[]).await.invoke(json!({})).await.expect("a pair");
    let maintaining = instance::start(&world, &[]).await;
    maintaining.invoke(json!({"action": "status"})).await.expect("the cold start is reported");
    for _ in 0..2 {
        maintaining.invoke(json!({"action": "maintain"})).await.expect("maintenance");
    }
    let maintained = maintaining.output().await;
    let idle = series(maintained.split_once('\n').expect("several lines").1);

    let serving = instance::start(&world, &[("BROKER_MEMORY_TTL_SECONDS", "0")]).await;
    serving.invoke(json!({})).await.expect("a token");
    let mut busy = series(&serving.output().await);
    busy.retain(|name| !name.contains("WaitMilliseconds"));
    busy.extend(idle.clone());
    // Answers from memory are counted in the instance, and reported after a minute.
    busy.insert("AnswersFromMemory by function".to_owned());

    let alarms = TEMPLATE.matches("Type: AWS::CloudWatch::Alarm").count();
    let expressions = TEMPLATE.matches("          Expression: ").count();
    let watched = alarms - expressions + TEMPLATE.matches("          MetricStat: ").count();
    let counts = |name: &str| table("a month")[name].clone();
    let number = |count: usize| f64::from(u32::try_from(count).unwrap());
    assert_eq!(
        counts("metrics of CloudWatch"),
        [number(idle.len()), number(busy.len())],
        "{idle:?} {busy:?}"
    );
    assert_eq!(counts("metrics that alarms watch"), [number(watched); 2]);

    let prices = prices();
    let fixed = number(watched) * prices["alarm"] + prices["key"] + prices["secret"];
    let dollars = [&idle, &busy].map(|series| number(series.len()) * prices["metric"] + fixed);
    for (dollars, stated) in dollars.iter().zip(counts("dollars")) {
        assert!((dollars - stated).abs() < 0.005, "{dollars}");
    }
    // 200 instances that ask every ten minutes.
    let whole = dollars[1] + 200.0 * 6.0 * 24.0 * 30.0 / 1e6 * row("direct, from memory").dollars;
    assert!(README.contains(&format!("About ${whole:.0} a month")), "{whole}");
    let metrics = number(busy.len()) * prices["metric"];
    assert!(README.contains(&format!("metrics are ${metrics:.0}")), "{metrics}");
    let by_account = idle.iter().filter(|name| name.contains("Account")).count();
    let further = format!("${:.2}", number(by_account) * prices["metric"] + prices["secret"]);
    assert!(PAGE.contains(&further) && README.contains(&further), "{further}");
}
