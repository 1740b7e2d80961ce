//! `docs/callers.schema.json` describes the caller policies that the function accepts.

use regex_lite::Regex;
use serde_json::{Value, json};
use std::{fs, path::Path};
use token_broker::config::Config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn schema() -> Value {
    let text = fs::read_to_string(root().join("docs/callers.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

/// Whether a value matches a schema. Knows the keywords that the schema uses, and refuses others.
fn matches(schema: &Value, value: &Value) -> bool {
    schema.as_object().expect("a schema").iter().all(|(keyword, argument)| match keyword.as_str() {
        "$schema" | "title" | "description" | "examples" => true,
        "type" => match argument.as_str().expect("a type") {
            "array" => value.is_array(),
            "object" => value.is_object(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            other => panic!("type {other}"),
        },
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| matches(argument, item))),
        "minItems" => {
            value.as_array().is_none_or(|items| items.len() as u64 >= argument.as_u64().expect("a number"))
        }
        "required" => value.as_object().is_none_or(|object| {
            argument
                .as_array()
                .expect("names")
                .iter()
                .all(|name| object.contains_key(name.as_str().expect("a name")))
        }),
        "additionalProperties" => {
            assert_eq!(*argument, json!(false));
            value
                .as_object()
                .is_none_or(|object| object.keys().all(|name| schema["properties"].get(name).is_some()))
        }
        "properties" => value.as_object().is_none_or(|object| {
            object.iter().all(|(name, value)| argument.get(name).is_none_or(|schema| matches(schema, value)))
        }),
        "anyOf" => argument.as_array().expect("schemas").iter().any(|schema| matches(schema, value)),
        "enum" => argument.as_array().expect("values").contains(value),
        "pattern" => value.as_str().is_none_or(|text| {
            Regex::new(argument.as_str().expect("a pattern")).expect("a pattern").is_match(text)
        }),
        other => panic!("keyword {other}"),
    })
}

/// Whether the function starts with this policy.
fn is_accepted(policy: &Value) -> bool {
    let policy = policy.to_string();
    let config = Config::from_environment(|name| match name {
        "BROKER_TABLE" => Some("table".to_owned()),
        "BROKER_CALLERS" => Some(policy.clone()),
        _ => None,
    });
    config.is_ok()
}

/// The policies in the documents and in the template.
fn documented() -> Vec<(String, Value)> {
    let docs =
        fs::read_dir(root().join("docs")).expect("the folder").map(|file| file.expect("a file").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut found = Vec::new();
    for path in pages.chain(["README.md", "template.yaml"].map(|name| root().join(name))) {
        let text = fs::read_to_string(&path).expect("a text");
        let text = text.replace("${AWS::Partition}", "aws").replace("${AWS::AccountId}", "123456789012");
        for (at, _) in text.match_indices("[{\"caller\"") {
            let mut policies = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
            let policy = policies
                .next()
                .expect("a policy")
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((path.display().to_string(), policy));
        }
    }
    found
}

#[test]
fn the_documented_examples_match_the_schema() {
    let schema = schema();
    let examples = schema["examples"].as_array().expect("examples").iter();
    let examples = examples.map(|example| ("the schema".to_owned(), example.clone()));
    let documented = documented();
    assert!(documented.len() > 2, "{documented:?}");
    for (place, policy) in documented.into_iter().chain(examples) {
        assert!(matches(&schema, &policy), "{place}: {policy}");
        assert!(is_accepted(&policy), "{place}: {policy}");
    }
}

#[test]
fn the_schema_and_the_function_agree() {
    let schema = schema();
    let rule = |caller: Value, accounts: Value, actions: Value| json!([{"caller": caller, "accounts": accounts, "actions": actions}]);
    let of = |caller: &str| rule(json!(caller), json!(["*"]), json!(["*"]));
    let here = |resource: &str| of(&format!("arn:aws:iam::123456789012:{resource}"));
    let mut policies = vec![
        json!([]),
        json!({}),
        json!("direct"),
        json!([7]),
        json!([{"caller": "direct"}]),
        json!([{"caller": "direct", "accounts": ["*"], "actions": ["*"], "audit": true}]),
        json!([{"caller": "direct", "accounts": ["*"], "actions": ["*"], "audit": "yes"}]),
        json!([{"caller": "direct", "accounts": ["*"], "actions": ["*"], "note": "x"}]),
        rule(json!("direct"), json!([]), json!(["*"])),
        rule(json!("direct"), json!(["*"]), json!([])),
        rule(json!("direct"), json!("*"), json!(["*"])),
        rule(json!("direct"), json!(["default", "a-1"]), json!(["token", "maintain"])),
        rule(json!("direct"), json!(["Default"]), json!(["token"])),
        rule(json!("direct"), json!(["default"]), json!(["Token"])),
        rule(json!(7), json!(["default"]), json!(["token"])),
    ];
    policies.extend(
        ["direct", "anonymous", "direct:live", "direct:7a", "direct:7", "direct:", "direct:a b", "*"].map(of),
    );
    policies.extend(
        [
            "role/x",
            "role/path/x",
            "role/",
            "role/x*",
            "role/path/x*",
            "role/*",
            "role/a*b",
            "user/x",
            "user/path/x",
            "user/path/*",
            "user/*",
            "user/",
            "root",
            "root/x",
            "group/x",
            "group/*",
            "*",
            "r*",
            "ro*",
            "",
        ]
        .map(here),
    );
    policies.extend(
        [
            "arn:*",
            "arn:aws:iam::*",
            "arn:aws:iam::1:role/x",
            "arn:aws-cn:iam::123456789012:role/x",
            "arn:other:iam::123456789012:role/x",
            "arn:aws:s3:::bucket",
            "arn:aws:sts::123456789012:assumed-role/x/session",
            "arn:aws:sts::123456789012:assumed-role/x",
            "arn:aws:sts::123456789012:assumed-role/x/*",
            "arn:aws:sts::123456789012:federated-user/x",
            "arn:aws:sts::123456789012:federated-user/*",
            "arn:aws:sts::123456789012:federated-user/",
        ]
        .map(of),
    );
    let verdicts: Vec<bool> = policies.iter().map(is_accepted).collect();
    for (policy, accepted) in policies.iter().zip(&verdicts) {
        assert_eq!(matches(&schema, policy), *accepted, "{policy}");
    }
    assert!(verdicts.iter().filter(|accepted| **accepted).count() > 15);
    assert!(verdicts.iter().filter(|accepted| !**accepted).count() > 15);
}
