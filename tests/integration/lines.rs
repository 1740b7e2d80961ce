//! The function's log, read as CloudWatch reads it.

use serde_json::Value;
use std::collections::BTreeMap;
use token_broker::telemetry::{LONGEST_LINE, Metric};

/// A metric's value, and the dimensions that it is published with.
pub(crate) type Published = BTreeMap<String, (u64, Vec<String>)>;

/// The lines of invocations. Every line of the output has to be a JSON object with the fields of Lambda's JSON format.
pub(crate) fn invocations(output: &str) -> Vec<Value> {
    let lines = output.lines().map(|text| {
        assert!(text.len() < LONGEST_LINE, "{text}");
        let line: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "`{field}` is missing in {text}");
        }
        line
    });
    lines.filter(|line| line["request_id"].is_string()).collect()
}

/// The lines, except those of the accounts that the schedule maintained.
pub(crate) fn answers(output: &str) -> Vec<Value> {
    let lines = invocations(output).into_iter();
    lines.filter(|line| line["action"] != "maintain" || line["account"].is_null()).collect()
}

/// The metrics of a line, checked by the rules of CloudWatch's embedded metric format.
pub(crate) fn metrics(line: &Value) -> Published {
    let mut published = Published::new();
    let Some(metadata) = line.get("_aws") else { return published };
    assert!(metadata["Timestamp"].as_u64().is_some_and(|at| at > 1_600_000_000_000), "{line}");
    for directive in metadata["CloudWatchMetrics"].as_array().expect("directives") {
        assert_eq!(directive["Namespace"], "TokenBroker");
        let dimensions: Vec<String> = directive["Dimensions"]
            .as_array()
            .expect("dimension sets")
            .iter()
            .map(|set| {
                let names: Vec<&str> = set
                    .as_array()
                    .expect("a set")
                    .iter()
                    .map(|name| name.as_str().expect("a name"))
                    .collect();
                for name in &names {
                    assert!(line[*name].as_str().is_some_and(|value| !value.is_empty()), "{name} in {line}");
                }
                names.join(",")
            })
            .collect();
        for definition in directive["Metrics"].as_array().expect("metrics") {
            let name = definition["Name"].as_str().expect("a name");
            let metric =
                Metric::ALL.into_iter().find(|metric| metric.name() == name).expect("a known metric");
            assert_eq!(definition["Unit"].as_str(), metric.unit(), "{name}");
            let value = line[name].as_u64().unwrap_or_else(|| panic!("{name} has no value in {line}"));
            assert!(published.insert(name.to_owned(), (value, dimensions.clone())).is_none(), "{name} twice");
        }
    }
    published
}

/// The values of a line's metrics.
pub(crate) fn values(line: &Value) -> BTreeMap<String, u64> {
    metrics(line).into_iter().map(|(name, (value, _))| (name, value)).collect()
}
