//! Releases: a new version if and only if code or settings change, all aliases on it, and the archives.

use super::{BTreeMap, DEFAULTS, EVERYTHING, Stack, fs, json, many, text};

/// What `CloudFormation` compares to decide whether to publish a version: the resource's name, and its description with
/// a number that changes if and only if the settings change.
fn version(stack: &Stack) -> (String, String, String) {
    let (name, version) = stack.all("AWS::Lambda::Version").pop_first().expect("a version");
    let settings = text(&stack.resource("Settings")["Content"]);
    let number = "${Settings.VersionNumber}";
    let resolved = |value| text(value).replace(number, &settings);
    // Lambda publishes nothing for an unchanged function, so the function has to change as well.
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
fn a_changed_parameter_or_code_makes_a_new_version() {
    let before = version(&Stack::read(DEFAULTS));
    let changes = changes();
    assert!(changes.len() > 25 && changes.contains_key("code"), "{:?}", changes.keys());
    for (change, stack) in changes {
        let after = version(&stack);
        assert_ne!((&after.0, &after.1), (&before.0, &before.1), "{change}");
        // Only code changes the name: SAM does not see the values of parameters.
        assert_eq!(after.0 != before.0, change == "code", "{change}");
    }
    assert_eq!(version(&Stack::read(DEFAULTS)), before, "the same settings make no version");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn all_aliases_point_to_the_one_published_version() {
    for stack in [DEFAULTS, EVERYTHING] {
        let stack = Stack::read(stack);
        let versions = stack.all("AWS::Lambda::Version");
        let names: Vec<_> = versions.keys().collect();
        let [version] = names.as_slice() else { panic!("{names:?}") };
        // Otherwise there would be no version to go back to after a change of a parameter.
        assert_eq!(stack.0[**version]["UpdateReplacePolicy"], "Retain");
        for (name, alias) in stack.all("AWS::Lambda::Alias") {
            assert_eq!(alias["FunctionVersion"], format!("${{{version}.Version}}"), "{name}");
            assert_eq!(alias["FunctionName"], "${BrokerFunction}", "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/system.sh template runs it"]
async fn callers_aliases_wait_until_the_version_has_answered() {
    for stack in [DEFAULTS, EVERYTHING] {
        let stack = Stack::read(stack);
        for alias in stack.all("AWS::Lambda::Alias").into_keys().filter(|name| !name.ends_with("candidate")) {
            let mut before = vec![alias.to_owned()];
            while let Some(name) = before.pop().filter(|name| name != "VersionCheck") {
                let all = &stack.0[&name]["DependsOn"];
                assert!(!all.is_null(), "{alias} does not wait");
                before.push(text(many(all)[0]));
            }
        }
        let check = stack.resource("VersionCheck");
        let (version, _) = stack.all("AWS::Lambda::Version").pop_first().expect("a version");
        assert_eq!(check["Version"], format!("${{{version}.Version}}"), "each version is checked");
        let role = &stack.resource("VersionCheckRole")["Policies"][0]["PolicyDocument"]["Statement"];
        let invoked = json!([check["Alias"], "${BrokerFunction.Arn}:schedule"]);
        assert_eq!(
            *role,
            json!([{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": invoked}])
        );
    }

    // Its payload, and the only answer that means that the function has started.
    let check = Stack::read(DEFAULTS).resource("VersionCheck").clone();
    let world = crate::world().await;
    let instance = crate::instance::start(&world, &[("BROKER_SCHEDULE_ALIAS", "schedule")]).await;
    let answer = instance.invoke_through(Some("candidate"), text(&check["Request"])).await;
    assert_eq!(answer.expect_err("an error")["errorType"], check["Expected"]);
    assert_eq!(world.dynamodb.counts().writes, 0);
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_template_of_a_release_deploys_the_same_stack() {
    let (mut built, mut released) = (Stack::read(DEFAULTS), Stack::read("release"));
    for stack in [&mut built, &mut released] {
        let (version, _) = stack.all("AWS::Lambda::Version").pop_first().expect("a version");
        let version = version.to_owned();
        let text = stack.0.to_string().replace(&version, "Version");
        stack.0 = serde_json::from_str(&text).expect("JSON");
    }
    let code = &released.resource("BrokerFunction")["Code"];
    assert_eq!(*code, json!({"S3Bucket": "archives", "S3Key": "token-broker/0.2.0/token-broker-arm64.zip"}));
    // The digest of the file's text, "arm64".
    let digest = released.resource("Version")["CodeSha256"].clone();
    assert_eq!(digest, "9pFilQ8jXjzbutM/H5EtGlBL6Q2KN9ACxzXW8+OIImU=");
    let settings = text(&released.resource("Settings")["Content"]);
    assert!(settings.contains("CodeBucket=archives\nCodeKey=\n"), "another archive is another version");

    for stack in [&mut built, &mut released] {
        stack.0["BrokerFunction"]["Properties"]["Code"] = json!(null);
        stack.0["Version"]["Properties"]["CodeSha256"] = json!(null);
        stack.0["Settings"]["Properties"]["Content"] = json!(null);
        for resource in stack.0.as_object_mut().expect("resources").values_mut() {
            resource["UpdateReplacePolicy"] = json!(null);
        }
    }
    assert_eq!(built.0, released.0);
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn a_canary_moves_callers_and_is_undone_on_alarms() {
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
    // The schedule moves after the callers, so only after a successful canary.
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

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_agents_template_has_a_layer_for_each_archive() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release.sh");
    let script = fs::read_to_string(script).expect("the script");
    assert!(script.contains(r#""token-broker-agent extensions/token-broker-agent""#));
    assert!(script.contains(r#" zip "$dist/$name-$arch.zip" "${program#* }""#));
    let processors = script.lines().find_map(|line| line.strip_prefix("[ $# -gt 0 ] || set -- "));
    let stack = Stack::read("agent");
    let layers = stack.all("AWS::Lambda::LayerVersion");
    let published: Vec<_> = layers
        .values()
        .map(|layer| {
            let [architecture] = many(&layer["CompatibleArchitectures"])[..] else { panic!("{layer}") };
            let architecture = text(architecture);
            let key = format!("token-broker/0.2.0/token-broker-agent-{architecture}.zip");
            assert_eq!(layer["Content"], json!({"S3Bucket": "archives", "S3Key": key}));
            architecture
        })
        .collect();
    assert_eq!(Some(published.join(" ").as_str()), processors);
}
