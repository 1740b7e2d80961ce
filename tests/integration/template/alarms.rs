//! Alarms and dashboard name metrics that are emitted, and each alarm has its page.

use super::{BTreeMap, BTreeSet, DEFAULTS, EVERYTHING, Metric, Stack, Value, fs, json, many, text};

/// The metrics of AWS that the template may name, with the dimensions that AWS gives them.
const OF_AWS: [(&str, &str, &[&str]); 14] = [
    ("AWS/Lambda", "Errors", &["FunctionName"]),
    ("AWS/Lambda", "Throttles", &["FunctionName"]),
    ("AWS/Lambda", "Duration", &["FunctionName"]),
    ("AWS/Lambda", "ConcurrentExecutions", &["FunctionName"]),
    ("AWS/Lambda", "Invocations", &["FunctionName", "Resource"]),
    ("AWS/Lambda", "Errors", &["FunctionName", "Resource"]),
    ("AWS/DynamoDB", "ReadThrottleEvents", &["TableName"]),
    ("AWS/DynamoDB", "WriteThrottleEvents", &["TableName"]),
    ("AWS/ApiGateway", "Count", &["ApiId"]),
    ("AWS/ApiGateway", "4xx", &["ApiId"]),
    ("AWS/ApiGateway", "5xx", &["ApiId"]),
    ("AWS/ApiGateway", "Count", &["ApiName", "Stage"]),
    ("AWS/ApiGateway", "4XXError", &["ApiName", "Stage"]),
    ("AWS/ApiGateway", "5XXError", &["ApiName", "Stage"]),
];

/// The alarms, each with its page, its treatment of missing data, and its severity.
const ALARMS: [(&str, &str, &str, &str); 16] = [
    ("ApiErrorsAlarm", "api-errors", "notBreaching", "page"),
    ("ApiRefusalsAlarm", "api-refusals", "notBreaching", "ticket"),
    ("CallersRefusedAlarm", "callers-refused", "notBreaching", "page"),
    ("ClockOffAlarm", "clock-off", "notBreaching", "ticket"),
    ("CredentialsRejectedAlarm", "credentials-rejected", "ignore", "page"),
    ("DurationAlarm", "duration", "notBreaching", "ticket"),
    ("FunctionErrorsAlarm", "function-errors", "notBreaching", "page"),
    ("GrantLostAlarm", "grant-lost", "ignore", "page"),
    ("LoginPermitsAlarm", "login-permits", "notBreaching", "ticket"),
    ("MaintenanceAlarm", "maintenance", "breaching", "ticket"),
    ("MassRevocationAlarm", "mass-revocation", "notBreaching", "ticket"),
    ("MetricsAlarm", "metrics", "breaching", "page"),
    ("RefreshTokenAlarm", "refresh-token", "ignore", "ticket"),
    ("RevocationsAlarm", "revocations", "notBreaching", "ticket"),
    ("TableThrottlesAlarm", "table-throttles", "notBreaching", "page"),
    ("ThrottlesAlarm", "throttles", "notBreaching", "page"),
];

/// A metric as CloudWatch knows it: namespace, name, and the names of its dimensions.
type Named = (String, String, Vec<String>);

/// The metrics that the broker and AWS publish.
fn published() -> BTreeSet<Named> {
    let own = |metric: Metric, dimensions: &[&str]| named("TokenBroker", metric.name(), dimensions);
    let by_function = Metric::ALL.map(|metric| own(metric, &["Function"]));
    let by_account = Metric::ALL.into_iter().filter(|metric| metric.is_by_account());
    let by_account = by_account.map(|metric| own(metric, &["Account", "Function"]));
    let of_aws = OF_AWS.into_iter().map(|(namespace, name, dimensions)| named(namespace, name, dimensions));
    let of_the_log = Stack::read(DEFAULTS).resource("FailedInvocations")["MetricTransformations"][0].clone();
    let of_the_log = named(&text(&of_the_log["MetricNamespace"]), &text(&of_the_log["MetricName"]), &[]);
    by_function.into_iter().chain(by_account).chain(of_aws).chain([of_the_log]).collect()
}

fn named(namespace: &str, name: &str, dimensions: &[&str]) -> Named {
    let dimensions = dimensions.iter().map(|name| (*name).to_owned()).collect();
    (namespace.to_owned(), name.to_owned(), dimensions)
}

