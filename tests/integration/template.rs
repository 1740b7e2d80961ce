//! The template deploys what the code serves, reads and calls.
//!
//! `tests/system.sh template` transforms the template as SAM does, for several choices of parameters, and runs these
//! tests.

use crate::{
    events,
    front::context,
    handler, instance,
    recorder::{Calls, Recorder},
};
use emulators::{World, dynamodb};
use lambda_runtime::LambdaEvent;
use protocol::Timestamp;
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};
use token_broker::{
    config::{Config, ConfigErrors},
    inbound::{
        ROUTES,
        authorization::{Action, Caller},
        command::{self, Command},
        deadline::Entry,
    },
    telemetry::Metric,
};

/// A public API, with the default of every parameter.
const DEFAULTS: &str = "defaults";
/// A private API, with a value for every parameter that may be left empty.
const EVERYTHING: &str = "everything";

/// The resources of a stack.
struct Stack(Value);

impl Stack {
    fn read(name: &str) -> Self {
        let path = format!("{}/target/system/template/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).expect("`tests/system.sh template` transforms the template");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    fn resource(&self, name: &str) -> &Value {
        &self.0[name]["Properties"]
    }

    fn environment(&self) -> Vec<(&str, String)> {
        let variables = self.resource("BrokerFunction")["Environment"]["Variables"].as_object();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        variables.expect("variables").iter().map(|(name, value)| (name.as_str(), text(value))).collect()
    }

    fn config(&self) -> Result<Config, ConfigErrors> {
        config(&self.environment())
    }

    /// The description of the HTTP API, or of the private API.
    fn api(&self) -> &Value {
        let apis = ["HttpApi", "PrivateApi"].map(|name| &self.resource(name)["Body"]);
        apis.into_iter().find(|body| body.is_object()).expect("an API")
    }

    /// Each route of the API: its method, its path, and its settings.
    fn routes(&self) -> Vec<(String, &str, &Value)> {
        let paths = self.api()["paths"].as_object().expect("paths");
        paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.iter().map(move |(method, route)| (method.to_uppercase(), path.as_str(), route))
            })
            .collect()
    }

    /// The resources of a type: their names and properties.
    fn all(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let resources = self.0.as_object().expect("resources").iter();
        let of_kind = resources.filter(|(_, resource)| resource["Type"] == kind);
        of_kind.map(|(name, resource)| (name.as_str(), &resource["Properties"])).collect()
    }

    /// The permissions of the function's role: actions and their resources.
    fn allowed(&self) -> BTreeSet<(String, String)> {
        let inline = self.resource("BrokerRole")["Policies"].as_array().into_iter().flatten();
        let attached = self.all("AWS::IAM::Policy").into_values();
        let attached = attached.filter(|policy| policy["Roles"] == json!(["${BrokerRole}"]));
        let statements =
            inline.chain(attached).flat_map(|policy| many(&policy["PolicyDocument"]["Statement"]));
        statements
            .filter(|statement| statement["Effect"] == "Allow")
            .flat_map(|statement| {
                many(&statement["Action"]).into_iter().flat_map(|action| {
                    many(&statement["Resource"])
                        .into_iter()
                        .map(move |resource| (text(action), text(resource)))
                })
            })
            .collect()
    }
}

/// The elements of a list; a single value counts as a list of one.
fn many(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn config(variables: &[(&str, String)]) -> Result<Config, ConfigErrors> {
    Config::from_environment(|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone())
    })
}

