//! The dashboard of the template, with the metrics of a simulated day: its graphs as the template has them, its data as
//! CloudWatch would take it from the lines of the log.
#![allow(clippy::indexing_slicing, reason = "indexing JSON does not panic: what is missing is null")]

use contract::rfc3339;
use serde_json::Value;
use std::{collections::BTreeMap, error::Error};
use token_broker_simulation::{DAY, MINUTE, START_MS};

/// The period of every graph.
pub(crate) const PERIOD_MS: u64 = 5 * MINUTE;
pub(crate) const PERIODS: u64 = DAY / PERIOD_MS;

/// A widget, in the units of CloudWatch's grid.
pub(crate) struct Widget {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) shows: Shows,
}

pub(crate) enum Shows {
    Heading(String),
    Alarms(Vec<String>),
    Graph(Graph),
}

pub(crate) struct Graph {
    pub(crate) title: String,
    pub(crate) is_stacked: bool,
    /// Lines that mark a value, with their labels.
    pub(crate) marks: Vec<(String, f64)>,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) is_red: bool,
    pub(crate) is_on_the_right: bool,
    /// By the number of the period.
    pub(crate) points: BTreeMap<u64, f64>,
}

/// The values of each metric, by account where it has that dimension, and by period.
#[derive(Default)]
struct Metrics(BTreeMap<(String, Option<String>), BTreeMap<u64, Vec<f64>>>);

/// The dashboard of a template, with the metrics of a log.
pub(crate) fn widgets(template: &str, log: &[String]) -> Result<Vec<Widget>, Box<dyn Error>> {
    let body = body(template).ok_or("the template has no dashboard")?;
    let alarms = alarms(template);
    let metrics = Metrics::of(log)?;
    let body: Value = serde_json::from_str(&body)?;
    let widgets = body["widgets"].as_array().ok_or("the dashboard has no widgets")?;
    widgets.iter().map(|widget| metrics.fill(widget, &alarms)).collect()
}