/// The metrics that an alarm watches.
fn watched(alarm: &Value) -> Vec<Named> {
    let of = |metric: &Value| {
        let dimensions = metric["Dimensions"].as_array().into_iter().flatten();
        let mut dimensions: Vec<_> = dimensions.map(|dimension| text(&dimension["Name"])).collect();
        dimensions.sort();
        (text(&metric["Namespace"]), text(&metric["MetricName"]), dimensions)
    };
    match alarm["Metrics"].as_array() {
        None => vec![of(alarm)],
        Some(metrics) => metrics
            .iter()
            .filter(|metric| metric["Expression"].is_null())
            .map(|metric| of(&metric["MetricStat"]["Metric"]))
            .collect(),
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn each_watches_metrics_that_are_published() {
    let published = published();
    for stack in [DEFAULTS, EVERYTHING] {
        for (name, alarm) in Stack::read(stack).all("AWS::CloudWatch::Alarm") {
            for metric in watched(alarm) {
                assert!(published.contains(&metric), "{name}: {metric:?}");
            }
            // An expression names each of its metrics, and no other.
            let metrics = alarm["Metrics"].as_array().map_or(&[][..], Vec::as_slice);
            let (values, inputs): (Vec<_>, Vec<_>) =
                metrics.iter().partition(|metric| metric["Expression"].is_string());
            let [value] = values.as_slice() else {
                assert!(values.is_empty(), "{name}");
                continue;
            };
            let expression = text(&value["Expression"]);
            let words: BTreeSet<_> = expression
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
                .map(str::to_owned)
                .collect();
            assert_eq!(words, inputs.iter().map(|metric| text(&metric["Id"])).collect(), "{name}");
        }
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn each_names_its_runbook_and_handles_missing_data() {
    let stack = Stack::read(DEFAULTS);
    let alarms = stack.all("AWS::CloudWatch::Alarm");
    let expected: BTreeMap<_, _> =
        ALARMS.map(|(name, page, missing, calls)| (name, (page, missing, calls))).into();
    assert_eq!(alarms.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, alarm) in alarms {
        let (page, missing, calls) = expected[name];
        let description = text(&alarm["AlarmDescription"]);
        assert!(description.starts_with(&format!("{calls}: token-broker: ")), "{description}");
        // A new stack has no data yet, which would fire an alarm on missing data.
        let waits = stack.0[name]["DependsOn"] == "FirstMaintenance";
        assert_eq!(waits, missing == "breaching", "{name}");
        assert!(description.ends_with(&format!(" Runbook: docs/runbooks/{page}.md")), "{description}");
        assert!(description.len() <= 1024, "{name}");
        assert_eq!(alarm["TreatMissingData"], missing, "{name}");

        let runbook = format!("{}/docs/runbooks/{page}.md", env!("CARGO_MANIFEST_DIR"));
        let runbook = fs::read_to_string(&runbook).unwrap_or_else(|error| panic!("{runbook}: {error}"));
        for part in ["## What it means", "## What to look at", "## What to do"] {
            assert!(runbook.contains(part), "{page}: {part}");
        }
        assert!(runbook.contains(name), "{page} names its alarm");
    }
    let pages = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks")).expect("the runbooks");
    assert_eq!(pages.count(), ALARMS.len(), "a page for each alarm, and no other");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_topic_gets_alarms_and_their_recovery() {
    let topic = json!(["arn:aws:sns:us-east-1:123456789012:alarms"]);
    for (name, alarm) in Stack::read(EVERYTHING).all("AWS::CloudWatch::Alarm") {
        assert_eq!((&alarm["AlarmActions"], &alarm["OKActions"]), (&topic, &topic), "{name}");
    }
}

/// The metrics of a graph: lines of namespace, name, dimensions and options, or a search by account.
fn drawn(line: &Value) -> Named {
    let parts = line.as_array().expect("a list");
    if let Some(expression) = parts[0]["expression"].as_str() {
        let schema = expression.split(['{', '}']).nth(1).expect("a schema").split(',').collect::<Vec<_>>();
        let name =
            expression.split("MetricName=\"").nth(1).expect("a name").split('"').next().expect("a name");
        let mut dimensions: Vec<_> = schema[1..].iter().map(|name| (*name).to_owned()).collect();
        dimensions.sort();
        return (schema[0].to_owned(), name.to_owned(), dimensions);
    }
    let texts: Vec<_> = parts.iter().filter_map(Value::as_str).collect();
    let mut dimensions: Vec<_> = texts[2..].iter().step_by(2).map(|name| (*name).to_owned()).collect();
    dimensions.sort();
    (texts[0].to_owned(), texts[1].to_owned(), dimensions)
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_dashboard_draws_all_metrics_and_no_unknown_one() {
    let published = published();
    assert!(Stack::read(DEFAULTS).0["AccountsDashboard"].is_null(), "it costs $3");
    for stack in ["changes/Dashboard", EVERYTHING] {
        let stack = Stack::read(stack);
        let body: Value =
            serde_json::from_str(&text(&stack.resource("AccountsDashboard")["DashboardBody"])).expect("JSON");
        let widgets = body["widgets"].as_array().expect("widgets");
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for widget in widgets {
            let place = |name: &str| widget[name].as_u64().expect("a number");
            assert!(place("x") + place("width") <= 24, "{widget}");
            for line in widget["properties"]["metrics"].as_array().into_iter().flatten() {
                let metric = drawn(line);
                assert!(published.contains(&metric), "{metric:?}");
                if let Some(id) = line[0]["id"].as_str() {
                    assert!(ids.insert((place("x"), place("y"), id.to_owned())), "{id} twice in a graph");
                    assert!(id.starts_with(|c: char| c.is_ascii_lowercase()));
                }
                if metric.0 == "TokenBroker" {
                    names.insert(metric.1);
                }
            }
        }
        assert_eq!(names, Metric::ALL.map(|metric| metric.name().to_owned()).into(), "each is drawn");

        let shown: BTreeSet<_> = many(&widgets[0]["properties"]["alarms"]).into_iter().map(text).collect();
        let alarms = stack.all("AWS::CloudWatch::Alarm");
        assert_eq!(shown, alarms.keys().map(|name| format!("${{{name}.Arn}}")).collect());

        let titles: Vec<_> =
            widgets.iter().filter_map(|widget| widget["properties"]["markdown"].as_str()).collect();
        let order = ["served", "limit", "account", "slow"];
        assert_eq!(titles.len(), order.len());
        assert!(titles.iter().zip(order).all(|(title, word)| title.contains(word)), "{titles:?}");
    }
}