#[tokio::test]
#[ignore = "tests/system.sh template runs it"]
async fn each_api_has_the_handlers_routes_behind_iam() {
    let world = crate::world().await;
    let handler = handler(&world);
    for (stack, event) in [(DEFAULTS, "http-token"), (EVERYTHING, "rest-token")] {
        let stack = Stack::read(stack);
        let routed: BTreeSet<_> =
            stack.routes().into_iter().map(|(method, path, _)| (method, path.to_owned())).collect();
        let paths = ROUTES.iter().map(|(_, action)| action).chain(&Action::ALL);
        let paths = paths.map(|action| format!("/{}", action.name()));
        let paths: BTreeSet<_> = paths.chain(routed.iter().map(|(_, path)| path.clone())).collect();
        let mut served = BTreeSet::new();
        for path in paths {
            for method in ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"] {
                let event = LambdaEvent::new(request(event, method, &path), context());
                let answer = handler.handle(event).await.map(Value::from).expect("an HTTP response");
                if !matches!(answer["statusCode"].as_u64(), Some(404 | 405)) {
                    served.insert((method.to_owned(), path.clone()));
                }
            }
        }
        assert_eq!(routed, served);

        for (method, path, route) in stack.routes() {
            assert_eq!(route["security"], json!([{"AWS_IAM": []}]), "{method} {path}");
            let integration = &route["x-amazon-apigateway-integration"];
            let uri = text(&integration["uri"]);
            assert!(uri.ends_with("/functions/${BrokerFunction.Arn}:http/invocations"), "{uri}");
        }
        let scheme = &stack.api()["components"]["securitySchemes"]["AWS_IAM"];
        assert_eq!(scheme["x-amazon-apigateway-authtype"], "awsSigv4");
    }
}

