//! The roles may do what each way in calls, and nothing else.

use super::*;

const TABLE: &str = "as-the-template-makes-it";

/// The operations that each way in causes, in the order of `WAYS`.
const CALLS: [(&str, &[&str]); 4] = [
    ("live", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "secretsmanager:GetSecretValue"]),
    ("http", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "secretsmanager:GetSecretValue"]),
    ("operator", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan", "secretsmanager:GetSecretValue"]),
    ("schedule", &["dynamodb:GetItem", "dynamodb:Scan"]),
];

/// The payloads for an alias. `{}` has to be answered first.
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

    // Lambda itself uses this role to write the logs, and to send the outcome of maintenance.
    let logs = ["events:PutEvents", "logs:CreateLogStream", "logs:PutLogEvents"].map(str::to_owned);
    let expected: BTreeSet<_> = called
        .into_iter()
        .chain(logs)
        .map(|action| {
            let resource = match action.split(':').next() {
                Some("dynamodb") => "${TokenTable.Arn}",
                Some("events") => "arn:aws:events:us-east-1:123456789012:event-bus/default",
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
        let allowed = Stack::read(stack).allowed().into_iter().filter(of_the_code).collect::<BTreeSet<_>>();
        assert_eq!(allowed, expected);
    }
}

/// The AWS operations that an instance calls for the payloads of one way in, on the template's table.
async fn calls_through(stack: &Stack, alias: &str) -> BTreeSet<String> {
    let world = crate::world().await;
    create_table(&world, stack.resource("TokenTable")).await;
    let environment = world.environment().into_iter().chain(stack.environment()).chain([
        ("BROKER_TABLE", TABLE.to_owned()),
        ("BROKER_OAUTH_URL", world.convirza.url()),
        ("BROKER_API_URL", format!("{}/v3", world.convirza.url())),
    ]);
    let instance = instance::start_with(environment).await;
    for payload in payloads(alias) {
        // An error makes calls too.
        drop(instance.invoke_through(Some(alias), payload).await);
    }
    if alias == "live" {
        let record = json!({"TableName": TABLE, "Key": {"pk": {"S": "account#default"}}});
        let record = dynamodb::call(&world.dynamodb, "GetItem", &record).await.expect("an answer");
        let ttl = &stack.resource("TokenTable")["TimeToLiveSpecification"];
        assert!(record["Item"][text(&ttl["AttributeName"])]["N"].is_string(), "{record}");
        assert_eq!(ttl["Enabled"], true);
    }
    let services = [("dynamodb", &world.dynamodb), ("secretsmanager", &world.secrets_manager)];
    let calls = services
        .map(|(name, service)| service.operations().into_iter().map(move |call| format!("{name}:{call}")));
    calls.into_iter().flatten().collect()
}

/// Creates the template's table in the emulated DynamoDB.
async fn create_table(world: &World, properties: &Value) {
    let mut request = json!({"TableName": TABLE});
    for name in ["AttributeDefinitions", "KeySchema", "BillingMode"] {
        request[name] = properties[name].clone();
    }
    dynamodb::call(&world.dynamodb, "CreateTable", &request).await.expect("a table");
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_service_control_policy_exempts_roles_of_the_template() {
    let policy: Value =
        serde_json::from_str(include_str!("../../../docs/service-control-policy.json")).expect("JSON");
    let exempt = policy["Statement"][1]["Condition"]["ArnNotLike"]["aws:PrincipalArn"].to_string();
    for (name, role) in Stack::read(EVERYTHING).all("AWS::IAM::Role") {
        let policies = role["Policies"].to_string();
        let invokes =
            ["ScheduleAlias", ":schedule", "OperatorAlias"].iter().any(|alias| policies.contains(alias));
        assert_eq!(exempt.contains(&format!("role/token-broker-{name}-*")), invokes, "{name}: {exempt}");
    }
}