/// The text of the dashboard, without what CloudFormation inserts.
fn body(template: &str) -> Option<String> {
    let (_, text) = template.split_once("DashboardBody: !Sub\n")?;
    let (_, text) = text.split_once("- |\n")?;
    let (text, _) = text.split_once("\n        - Api:")?;
    Some(text.replace("[${Alarms}]", "[]").replace("${Api}", r#""ApiId","api""#))
}

fn alarms(template: &str) -> Vec<String> {
    let list = template.split_once("Alarms: !Join").map_or("", |(_, list)| list);
    let list = list.split_once("\nOutputs:").map_or("", |(list, _)| list);
    let names = list.split("${").skip(1).filter_map(|rest| rest.split_once("Alarm.Arn}"));
    names.map(|(name, _)| name.to_owned()).collect()
}

impl Metrics {
    fn of(log: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut metrics = Self::default();
        let mut requests = Vec::new();
        for text in log {
            let line: Value = serde_json::from_str(text)?;
            let at = line["timestamp"].as_str().and_then(rfc3339::parse).ok_or("a line has no time")?;
            let at_ms = at.as_millis() - START_MS;
            for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
                let accounts = directive["Dimensions"].as_array().into_iter().flatten().map(|set| {
                    let is_by_account = set.as_array().is_some_and(|names| names.len() == 2);
                    line["Account"].as_str().filter(|_| is_by_account).map(str::to_owned)
                });
                let accounts: Vec<_> = accounts.collect();
                for name in directive["Metrics"].as_array().into_iter().flatten() {
                    let name = name["Name"].as_str().unwrap_or_default();
                    for account in &accounts {
                        metrics.add(name, account.clone(), at_ms, line[name].as_f64().unwrap_or_default());
                    }
                }
            }
            // Each account of a run of the schedule has a line, but the invocation is one.
            if line["action"] != "maintain" || line["account"].is_null() {
                let duration_ms = line["duration_ms"].as_u64().unwrap_or_default();
                requests.push((at_ms - duration_ms, at_ms));
                #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^53 ms")]
                metrics.add("Duration", None, at_ms, duration_ms as f64);
            }
            if line["entry"] == "http" {
                metrics.add("Count", None, at_ms, 1.0);
                let failed = f64::from(u8::from(line["outcome"] != "ok"));
                metrics.add("${Failed}", None, at_ms, failed);
            }
        }
        metrics.add_concurrency(&requests);
        Ok(metrics)
    }

    fn add(&mut self, name: &str, account: Option<String>, at_ms: u64, value: f64) {
        let periods = self.0.entry((name.to_owned(), account)).or_default();
        periods.entry(at_ms / PERIOD_MS).or_default().push(value);
    }

    /// Every running invocation has its own execution environment.
    fn add_concurrency(&mut self, requests: &[(u64, u64)]) {
        let begins = requests.iter().map(|(from_ms, _)| (*from_ms, 1));
        let ends = requests.iter().map(|(_, until_ms)| (until_ms + 1, -1));
        let mut changes: Vec<(u64, i32)> = begins.chain(ends).collect();
        changes.sort_unstable();
        let mut running = 0;
        for (at_ms, change) in changes {
            running += change;
            self.add("ConcurrentExecutions", None, at_ms, f64::from(running));
        }
    }

    fn fill(&self, widget: &Value, alarms: &[String]) -> Result<Widget, Box<dyn Error>> {
        let place = |name: &str| -> Result<u32, Box<dyn Error>> {
            Ok(u32::try_from(widget[name].as_u64().ok_or("a widget has no place")?)?)
        };
        let properties = &widget["properties"];
        let title = properties["title"].as_str().unwrap_or_default().to_owned();
        let shows = match widget["type"].as_str() {
            Some("text") => {
                let text = properties["markdown"].as_str().unwrap_or_default();
                Shows::Heading(text.trim_start_matches("## ").to_owned())
            }
            Some("alarm") => Shows::Alarms(alarms.to_vec()),
            _ => Shows::Graph(Graph {
                title,
                is_stacked: properties["stacked"] == true,
                marks: properties["annotations"]["horizontal"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|mark| {
                        let label = mark["label"].as_str().unwrap_or_default().to_owned();
                        (label, mark["value"].as_f64().unwrap_or_default())
                    })
                    .collect(),
                lines: properties["metrics"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .flat_map(|metric| self.lines(metric))
                    .collect(),
            }),
        };
        Ok(Widget { x: place("x")?, y: place("y")?, width: place("width")?, height: place("height")?, shows })
    }

    /// The lines of a metric, or of a search for one by account.
    fn lines(&self, metric: &Value) -> Vec<Line> {
        if let Some(expression) = metric[0]["expression"].as_str() {
            let name = between(expression, "MetricName=\"", "\"");
            let statistic = between(expression, "', '", "'");
            let found = self.0.iter().filter(|((found, account), _)| found == name && account.is_some());
            return found
                .map(|((_, account), periods)| Line {
                    label: account.clone().unwrap_or_default(),
                    is_red: false,
                    is_on_the_right: false,
                    points: points(periods, statistic),
                })
                .collect();
        }
        let Some(options) = metric.as_array().and_then(|parts| parts.last()) else { return Vec::new() };
        let name = metric[1].as_str().unwrap_or_default();
        let none = BTreeMap::new();
        let periods = self.0.get(&(name.to_owned(), None)).unwrap_or(&none);
        vec![Line {
            label: options["label"].as_str().unwrap_or(name).to_owned(),
            is_red: options["color"].is_string(),
            is_on_the_right: options["yAxis"] == "right",
            points: points(periods, options["stat"].as_str().unwrap_or_default()),
        }]
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map_or("", |(found, _)| found)
}

fn points(periods: &BTreeMap<u64, Vec<f64>>, statistic: &str) -> BTreeMap<u64, f64> {
    let value = |values: &Vec<f64>| {
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let percentile = |percent: usize| {
            sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
        };
        match statistic {
            "Sum" => sorted.iter().sum(),
            "Minimum" => percentile(0),
            "p50" => percentile(50),
            "p99" => percentile(99),
            _ => percentile(100),
        }
    };
    periods
        .iter()
        .filter(|(period, _)| **period < PERIODS)
        .map(|(period, all)| (*period, value(all)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use token_broker::telemetry::Metric;
    use token_broker_simulation::{Plan, Simulation};

    /// What a simulated day does not bring forth.
    const EMPTY: [&str; 3] = ["throttles", "table reads throttled", "table writes throttled"];

    #[test]
    fn each_line_of_the_template_has_data() {
        let template = include_str!("../../../../../template.yaml");
        let simulation = Simulation { plan: Plan::DASHBOARD, seed: 1, command: String::new() };
        let log = simulation.log();
        let widgets = widgets(template, &log).expect("the dashboard is read");
        let mut graphs = 0;
        for widget in &widgets {
            let Shows::Graph(graph) = &widget.shows else { continue };
            graphs += 1;
            assert!(!graph.lines.is_empty(), "{}", graph.title);
            for line in graph.lines.iter().filter(|line| !EMPTY.contains(&line.label.as_str())) {
                assert!(!line.points.is_empty(), "{}: {}", graph.title, line.label);
            }
        }
        assert_eq!(graphs, 13);
        let alarms = widgets.iter().find_map(|widget| match &widget.shows {
            Shows::Alarms(names) => Some(names.len()),
            _ => None,
        });
        assert_eq!(alarms, Some(template.matches("Type: AWS::CloudWatch::Alarm\n").count()));
        let metrics = Metrics::of(&log).expect("the lines are read");
        for metric in Metric::ALL.map(Metric::name) {
            assert!(metrics.0.keys().any(|(name, _)| name == metric), "{metric} was not published");
        }
    }

    #[test]
    fn statistics_are_those_of_cloudwatch() {
        let periods = BTreeMap::from([(3, vec![4.0, 1.0, 3.0, 2.0]), (PERIODS, vec![9.0])]);
        for (statistic, value) in
            [("Sum", 10.0), ("Minimum", 1.0), ("Maximum", 4.0), ("p50", 2.0), ("p99", 4.0)]
        {
            assert_eq!(points(&periods, statistic), BTreeMap::from([(3, value)]), "{statistic}");
        }
    }
}
