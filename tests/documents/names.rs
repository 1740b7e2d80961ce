//! Every name in the documents exists in the code or the template, and the documents have every name that matters.
//!
//! A table is found by the heading of its first column: variable, setting, action, code, metric, alarm, parameter.

use crate::page::{Row, files, page, pages, quoted, read, rows};
use contract::{AccountName, Action, ClientErrorCode, DEFAULT_MIN_TTL, ErrorCode, Field};
use serde_json::Value;
use std::collections::BTreeSet;
use token_broker::{config::Config, telemetry::Metric};

type Names = BTreeSet<String>;

fn names<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Names {
    names.into_iter().map(Into::into).collect()
}

fn documented(head: &str) -> Names {
    names(rows(head).into_iter().map(|row| row.name))
}

/// The words of a text that begin with a prefix, such as names of environment variables.
fn words(text: &str, prefix: &str) -> Names {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    names(words.filter(|word| word.starts_with(prefix) && word.len() > prefix.len()))
}

/// The source text of folders.
fn sources(folders: &[&str], extensions: &[&str]) -> String {
    let paths = folders.iter().flat_map(|folder| extensions.iter().flat_map(|end| files(folder, end)));
    paths.map(read).collect()
}

fn assert_same(what: &str, documented: &Names, real: &Names) {
    let invented: Vec<_> = documented.difference(real).collect();
    let missing: Vec<_> = real.difference(documented).collect();
    assert!(
        invented.is_empty() && missing.is_empty(),
        "{what}: only in the documents: {invented:?}, missing there: {missing:?}"
    );
}

#[test]
fn every_variable_has_a_row_in_the_configuration() {
    assert_same("variables", &documented("variable"), &words(&read("src/config.rs"), "BROKER_"));
}

#[test]
fn every_setting_of_the_agent_has_a_row() {
    let code = read("clients/agent/src/settings.rs") + &read("clients/rust/src/environment.rs");
    let mut real = words(&code, "TOKEN_BROKER_");
    real.insert("CONVIRZA_API_URL".to_owned());
    let documented = names(rows("setting").into_iter().map(|row| row.name));
    assert_same("the agent's settings", &documented, &real);
}

#[test]
fn a_variable_that_is_mentioned_exists() {
    let code = sources(&["src", "clients", "crates", "tests", "examples"], &["rs", "py", "mjs", "sh"]);
    for prefix in ["BROKER_", "TOKEN_BROKER_"] {
        let known = words(&code, prefix);
        for page in pages() {
            let unknown: Vec<_> = words(&page.text, prefix).difference(&known).cloned().collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", page.path.display());
        }
    }
}

/// The value in a cell, without its backticks. `None` if the cell says that there is none.
fn stated(cell: &str) -> Option<&str> {
    Some(cell.trim_matches('`')).filter(|value| !["required", "unset", "empty", ""].contains(value))
}

#[test]
fn the_defaults_of_the_variables_are_the_codes() {
    let config = |variable: &str, value: &str| {
        Config::from_environment(|name| {
            let table = (name == "BROKER_TABLE").then(|| "t".to_owned());
            if name == variable { Some(value.to_owned()) } else { table }
        })
    };
    let unset = config("none", "").expect("a valid configuration");
    let mut checked = 0;
    for Row { name, cells, .. } in rows("variable") {
        let Some(value) = stated(&cells[1]) else { continue };
        assert_eq!(config(&name, value).as_ref(), Ok(&unset), "{name} = {value}");
        checked += 1;
    }
    assert!(checked > 8, "{checked} defaults were checked");
}

#[test]
fn every_action_has_a_row() {
    assert_same("actions", &documented("action"), &names(Action::ALL.map(Action::name)));
    for page in pages() {
        for rest in page.text.split("\"action\":").skip(1) {
            let name = rest.split('"').nth(1).unwrap_or_default();
            assert!(Action::parse(name).is_some(), "{}: \"action\":\"{name}\"", page.path.display());
        }
    }
}

