//! The template as `tests/system.sh template` transforms it.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};
use token_broker::config::{Config, ConfigErrors};

/// A route of an API, and what it invokes.
pub(super) struct Route {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) invokes: String,
    pub(super) waits: Duration,
    pub(super) is_behind_iam: bool,
}

/// The resources of a transformed template.
pub(super) struct Stack(pub(super) Value);

impl Stack {
    pub(super) fn read(name: &str) -> Self {
        let path = format!("{}/target/system/template/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).expect("`tests/system.sh template` transforms the template");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    pub(super) fn resource(&self, name: &str) -> &Value {
        &self.0[name]["Properties"]
    }

    pub(super) fn environment(&self) -> Vec<(&str, String)> {
        let variables = self.resource("BrokerFunction")["Environment"]["Variables"].as_object();
        let text = |value: &Value| match value.as_str() {
            // CloudFormation puts the resource's name there.
            Some(text) => match text.strip_prefix("${").and_then(|name| name.strip_suffix('}')) {
                Some(name) => name.to_owned(),
                None => text.to_owned(),
            },
            None => value.to_string(),
        };
        variables.expect("variables").iter().map(|(name, value)| (name.as_str(), text(value))).collect()
    }

    pub(super) fn config(&self) -> Result<Config, ConfigErrors> {
        config(&self.environment())
    }

    /// Each route of the API.
    pub(super) fn routes(&self) -> Vec<Route> {
        let of_http = self.all("AWS::ApiGatewayV2::Route").into_values().map(|route| {
            assert_eq!(route["Target"], "integrations/${HttpIntegration}");
            let integration = self.resource("HttpIntegration");
            let (method, path) =
                route["RouteKey"].as_str().and_then(|key| key.split_once(' ')).expect("a key");
            Route {
                method: method.to_owned(),
                path: path.to_owned(),
                invokes: text(&integration["IntegrationUri"]),
                waits: milliseconds(&integration["TimeoutInMillis"]),
                is_behind_iam: route["AuthorizationType"] == "AWS_IAM",
            }
        });
        let body = &self.resource("PrivateApi")["Body"];
        let scheme = &body["components"]["securitySchemes"]["AWS_IAM"]["x-amazon-apigateway-authtype"];
        let paths = body["paths"].as_object().into_iter().flatten();
        let of_private = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(move |(method, route)| {
                let integration = &route["x-amazon-apigateway-integration"];
                Route {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    invokes: text(&integration["uri"]),
                    waits: milliseconds(&integration["timeoutInMillis"]),
                    is_behind_iam: route["security"] == json!([{"AWS_IAM": []}]) && scheme == "awsSigv4",
                }
            })
        });
        of_http.chain(of_private).collect()
    }

    /// The resources of a type: their names and properties.
    pub(super) fn all(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let resources = self.0.as_object().expect("resources").iter();
        let of_kind = resources.filter(|(_, resource)| resource["Type"] == kind);
        of_kind.map(|(name, resource)| (name.as_str(), &resource["Properties"])).collect()
    }

    /// The permissions of the function's role: actions and their resources.
    pub(super) fn allowed(&self) -> BTreeSet<(String, String)> {
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
pub(super) fn many(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

pub(super) fn milliseconds(value: &Value) -> Duration {
    Duration::from_millis(value.as_u64().expect("milliseconds"))
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub(super) fn config(variables: &[(&str, String)]) -> Result<Config, ConfigErrors> {
    Config::from_environment(|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone())
    })
}
