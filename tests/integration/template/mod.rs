//! The template deploys what the code serves, reads and calls.
//!
//! `tests/system.sh template` transforms the template as SAM does, for several choices of parameters, and runs these
//! tests.

mod alarms;
mod encryption;
mod permissions;
mod releases;
mod stack;

use crate::{events, front::context, handler, instance};
use contract::{Action, Call};
use emulators::{World, dynamodb};
use lambda_runtime::LambdaEvent;
use protocol::Timestamp;
use serde_json::{Value, json};
use stack::{Route, Stack, config, many, text};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};
use token_broker::{
    config::Config,
    inbound::{authorization::Caller, way_in::WayIn},
    telemetry::Metric,
};

/// A public API, with the default of every parameter.
const DEFAULTS: &str = "defaults";
/// A private API, with a value for every parameter that may be left empty.
const EVERYTHING: &str = "everything";

/// Variables without a parameter: no operator can choose a better value than the code's default.
const LEFT_TO_THE_CODE: [&str; 5] = [
    "BROKER_CLOCK_MARGIN_MS",
    "BROKER_LEASE_MS",
    "BROKER_PREFETCH",
    "BROKER_REFRESH_AHEAD_SECONDS",
    "BROKER_UPSTREAM_TIMEOUT_MS",
];

#[tokio::test]
#[ignore = "tests/system.sh template runs it"]
async fn each_api_has_the_handlers_routes_behind_iam() {
    let world = crate::world().await;
    let handler = handler(&world);
    for (stack, event) in [(DEFAULTS, "http-token"), (EVERYTHING, "rest-token")] {
        let stack = Stack::read(stack);
        let routed: BTreeSet<_> =
            stack.routes().into_iter().map(|route| (route.method, route.path)).collect();
        let paths = Action::ALL.iter().map(|action| format!("/{}", action.name()));
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

        for Route { method, path, invokes, is_behind_iam, .. } in stack.routes() {
            assert!(is_behind_iam, "{method} {path}");
            let alias = ["${HttpAlias}", "/functions/${BrokerFunction.Arn}:http/invocations"];
            assert!(alias.iter().any(|alias| invokes.ends_with(alias)), "{method} {path}: {invokes}");
        }
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
fn every_variable_of_the_code_is_set_or_left_to_it() {
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
    let set_or_left: BTreeSet<_> =
        LEFT_TO_THE_CODE.map(str::to_owned).into_iter().chain(set.clone()).collect();
    assert_eq!(read.into_inner(), set_or_left);
    assert!(LEFT_TO_THE_CODE.iter().all(|name| !set.contains(*name)), "{set:?}");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn its_defaults_are_the_codes_and_its_extremes_are_accepted() {
    let stack = Stack::read(DEFAULTS);
    // Set by the template itself: the table, the aliases and the AWS account.
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
    let takes = |way_in: WayIn| way_in.deadline(Timestamp::from_millis(0), arrived_at).since(arrived_at);
    for stack in [DEFAULTS, EVERYTHING] {
        let stack = Stack::read(stack);
        let function = stack.resource("BrokerFunction");
        let timeout = Duration::from_secs(function["Timeout"].as_u64().expect("seconds"));
        let direct = takes(WayIn::Direct);
        assert!(direct < timeout && timeout < direct + Duration::from_secs(1), "{timeout:?}, {direct:?}");
        for Route { path, waits, .. } in stack.routes() {
            assert!(waits > takes(WayIn::Http) && waits < timeout, "{path}: {waits:?}");
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
    // So that the outcome of maintenance names the accounts.
    assert_eq!(may(&alias("schedule")), [Action::Status]);
    assert_eq!(may(&alias("operator")).len(), Action::ALL.len() - 1);
    let others = ["candidate", "http", "other"].map(alias);
    let others = others.into_iter().chain([Caller::Direct { alias: None }]).collect::<Vec<_>>();
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
            ("candidate", "BrokerFunctionAliascandidate"),
            ("http", "HttpAlias"),
            ("live", "LiveAlias"),
            ("operator", "OperatorAlias"),
            ("schedule", "ScheduleAlias"),
        ];
        assert_eq!(aliases, expected.map(|(name, resource)| (name.to_owned(), resource)).into());
        let environment = stack.environment();
        let variable =
            |wanted: &str| environment.iter().find(|(name, _)| *name == wanted).expect("a value").1.as_str();
        assert_eq!((variable("BROKER_HTTP_ALIAS"), variable("BROKER_SCHEDULE_ALIAS")), ("http", "schedule"));

        // API Gateway may invoke `http` for the routes of this stage only.
        let mut permissions = stack.all("AWS::Lambda::Permission");
        permissions.remove("InvokeFromOrganization");
        let sources: BTreeSet<_> = permissions
            .values()
            .map(|permission| {
                assert_eq!(permission["Action"], "lambda:InvokeFunction");
                assert_eq!(permission["FunctionName"], "${HttpAlias}");
                assert_eq!(permission["Principal"], "apigateway.amazonaws.com");
                // API Gateway does not have to send it, and the ARN has the account.
                assert!(permission["SourceAccount"].is_null());
                text(&permission["SourceArn"])
            })
            .collect();
        let routes: BTreeSet<_> = stack
            .routes()
            .into_iter()
            .map(|route| {
                format!("arn:aws:execute-api:us-east-1:123456789012:{api}/{}{}", route.method, route.path)
            })
            .collect();
        assert_eq!(sources, routes);

        // The schedule may invoke `schedule`, and nothing else.
        let target = &stack.resource("MaintenanceSchedule")["Target"];
        assert_eq!(
            (&target["Arn"], &target["RoleArn"]),
            (&json!("${ScheduleAlias}"), &json!("${MaintenanceRole.Arn}"))
        );
        let input = target["Input"].as_str().expect("a text");
        assert_eq!(Call::from_json(input.as_bytes(), None), Ok(Call::new(Action::Maintain, None)));
        let statement = &stack.resource("MaintenanceRole")["Policies"][0]["PolicyDocument"]["Statement"];
        let invoking = json!([
            {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "${ScheduleAlias}"}
        ]);
        assert_eq!(*statement, invoking);
    }
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn only_a_named_organization_may_reach_live_from_outside() {
    let everything = Stack::read(EVERYTHING);
    let permission = json!({
        "Action": "lambda:InvokeFunction",
        "FunctionName": "${LiveAlias}",
        "Principal": "*",
        "PrincipalOrgID": "o-0123456789",
    });
    assert_eq!(*everything.resource("InvokeFromOrganization"), permission);
    assert!(Stack::read(DEFAULTS).0["InvokeFromOrganization"].is_null());
    let policy = |stack: &Stack| stack.resource("PrivateApi")["Body"]["x-amazon-apigateway-policy"].clone();
    for (stack, organizations) in [(&everything, 1), (&Stack::read("changes/VpcEndpointIds"), 0)] {
        let allowed: Vec<_> = many(&policy(stack)["Statement"])
            .into_iter()
            .filter(|statement| statement["Effect"] == "Allow" && statement["Principal"] == "*")
            .map(|statement| statement["Condition"].clone())
            .collect();
        // Without its second half, an identity of the broker's own account would need no IAM policy.
        let outside = json!({
            "StringEquals": {"aws:PrincipalOrgID": "o-0123456789"},
            "StringNotEquals": {"aws:PrincipalAccount": "123456789012"},
        });
        assert_eq!(allowed, vec![outside; organizations]);
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
fn the_platform_adds_no_log_line_per_invocation() {
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
        assert!(!format.contains("messageString"), "its value already has quotes");
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