#[test]
fn the_schema_of_rules_has_the_contracts_names() {
    let schema: Value = serde_json::from_str(&read("docs/callers.schema.json")).expect("JSON");
    let items = |field: &str| &schema["items"]["properties"][field]["items"];
    let actions = items("actions")["enum"].as_array().expect("a list").iter().filter_map(Value::as_str);
    assert_same("actions", &names(actions), &names(["*"].into_iter().chain(Action::ALL.map(Action::name))));
    let name = AccountName::PATTERN.trim_matches(['^', '$']);
    assert_eq!(items("accounts")["pattern"], format!("^(\\*|{name})$"));
}

#[test]
fn every_error_code_has_a_row_with_its_status() {
    assert_same("error codes", &documented("code"), &names(ErrorCode::ALL.map(ErrorCode::as_str)));
    for Row { page, name, cells } in rows("code") {
        let code = ErrorCode::parse(&name).expect("a code");
        let stated = (cells[0].as_str(), cells[1].as_str());
        assert_eq!(stated, (&*code.http_status().to_string(), code.summary()), "{}: {name}", page.display());
        let says_retry = ["wait for `retry_after`", "try again"].contains(&&*cells[2]);
        assert_eq!(says_retry, code.retry_can_help(), "{}: {name}", page.display());
    }
    let of_clients = names(ClientErrorCode::ALL.map(ClientErrorCode::as_str));
    assert_same("codes of the clients", &documented("code of a client"), &of_clients);
}

#[test]
fn every_field_of_a_call_has_a_row() {
    assert_same("fields of a call", &documented("field of a call"), &names(Field::ALL.map(Field::name)));
    for Row { name, cells, .. } in rows("field of a call") {
        match Field::parse(&name) {
            Some(Field::Account) => assert_eq!(AccountName::RULE, format!("a name of {}", cells[1])),
            Some(Field::MinTtl) => assert_eq!(cells[0], DEFAULT_MIN_TTL.as_secs().to_string()),
            _ => {}
        }
    }
    let contract: Value = serde_json::from_str(&read("crates/contract/contract.json")).expect("JSON");
    let answer = contract["answer_fields"].as_array().expect("a list").iter().filter_map(Value::as_str);
    assert_same("fields of the answer", &documented("field of the answer"), &names(answer));
}

#[test]
fn every_metric_has_a_row() {
    assert_same("metrics", &documented("metric"), &names(Metric::ALL.map(Metric::name)));
    let configuration = page("docs/CONFIGURATION.md").text;
    for metric in Metric::ALL {
        let marked = configuration.contains(&format!("`{}` *", metric.name()));
        assert_eq!(marked, metric.is_by_account(), "{} is marked if it is by account", metric.name());
    }
}

/// The lines of a section of the template.
fn section(name: &str) -> Vec<String> {
    let template = read("template.yaml");
    let lines = template.lines().skip_while(|line| *line != format!("{name}:")).skip(1);
    let lines: Vec<_> =
        lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#'])).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "the template has {name}");
    lines
}

/// The key of a line that is indented by two, like those of parameters, resources and outputs.
fn key(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("  ")?.split_once(':')?;
    name.starts_with(char::is_alphabetic).then_some(name)
}

fn keys(name: &str) -> Names {
    names(section(name).iter().filter_map(|line| key(line)))
}

/// The value of a property of each entry of a section.
fn properties(of: &str, property: &str) -> Vec<(String, String)> {
    let mut name = String::new();
    let mut found = Vec::new();
    for line in section(of) {
        if let Some(key) = key(&line) {
            key.clone_into(&mut name);
        } else if let Some(value) = line.strip_prefix(&format!("    {property}: ")) {
            found.push((name.clone(), value.trim_matches('"').to_owned()));
        }
    }
    found
}

