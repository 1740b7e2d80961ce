//! A version is published exactly if code or settings change, and all aliases move to it.

use super::{BTreeMap, DEFAULTS, EVERYTHING, Stack, fs, json, text};

/// What `CloudFormation` compares to find out whether it has to publish a version: the resource's name, and its
/// description with the number of the settings, which is another one exactly if their content is.
fn version(stack: &Stack) -> (String, String, String) {
    let (name, version) = stack.all("AWS::Lambda::Version").pop_first().expect("a version");
    let settings = text(&stack.resource("Settings")["Content"]);
    let number = "${Settings.VersionNumber}";
    let resolved = |value| text(value).replace(number, &settings);
    // Lambda publishes nothing for a function that is as it was, so the function has to change as well.
    let function = resolved(&stack.resource("BrokerFunction")["Description"]);
    assert!(function.contains(&settings));
    (name.to_owned(), resolved(&version["Description"]), function)
}

fn changes() -> BTreeMap<String, Stack> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/target/system/template/changes");
    let files = fs::read_dir(directory).expect("`tests/system.sh template` transforms the template");
    files
        .map(|file| {
            let name = file.expect("a file").file_name().into_string().expect("a text");
            let name = name.strip_suffix(".json").expect("JSON").to_owned();
            (name.clone(), Stack::read(&format!("changes/{name}")))
        })
        .collect()
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn another_parameter_or_other_code_makes_a_new_version() {
    let before = version(&Stack::read(DEFAULTS));
    let changes = changes();
    assert!(changes.len() > 25 && changes.contains_key("code"), "{:?}", changes.keys());
    for (change, stack) in changes {
        let after = version(&stack);
        assert_ne!((&after.0, &after.1), (&before.0, &before.1), "{change}");
        // Only code has another name: SAM does not see the values of parameters.
        assert_eq!(after.0 != before.0, change == "code", "{change}");
    }
    assert_eq!(version(&Stack::read(DEFAULTS)), before, "the same again makes no version");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn all_aliases_stand_on_the_one_published_version() {
    for stack in [DEFAULTS, EVERYTHING] {
        let stack = Stack::read(stack);
        let versions = stack.all("AWS::Lambda::Version");
        let names: Vec<_> = versions.keys().collect();
        let [version] = names.as_slice() else { panic!("{names:?}") };
        // Otherwise there would be none to go back to after a change of a parameter.
        assert_eq!(stack.0[**version]["UpdateReplacePolicy"], "Retain");
        for (name, alias) in stack.all("AWS::Lambda::Alias") {
            assert_eq!(alias["FunctionVersion"], format!("${{{version}.Version}}"), "{name}");
            assert_eq!(alias["FunctionName"], "${BrokerFunction}", "{name}");
        }
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn a_canary_moves_callers_and_is_taken_back_on_alarms() {
    let stack = Stack::read(EVERYTHING);
    for (alias, group) in [("LiveAlias", "LiveReleases"), ("HttpAlias", "HttpReleases")] {
        let policy = &stack.0[alias]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"];
        assert_eq!(policy["DeploymentGroupName"], format!("${{{group}}}"));
        let group = stack.resource(group);
        assert_eq!(group["DeploymentConfigName"], "CodeDeployDefault.LambdaCanary10Percent15Minutes");
        let events = &group["AutoRollbackConfiguration"]["Events"];
        assert!(events.as_array().expect("events").contains(&json!("DEPLOYMENT_STOP_ON_ALARM")));
        let alarms = group["AlarmConfiguration"]["Alarms"].as_array().expect("alarms");
        assert!(alarms.len() >= 3);
        let known = stack.all("AWS::CloudWatch::Alarm");
        for alarm in alarms {
            let name = text(&alarm["Name"]);
            assert!(known.contains_key(name.trim_start_matches("${").trim_end_matches('}')), "{name}");
        }
    }
    // The schedule moves after the callers, so only if their canary was good.
    assert_eq!(stack.0["ScheduleAlias"]["DependsOn"], json!(["LiveAlias", "HttpAlias"]));
    let provisioned = |stack: &Stack| {
        ["LiveAlias", "HttpAlias"].map(|alias| {
            stack.resource(alias)["ProvisionedConcurrencyConfig"]["ProvisionedConcurrentExecutions"].clone()
        })
    };
    assert_eq!(provisioned(&stack), [json!(2), json!(null)]);

    let stack = Stack::read(DEFAULTS);
    for alias in ["LiveAlias", "HttpAlias"] {
        assert!(stack.0[alias]["UpdatePolicy"].is_null(), "{alias}: all at once without a canary");
        assert!(stack.resource(alias)["ProvisionedConcurrencyConfig"].is_null());
    }
}
