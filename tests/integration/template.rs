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
use std::{cell::RefCell, collections::BTreeSet, fs, sync::Arc, time::Duration};
use token_broker::{
    config::{Config, ConfigErrors},
    inbound::{
        ROUTES,
        authorization::Action,
        deadline::Entry,
        payload::{self, Command},
    },
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

    /// The permissions of the function's role: actions and their resources.
    fn allowed(&self) -> BTreeSet<(String, String)> {
        let policies = self.resource("BrokerRole")["Policies"].as_array().expect("policies");
        let statements = policies
            .iter()
            .flat_map(|policy| many(&policy["PolicyDocument"]["Statement"]))
            .inspect(|statement| assert_eq!(statement["Effect"], "Allow"));
        statements
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
async fn each_api_has_the_handlers_routes_behind_iam_and_the_alias() {
    let world = crate::world().await;
    let handler = handler(&world).await;
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
                let answer = handler.handle(event).await.expect("an HTTP response");
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
            assert!(uri.ends_with("/functions/${BrokerFunction.Arn}:live/invocations"), "{uri}");
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
        read.borrow_mut().insert(name.to_owned());
        None
    });
    let stack = Stack::read(EVERYTHING);
    let set: BTreeSet<_> = stack.environment().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(read.into_inner(), set);
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn its_defaults_are_the_codes_and_its_extremes_are_accepted() {
    let table = ("BROKER_TABLE", "${TokenTable}".to_owned());
    assert_eq!(Stack::read(DEFAULTS).config().expect("a valid configuration"), config(&[table]).unwrap());
    for extreme in ["least", "most", EVERYTHING] {
        let accepted = Stack::read(extreme).config();
        assert!(accepted.is_ok(), "{extreme}: {}", accepted.unwrap_err());
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
fn every_invocation_goes_through_the_alias() {
    for (stack, permission, api) in
        [(DEFAULTS, "HttpApiInvoke", "HttpApi"), (EVERYTHING, "PrivateApiInvoke", "PrivateApi")]
    {
        let stack = Stack::read(stack);
        let alias = stack.resource("LiveAlias");
        assert_eq!((&alias["Name"], &alias["FunctionName"]), (&json!("live"), &json!("${BrokerFunction}")));
        let permissions = stack.0.as_object().expect("resources").iter();
        let permissions = permissions.filter(|(_, resource)| resource["Type"] == "AWS::Lambda::Permission");
        assert_eq!(permissions.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [permission]);
        let permission = stack.resource(permission);
        assert_eq!(permission["FunctionName"], "${LiveAlias}");
        assert_eq!(permission["Principal"], "apigateway.amazonaws.com");
        let source = text(&permission["SourceArn"]);
        assert_eq!(source, format!("arn:aws:execute-api:us-east-1:123456789012:${{{api}}}/*"));

        let target = &stack.resource("MaintenanceSchedule")["Target"];
        assert_eq!(target["Arn"], "${LiveAlias}");
        assert_eq!(target["RoleArn"], "${MaintenanceRole.Arn}");
        let input = serde_json::from_str(target["Input"].as_str().expect("a text")).expect("JSON");
        assert_eq!(payload::from_json(input).ok(), Some(Command::Maintain));
        let statement = &stack.resource("MaintenanceRole")["Policies"][0]["PolicyDocument"]["Statement"];
        let invoking = json!([
            {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "${LiveAlias}"}
        ]);
        assert_eq!(*statement, invoking);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/system.sh template runs it"]
async fn the_role_allows_exactly_what_the_function_calls() {
    let stack = Stack::read(DEFAULTS);
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
    let invoke = async |payload: Value| instance.invoke(payload).await.expect("an answer");
    let token = invoke(json!({})).await;
    invoke(json!({"rejected_generation": token["generation"]})).await;
    for action in Action::ALL {
        invoke(json!({"action": action.name()})).await;
        let unknown = instance.invoke(json!({"action": action.name(), "account": "unknown"})).await;
        drop(unknown);
    }

    let calls = calls.lock().unwrap().clone();
    let logs = ["CreateLogStream", "PutLogEvents"].map(|action| format!("logs:{action}"));
    let expected = calls.into_iter().map(|(service, operation)| {
        let resource = match service.as_str() {
            "dynamodb" => "${TokenTable.Arn}",
            _ => "arn:aws:secretsmanager:us-east-1:123456789012:secret:token-broker/*",
        };
        (format!("{service}:{operation}"), resource.to_owned())
    });
    let expected: BTreeSet<_> =
        expected.chain(logs.map(|action| (action, "${BrokerLogGroup.Arn}".to_owned()))).collect();
    assert_eq!(stack.allowed(), expected);

    // The operator's own keys and network need more permissions, but none on the table or the secrets.
    let of_the_code =
        |(action, _): &(String, String)| !action.starts_with("kms:") && !action.starts_with("ec2:");
    let everything =
        Stack::read(EVERYTHING).allowed().into_iter().filter(of_the_code).collect::<BTreeSet<_>>();
    assert_eq!(everything, expected);

    let record = json!({"TableName": TABLE, "Key": {"pk": {"S": "account#default"}}});
    let record = dynamodb::call(&world.dynamodb, "GetItem", &record).await.expect("an answer")["Item"].take();
    let ttl = &stack.resource("TokenTable")["TimeToLiveSpecification"];
    assert!(record[text(&ttl["AttributeName"])]["N"].is_string(), "{record}");
    assert_eq!(ttl["Enabled"], true);
}

const TABLE: &str = "as-the-template-makes-it";

/// Creates the template's table in the emulated DynamoDB.
async fn create_table(world: &World, properties: &Value) {
    let mut request = json!({"TableName": TABLE});
    for name in ["AttributeDefinitions", "KeySchema", "BillingMode"] {
        request[name] = properties[name].clone();
    }
    dynamodb::call(&world.dynamodb, "CreateTable", &request).await.expect("a table");
}
