//! Who may use the keys of table and logs.

use super::{BTreeSet, DEFAULTS, EVERYTHING, Stack, Value, json, many, text};

const ROLE: &str = "${BrokerRole.Arn}";

fn statements(stack: &Stack) -> Vec<&Value> {
    many(&stack.resource("Key")["KeyPolicy"]["Statement"])
}

/// Whether a statement lets its principal decrypt, or grant that to others.
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
            // The logs' use of the key does not open the table.
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
        assert!(actions.iter().any(|action| action == needed), "{needed}: or the key could not be managed");
    }
    assert_eq!(stack.resource("Key")["EnableKeyRotation"], true);
}

#[test]
#[ignore = "tests/system.sh template runs it"]
fn a_key_may_be_supplied_or_omitted() {
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

#[test]
#[ignore = "tests/system.sh template runs it"]
fn the_function_may_write_to_an_encrypted_log_group() {
    for (stack, key) in
        [(DEFAULTS, Some("${Key.Arn}")), (EVERYTHING, Some("of-the-logs")), ("changes/CreateKey", None)]
    {
        let stack = Stack::read(stack);
        let through_logs: Vec<_> = many(&stack.resource("BrokerPermissions")["PolicyDocument"]["Statement"])
            .into_iter()
            .filter(|statement| {
                statement["Condition"]["StringEquals"]["kms:ViaService"] == "logs.us-east-1.amazonaws.com"
            })
            .map(|statement| {
                assert_eq!(statement["Action"], json!(["kms:Decrypt", "kms:GenerateDataKey"]));
                text(&statement["Resource"])
            })
            .collect();
        assert_eq!(through_logs.len(), usize::from(key.is_some()));
        assert!(through_logs.iter().all(|resource| resource.ends_with(key.unwrap_or_default())));
    }
    let stack = Stack::read(DEFAULTS);
    let writing = statements(&stack).into_iter().find(|statement| statement["Sid"] == "FunctionWritesLogs");
    let actions: BTreeSet<_> = many(&writing.expect("a statement")["Action"]).into_iter().map(text).collect();
    assert!(["kms:Decrypt", "kms:GenerateDataKey"].iter().all(|action| actions.contains(*action)));
}