#[test]
fn every_parameter_has_a_row_with_its_default() {
    // A parameter that sets a variable is in the variable's row, before their common default.
    let of_variables = rows("variable").into_iter().flat_map(|Row { cells, .. }| {
        quoted(&cells[0]).into_iter().map(move |name| (name, cells[1].clone()))
    });
    let others = rows("parameter").into_iter().map(|Row { name, cells, .. }| (name, cells[0].clone()));
    let rows: Vec<_> = of_variables.chain(others).collect();
    assert_same("template parameters", &names(rows.iter().map(|(name, _)| name)), &keys("Parameters"));
    let defaults = properties("Parameters", "Default");
    for (name, default) in rows {
        let real = defaults.iter().find(|(parameter, _)| *parameter == name).map(|(_, value)| value.as_str());
        assert_eq!(stated(&default), real.filter(|value| !value.is_empty()), "{name}");
    }
}

#[test]
fn the_deployment_settings_name_parameters() {
    let settings = read("samconfig.toml");
    let list = settings.split("parameter_overrides").nth(1).unwrap().split(']').next().unwrap();
    let set = names(list.split('"').skip(1).step_by(2).filter_map(|text| Some(text.split_once('=')?.0)));
    let unknown: Vec<_> = set.difference(&keys("Parameters")).cloned().collect();
    assert!(!set.is_empty() && unknown.is_empty(), "{unknown:?}");
}

#[test]
fn named_outputs_exist_and_every_output_is_named() {
    let outputs = keys("Outputs");
    let configuration = page("docs/CONFIGURATION.md").text;
    let missing: Vec<_> =
        outputs.iter().filter(|name| !configuration.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/CONFIGURATION.md does not name {missing:?}");
    for page in pages() {
        for rest in page.text.split("OutputKey=='").skip(1) {
            let name = rest.split('\'').next().unwrap();
            assert!(name == "$1" || outputs.contains(name), "{}: {name}", page.path.display());
        }
        for rest in page.text.split("$(output ").skip(1) {
            let name = rest.split(')').next().unwrap();
            assert!(outputs.contains(name), "{}: {name}", page.path.display());
        }
    }
}

#[test]
fn the_tests_of_the_promises_exist() {
    let tests = sources(&["src", "crates", "tests"], &["rs"]);
    let promises = read("docs/promises.csv");
    assert!(promises.lines().count() > 20, "the promises were read");
    for row in promises.lines().skip(1) {
        let (promise, named) = row.rsplit_once(',').unwrap();
        for path in named.split(' ') {
            let name = path.rsplit("::").next().unwrap();
            assert!(tests.contains(&format!("fn {name}()")), "{promise}: {path}");
        }
    }
}

fn alarms() -> Names {
    let types = properties("Resources", "Type");
    names(types.into_iter().filter(|(_, kind)| kind.contains("Alarm")).map(|(name, _)| name))
}

#[test]
fn every_alarm_has_a_row() {
    let alarms = alarms();
    assert_same("alarms", &documented("alarm"), &alarms);
    for page in pages() {
        let text = page.text.replace(|character: char| !character.is_ascii_alphanumeric(), " ");
        let mentioned = text.split(' ').filter(|word| word.ends_with("Alarm") && word.len() > "Alarm".len());
        let unknown: Vec<_> = mentioned.filter(|word| !alarms.contains(*word)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", page.path.display());
    }
}

#[test]
fn the_figures_are_those_of_the_plans() {
    let first_column = |path| names(read(path).lines().skip(1).filter_map(|line| line.split(',').next()));
    let plotted = first_column("docs/simulation/figures.csv");
    assert_same("plans", &first_column("docs/simulation/plans.csv"), &plotted);
    let plans = read("lab/simulation/src/plans.rs");
    let number = plans.split("const ALL: [Self; ").nth(1).unwrap().split(']').next().unwrap();
    assert_eq!(number.parse(), Ok(plotted.len()), "every plan is in figures.csv");
    let plans = plans + &sources(&["lab/simulation/src/plans"], &["rs"]);
    let unknown: Vec<_> = plotted.iter().filter(|name| !plans.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