/// An event of `events/`, with another method and path.
fn request(event: &str, method: &str, path: &str) -> Value {
    let mut event = events::read(event);
    if event["requestContext"]["http"].is_object() {
        event["rawPath"] = path.into();
        event["requestContext"]["http"]["method"] = method.into();
    } else {
        event["path"] = path.into();
        event["httpMethod"] = method.into();
    }
    event
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn exactly_the_variables_that_the_code_reads_are_set() {
    let read = RefCell::new(BTreeSet::new());
    let _ = Config::from_environment(|name| {
        // Lambda itself sets the others.
        if name.starts_with("BROKER_") {
            read.borrow_mut().insert(name.to_owned());
        }
        None
    });
    let stack = Stack::read(EVERYTHING);
    let set: BTreeSet<_> = stack.environment().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(read.into_inner(), set);
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn its_defaults_are_the_codes_and_its_extremes_are_accepted() {
    let stack = Stack::read(DEFAULTS);
    // The template's own: it knows the table, the aliases and the AWS account.
    let own = ["BROKER_TABLE", "BROKER_CALLERS", "BROKER_HTTP_ALIAS", "BROKER_SCHEDULE_ALIAS"];
    let mut variables = stack.environment();
    variables.retain(|(name, _)| own.contains(name));
    assert_eq!(stack.config().expect("a valid configuration"), config(&variables).unwrap());
    for extreme in ["least", "most", EVERYTHING] {
        let accepted = Stack::read(extreme).config();
        assert!(accepted.is_ok(), "{extreme}: {}", accepted.unwrap_err());
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn sam_local_sets_no_alias_and_no_callers() {
    let Stack(variables) = Stack::read("sam-local");
    for variable in ["BROKER_HTTP_ALIAS", "BROKER_SCHEDULE_ALIAS", "BROKER_CALLERS"] {
        // An empty text counts as unset.
        assert_eq!(variables[variable], "", "{variable}");
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn timeouts_fit_the_deadlines_of_the_code() {
    let arrived_at = Timestamp::from_millis(1_000_000);
    let takes = |entry: Entry| entry.deadline(Timestamp::from_millis(0), arrived_at).since(arrived_at);
    for stack in [DEFAULTS, EVERYTHING] {
        let stack = Stack::read(stack);
        let function = stack.resource("BrokerFunction");
        let timeout = Duration::from_secs(function["Timeout"].as_u64().expect("seconds"));
        let direct = takes(Entry::Direct);
        assert!(direct < timeout && timeout < direct + Duration::from_secs(1), "{timeout:?}, {direct:?}");
        for (_, path, route) in stack.routes() {
            let waits = &route["x-amazon-apigateway-integration"]["timeoutInMillis"];
            let waits = Duration::from_millis(waits.as_u64().expect("milliseconds"));
            assert!(waits > takes(Entry::Http) && waits < timeout, "{path}: {waits:?}");
        }
        assert_eq!(
            (&function["Handler"], &function["Runtime"], &function["Architectures"]),
            (&json!("bootstrap"), &json!("provided.al2023"), &json!(["arm64"]))
        );
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_default_callers_are_told_apart_by_alias_and_account() {
    let callers = Stack::read(DEFAULTS).config().expect("a valid configuration").callers;
    let alias = |name: &str| Caller::Direct { alias: Some(name.to_owned()) };
    let role = |account: &str| Caller::Iam { arn: format!("arn:aws:iam::{account}:role/caller") };
    let may = |caller: &Caller| {
        let of_callers = Action::ALL.into_iter().filter(|action| *action != Action::Maintain);
        of_callers.filter(|action| callers.allow(caller, *action, None)).collect::<Vec<_>>()
    };
    let reading = vec![Action::Token, Action::Status];
    assert_eq!(may(&alias("live")), reading);
    assert_eq!(may(&role("123456789012")), reading);
    assert_eq!(may(&alias("operator")).len(), Action::ALL.len() - 1);
    let others = [alias("http"), alias("schedule"), alias("other"), Caller::Direct { alias: None }];
    for other in others.iter().chain([&role("210987654321"), &Caller::Anonymous]) {
        assert_eq!(may(other), [], "{other}");
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn each_way_in_has_its_alias() {
    for (stack, api) in [(DEFAULTS, "${HttpApi}/$default"), (EVERYTHING, "${PrivateApi}/prod")] {
        let stack = Stack::read(stack);
        let aliases: BTreeMap<_, _> = stack
            .all("AWS::Lambda::Alias")
            .into_iter()
            .map(|(resource, alias)| (text(&alias["Name"]), resource))
            .collect();
        let expected = [
            ("http", "HttpAlias"),
            ("live", "LiveAlias"),
            ("operator", "BrokerFunctionAliasoperator"),
            ("schedule", "ScheduleAlias"),
        ];
        assert_eq!(aliases, expected.map(|(name, resource)| (name.to_owned(), resource)).into());
        let environment = stack.environment();
        let variable =
            |wanted: &str| environment.iter().find(|(name, _)| *name == wanted).expect("a value").1.as_str();
        assert_eq!((variable("BROKER_HTTP_ALIAS"), variable("BROKER_SCHEDULE_ALIAS")), ("http", "schedule"));

        // API Gateway may invoke `http`, for each route of this stage and for no other.
        let permissions = stack.all("AWS::Lambda::Permission");
        let sources: BTreeSet<_> = permissions
            .values()
            .map(|permission| {
                assert_eq!(permission["Action"], "lambda:InvokeFunction");
                assert_eq!(permission["FunctionName"], "${HttpAlias}");
                assert_eq!(permission["Principal"], "apigateway.amazonaws.com");
                text(&permission["SourceArn"])
            })
            .collect();
        let routes: BTreeSet<_> = stack
            .routes()
            .into_iter()
            .map(|(method, path, _)| {
                format!("arn:aws:execute-api:us-east-1:123456789012:{api}/{method}{path}")
            })
            .collect();
        assert_eq!(sources, routes);

        // The schedule may invoke `schedule`, and nothing else.
        let target = &stack.resource("MaintenanceSchedule")["Target"];
        assert_eq!(
            (&target["Arn"], &target["RoleArn"]),
            (&json!("${ScheduleAlias}"), &json!("${MaintenanceRole.Arn}"))
        );
        let input = serde_json::from_str(target["Input"].as_str().expect("a text")).expect("JSON");
        assert_eq!(command::from_json(input).ok(), Some(Command::Maintain));
        let statement = &stack.resource("MaintenanceRole")["Policies"][0]["PolicyDocument"]["Statement"];
        let invoking = json!([
            {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "${ScheduleAlias}"}
        ]);
        assert_eq!(*statement, invoking);
    }
}

mod releases {
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
        assert!(changes.len() > 30 && changes.contains_key("code"), "{:?}", changes.keys());
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
            assert_eq!(group["DeploymentConfigName"], "CodeDeployDefault.LambdaCanary10Percent5Minutes");
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
        let provisioned = |alias: &str| {
            stack.resource(alias)["ProvisionedConcurrencyConfig"]["ProvisionedConcurrentExecutions"].clone()
        };
        assert_eq!((provisioned("LiveAlias"), provisioned("HttpAlias")), (json!(2), json!(1)));

        let stack = Stack::read(DEFAULTS);
        for alias in ["LiveAlias", "HttpAlias"] {
            assert!(stack.0[alias]["UpdatePolicy"].is_null(), "{alias}: all at once without a canary");
            assert!(stack.resource(alias)["ProvisionedConcurrencyConfig"].is_null());
        }
    }
}

mod permissions {
    use super::*;

    const TABLE: &str = "as-the-template-makes-it";

    /// The operations that each way in leads to, in the order of `WAYS`.
    const CALLS: [(&str, &[&str]); 4] = [
        ("live", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "secretsmanager:GetSecretValue"]),
        ("http", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "secretsmanager:GetSecretValue"]),
        (
            "operator",
            &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "secretsmanager:GetSecretValue"],
        ),
        ("schedule", &["dynamodb:GetItem", "dynamodb:Scan"]),
    ];

    /// The payloads that come through an alias. `{}` has to be answered first.
    fn payloads(alias: &str) -> Vec<Value> {
        match alias {
            "live" => vec![json!({}), json!({"rejected_generation": 1}), json!({"action": "status"})],
            "http" => {
                let mut of_all = events::read("http-status");
                of_all["rawQueryString"] = "".into();
                of_all["queryStringParameters"] = json!({});
                vec![events::read("http-token"), events::read("rest-token"), of_all]
            }
            "operator" => Action::ALL
                .into_iter()
                .filter(|action| *action != Action::Maintain)
                .flat_map(|action| {
                    let account = |name| json!({"action": action.name(), "account": name});
                    [json!({"action": action.name()}), account("unknown")]
                })
                .collect(),
            _ => vec![json!({"action": "maintain"})],
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "tests/system.sh template runs it"]
    async fn the_role_allows_exactly_what_the_ways_in_call() {
        let stack = Stack::read(DEFAULTS);
        let mut called = BTreeSet::new();
        for (alias, expected) in CALLS {
            let calls = calls_through(&stack, alias).await;
            assert_eq!(calls, expected.iter().map(|call| (*call).to_owned()).collect(), "{alias}");
            called.extend(calls);
        }

        let logs = ["logs:CreateLogStream", "logs:PutLogEvents"].map(str::to_owned);
        let expected: BTreeSet<_> = called
            .into_iter()
            .chain(logs)
            .map(|action| {
                let resource = match action.split(':').next() {
                    Some("dynamodb") => "${TokenTable.Arn}",
                    Some("logs") => "${BrokerLogGroup.Arn}",
                    _ => "arn:aws:secretsmanager:us-east-1:123456789012:secret:token-broker/*",
                };
                (action, resource.to_owned())
            })
            .collect();
        // Keys and the network need more permissions, but none on the table or the secrets.
        let of_the_code =
            |(action, _): &(String, String)| !action.starts_with("kms:") && !action.starts_with("ec2:");
        for stack in [DEFAULTS, EVERYTHING] {
            let allowed =
                Stack::read(stack).allowed().into_iter().filter(of_the_code).collect::<BTreeSet<_>>();
            assert_eq!(allowed, expected);
        }
    }

    /// The operations of AWS that an instance calls for the payloads of one way in, on a table of the template.
    async fn calls_through(stack: &Stack, alias: &str) -> BTreeSet<String> {
        let world = crate::world().await;
        let calls: Arc<Calls> = Arc::default();
        let dynamodb = Recorder::start(&calls, "dynamodb", world.dynamodb.url()).await;
        let secrets_manager = Recorder::start(&calls, "secretsmanager", world.secrets_manager.url()).await;
        create_table(&world, stack.resource("TokenTable")).await;
        let environment = world.environment().into_iter().chain(stack.environment()).chain([
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.url()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager.url()),
            ("BROKER_TABLE", TABLE.to_owned()),
            ("BROKER_OAUTH_URL", world.convirza.url()),
            ("BROKER_API_URL", format!("{}/v3", world.convirza.url())),
        ]);
        let instance = instance::start_with(environment).await;
        for payload in payloads(alias) {
            // Also an error makes its calls.
            drop(instance.invoke_through(Some(alias), payload).await);
        }
        if alias == "live" {
            let record = json!({"TableName": TABLE, "Key": {"pk": {"S": "account#default"}}});
            let record = dynamodb::call(&world.dynamodb, "GetItem", &record).await.expect("an answer");
            let ttl = &stack.resource("TokenTable")["TimeToLiveSpecification"];
            assert!(record["Item"][text(&ttl["AttributeName"])]["N"].is_string(), "{record}");
            assert_eq!(ttl["Enabled"], true);
        }
        let calls = calls.lock().unwrap();
        calls.iter().map(|(service, operation)| format!("{service}:{operation}")).collect()
    }

    /// Creates the template's table in the emulated DynamoDB.
    async fn create_table(world: &World, properties: &Value) {
        let mut request = json!({"TableName": TABLE});
        for name in ["AttributeDefinitions", "KeySchema", "BillingMode"] {
            request[name] = properties[name].clone();
        }
        dynamodb::call(&world.dynamodb, "CreateTable", &request).await.expect("a table");
    }
}

mod encryption {
    use super::{BTreeSet, DEFAULTS, EVERYTHING, Stack, Value, json, many, text};

    const ROLE: &str = "${BrokerRole.Arn}";

    fn statements(stack: &Stack) -> Vec<&Value> {
        many(&stack.resource("Key")["KeyPolicy"]["Statement"])
    }

    /// Whether a statement lets its principal see what the key protects, or pass that on.
    fn opens(statement: &Value) -> bool {
        let actions = many(&statement["Action"]).into_iter().map(text);
        let opening = ["kms:*", "kms:Decrypt", "kms:ReEncrypt*", "kms:CreateGrant", "kms:GenerateDataKey*"];
        actions
            .into_iter()
            .any(|action| opening.contains(&action.as_str()) || action.starts_with("kms:GenerateDataKey"))
    }

    #[test]
    #[ignore = "tests/system.sh template runs it"]
    fn only_the_function_reads_the_table_with_its_key() {
        let stack = Stack::read(DEFAULTS);
        let mut through_dynamodb = BTreeSet::new();
        for statement in statements(&stack) {
            assert_eq!(statement["Effect"], "Allow");
            if !opens(statement) {
                continue;
            }
            let condition = &statement["Condition"];
            let via = condition["StringEquals"]["kms:ViaService"].as_str();
            match via {
                Some("dynamodb.us-east-1.amazonaws.com") => {
                    through_dynamodb.insert(text(&statement["Sid"]));
                    let is_the_function = statement["Principal"] == json!({"AWS": ROLE});
                    let through_cloudformation = condition["ForAnyValue:StringEquals"]
                        == json!({"aws:CalledVia": "cloudformation.amazonaws.com"});
                    assert!(is_the_function || through_cloudformation, "{statement}");
                }
                // The logs' own use of the key opens no table.
                Some("logs.us-east-1.amazonaws.com") => {}
                _ => {
                    assert_eq!(statement["Principal"], json!({"Service": "logs.us-east-1.amazonaws.com"}));
                    let group = text(&condition["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]);
                    assert_eq!(group, "arn:aws:logs:us-east-1:123456789012:log-group:token-broker-*");
                }
            }
        }
        let expected = ["CloudFormationCreatesTheTable", "FunctionReadsTheTable"].map(str::to_owned);
        assert_eq!(through_dynamodb, expected.into());
    }

    #[test]
    #[ignore = "tests/system.sh template runs it"]
    fn administrators_manage_the_key_and_do_not_decrypt() {
        let stack = Stack::read(DEFAULTS);
        let managing = statements(&stack).into_iter().find(|statement| statement["Condition"].is_null());
        let managing = managing.expect("the administrators' statement");
        assert_eq!(managing["Sid"], "AdministratorsManage");
        assert!(!opens(managing), "{managing}");
        let actions: Vec<_> = many(&managing["Action"]).into_iter().map(text).collect();
        for needed in ["kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:DisableKey"] {
            assert!(
                actions.iter().any(|action| action == needed),
                "{needed}: or the key could not be managed"
            );
        }
        assert_eq!(stack.resource("Key")["EnableKeyRotation"], true);
    }

    #[test]
    #[ignore = "tests/system.sh template runs it"]
    fn a_key_may_be_brought_along_or_left_out() {
        let key = |stack: &Stack| stack.resource("TokenTable")["SSESpecification"]["KMSMasterKeyId"].clone();
        let logs = |stack: &Stack| {
            ["BrokerLogGroup", "ApiLogGroup"].map(|group| stack.resource(group)["KmsKeyId"].clone())
        };
        let default = Stack::read(DEFAULTS);
        assert_eq!(
            (key(&default), logs(&default)),
            (json!("${Key.Arn}"), ["${Key.Arn}", "${Key.Arn}"].map(Value::from))
        );

        let brought = Stack::read(EVERYTHING);
        let given = |of: &str| json!(format!("arn:aws:kms:us-east-1:123456789012:key/of-the-{of}"));
        assert!(brought.0["Key"].is_null());
        assert_eq!((key(&brought), logs(&brought)), (given("table"), [given("logs"), given("logs")]));

        let without = Stack::read("changes/CreateKey");
        assert!(without.0["Key"].is_null());
        assert_eq!((key(&without), logs(&without)), (Value::Null, [Value::Null, Value::Null]));
        for stack in [default, brought, without] {
            assert_eq!(stack.resource("TokenTable")["SSESpecification"]["SSEEnabled"], true);
        }
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_api_and_the_function_bound_what_callers_can_use() {
    for stack in [DEFAULTS, EVERYTHING] {
        let stack = Stack::read(stack);
        let http =
            stack.all("AWS::ApiGatewayV2::Stage").into_values().map(|stage| &stage["DefaultRouteSettings"]);
        let rest = stack.all("AWS::ApiGateway::Stage").into_values().map(|stage| {
            let settings = &stage["MethodSettings"][0];
            assert_eq!((&settings["HttpMethod"], &settings["ResourcePath"]), (&json!("*"), &json!("/*")));
            settings
        });
        let limits: Vec<_> = http.chain(rest).collect();
        let [limits] = limits.as_slice() else { panic!("{limits:?}") };
        let limit = |name: &str| limits[name].as_u64().expect("a number");
        let (rate, burst) = (limit("ThrottlingRateLimit"), limit("ThrottlingBurstLimit"));
        // A request that waits holds an execution for 28 s. An AWS account has 1,000 by default.
        assert!(28 * rate + burst < 1000, "{rate} requests per second and {burst} at once");
    }
    let reserved =
        |stack: &str| Stack::read(stack).resource("BrokerFunction")["ReservedConcurrentExecutions"].clone();
    assert_eq!((reserved(DEFAULTS), reserved(EVERYTHING)), (Value::Null, json!("10")));
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn another_generation_replaces_the_table() {
    let name = |stack: &str| Stack::read(stack).resource("TokenTable")["TableName"].clone();
    assert_eq!(name(DEFAULTS), Value::Null, "CloudFormation chooses it");
    assert_eq!(name("changes/TableGeneration"), "token-broker-tokens-1");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_platform_logs_no_line_of_its_own_per_invocation() {
    let logging = Stack::read(DEFAULTS).resource("BrokerFunction")["LoggingConfig"].clone();
    assert_eq!((&logging["LogFormat"], &logging["SystemLogLevel"]), (&json!("JSON"), &json!("WARN")));
    assert_eq!(logging["ApplicationLogLevel"], "TRACE", "BROKER_LOG decides");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_apis_access_logs_are_json() {
    for (stack, kind) in [(DEFAULTS, "AWS::ApiGatewayV2::Stage"), (EVERYTHING, "AWS::ApiGateway::Stage")] {
        let stack = Stack::read(stack);
        let (_, stage) = stack.all(kind).pop_first().expect("a stage");
        let settings = ["AccessLogSettings", "AccessLogSetting"].map(|name| &stage[name]["Format"]);
        let format = text(settings.into_iter().find(|format| format.is_string()).expect("a format"));
        assert!(!format.contains("messageString"), "that one comes with quotes");
        let filled = format.split("$context.").enumerate().map(|(index, part)| match index {
            0 => part.to_owned(),
            _ => format!("-{}", part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.')),
        });
        let line: Value = serde_json::from_str(&filled.collect::<String>()).expect("JSON");
        assert_eq!(
            (&line["caller"], &line["status"], &line["error"]),
            (&json!("-"), &json!("-"), &json!("-"))
        );
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_agents_layers_are_off_unless_a_bucket_has_its_archives() {
    assert_eq!(Stack::read(DEFAULTS).all("AWS::Lambda::LayerVersion").len(), 0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release.sh");
    let script = fs::read_to_string(script).expect("the script");
    assert!(script.contains(r#"programs+=("token-broker-agent extensions/token-broker-agent")"#));
    assert!(script.contains(r#"zip "$dist/$name-$arch.zip" "${program#* }""#));
    let processors = script.lines().find_map(|line| line.strip_prefix("[ $# -gt 0 ] || set -- "));
    let everything = Stack::read(EVERYTHING);
    let layers = everything.all("AWS::Lambda::LayerVersion");
    let published: Vec<_> = layers
        .values()
        .map(|layer| {
            let [architecture] = many(&layer["CompatibleArchitectures"])[..] else { panic!("{layer}") };
            let architecture = text(architecture);
            let key = format!("token-broker/token-broker-agent-{architecture}.zip");
            assert_eq!(layer["Content"], json!({"S3Bucket": "archives", "S3Key": key}));
            architecture
        })
        .collect();
    assert_eq!(Some(published.join(" ").as_str()), processors, "a layer for each archive");
}

/// The texts of all Rust files of a directory.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => sources(&path),
            Some("rs") => fs::read_to_string(&path).expect("a text"),
            _ => String::new(),
        })
        .collect()
}

#[test]
fn each_promise_of_the_security_page_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: String = ["src", "tests/integration"].map(|directory| sources(&root.join(directory))).concat();
    let page = fs::read_to_string(root.join("docs/SECURITY.md")).expect("the page");
    let promises = page.split("\n## ").find(|section| section.starts_with("Promises")).expect("the promises");
    let rows: Vec<_> = promises.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 15, "{}", rows.len());
    for row in rows {
        let (_, named) = row.trim_end_matches(" |").rsplit_once("| ").expect("two columns");
        for test in named.split('`').skip(1).step_by(2) {
            let name = test.rsplit("::").next().expect("a name");
            assert!(tests.contains(&format!("fn {name}()")), "there is no test {test}");
        }
    }
}

mod alarms {
    use super::{BTreeMap, BTreeSet, DEFAULTS, EVERYTHING, Metric, Stack, Value, fs, json, many, text};

    /// The metrics of AWS that the template may name, with the dimensions that AWS gives them.
    const OF_AWS: [(&str, &str, &[&str]); 11] = [
        ("AWS/Lambda", "Errors", &["FunctionName"]),
        ("AWS/Lambda", "Throttles", &["FunctionName"]),
        ("AWS/Lambda", "Duration", &["FunctionName"]),
        ("AWS/Lambda", "ConcurrentExecutions", &["FunctionName"]),
        ("AWS/Lambda", "Invocations", &["FunctionName", "Resource"]),
        ("AWS/Lambda", "Errors", &["FunctionName", "Resource"]),
        ("AWS/DynamoDB", "ReadThrottleEvents", &["TableName"]),
        ("AWS/DynamoDB", "WriteThrottleEvents", &["TableName"]),
        ("AWS/ApiGateway", "Count", &["ApiId"]),
        ("AWS/ApiGateway", "5xx", &["ApiId"]),
        ("AWS/ApiGateway", "Count", &["ApiName", "Stage"]),
    ];
    const OF_AWS_PRIVATE: (&str, &str, &[&str]) = ("AWS/ApiGateway", "5XXError", &["ApiName", "Stage"]);

    /// The alarms, each with its page and the treatment of missing data.
    const ALARMS: [(&str, &str, &str); 10] = [
        ("CallersRefusedAlarm", "callers-refused", "notBreaching"),
        ("CredentialsRejectedAlarm", "credentials-rejected", "notBreaching"),
        ("DurationAlarm", "duration", "notBreaching"),
        ("FunctionErrorsAlarm", "function-errors", "notBreaching"),
        ("LoginPermitsAlarm", "login-permits", "notBreaching"),
        ("MaintenanceAlarm", "maintenance", "breaching"),
        ("MassRevocationAlarm", "mass-revocation", "notBreaching"),
        ("RefreshTokenAlarm", "refresh-token", "ignore"),
        ("TableThrottlesAlarm", "table-throttles", "notBreaching"),
        ("ThrottlesAlarm", "throttles", "notBreaching"),
    ];

    /// A metric as CloudWatch knows it: namespace, name, and the names of its dimensions.
    type Named = (String, String, Vec<String>);

    /// The metrics that the broker and AWS publish.
    fn published() -> BTreeSet<Named> {
        let own = |metric: Metric, dimensions: &[&str]| named("TokenBroker", metric.name(), dimensions);
        let by_function = Metric::ALL.map(|metric| own(metric, &["Function"]));
        let by_account = Metric::ALL.into_iter().filter(|metric| metric.is_by_account());
        let by_account = by_account.map(|metric| own(metric, &["Account", "Function"]));
        let of_aws = OF_AWS.into_iter().chain([OF_AWS_PRIVATE]);
        let of_aws = of_aws.map(|(namespace, name, dimensions)| named(namespace, name, dimensions));
        by_function.into_iter().chain(by_account).chain(of_aws).collect()
    }

    fn named(namespace: &str, name: &str, dimensions: &[&str]) -> Named {
        let dimensions = dimensions.iter().map(|name| (*name).to_owned()).collect();
        (namespace.to_owned(), name.to_owned(), dimensions)
    }

    /// The metrics that an alarm watches.
    fn watched(alarm: &Value) -> Vec<Named> {
        let of = |metric: &Value| {
            let dimensions = many(&metric["Dimensions"]);
            let mut dimensions: Vec<_> =
                dimensions.into_iter().map(|dimension| text(&dimension["Name"])).collect();
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
    fn each_names_its_runbook_and_treats_silence_as_it_should() {
        let stack = Stack::read(DEFAULTS);
        let alarms = stack.all("AWS::CloudWatch::Alarm");
        let expected: BTreeMap<_, _> = ALARMS.map(|(name, page, missing)| (name, (page, missing))).into();
        assert_eq!(alarms.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, alarm) in alarms {
            let (page, missing) = expected[name];
            let description = text(&alarm["AlarmDescription"]);
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
        let pages =
            fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks")).expect("the runbooks");
        assert_eq!(pages.count(), ALARMS.len(), "a page for each alarm, and no other");
    }

    #[test]
    #[ignore = "tests/system.sh template runs it"]
    fn maintenance_is_missed_only_where_there_is_any() {
        assert!(Stack::read("changes/MaintenanceState").0["MaintenanceAlarm"].is_null());
        let topic = Stack::read(EVERYTHING).resource("MaintenanceAlarm")["AlarmActions"].clone();
        assert_eq!(topic, json!(["arn:aws:sns:us-east-1:123456789012:alarms"]));
    }

    /// The metrics of a graph: lines of namespace, name, dimensions and options, or a search by account.
    fn drawn(line: &Value) -> Named {
        let parts = line.as_array().expect("a list");
        if let Some(expression) = parts[0]["expression"].as_str() {
            let schema =
                expression.split(['{', '}']).nth(1).expect("a schema").split(',').collect::<Vec<_>>();
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
        for stack in [DEFAULTS, EVERYTHING] {
            let stack = Stack::read(stack);
            let body: Value =
                serde_json::from_str(&text(&stack.resource("Dashboard")["DashboardBody"])).expect("JSON");
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

            let shown: BTreeSet<_> =
                many(&widgets[0]["properties"]["alarms"]).into_iter().map(text).collect();
            let alarms = stack.all("AWS::CloudWatch::Alarm");
            assert_eq!(shown, alarms.keys().map(|name| format!("${{{name}.Arn}}")).collect());

            let titles: Vec<_> =
                widgets.iter().filter_map(|widget| widget["properties"]["markdown"].as_str()).collect();
            let order = ["served", "limit", "account", "slow"];
            assert_eq!(titles.len(), order.len());
            assert!(titles.iter().zip(order).all(|(title, word)| title.contains(word)), "{titles:?}");
        }
    }
}
