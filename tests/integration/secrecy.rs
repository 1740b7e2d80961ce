//! No secret appears in logs, answers, errors or metrics, at the most detailed level and on every path.

use crate::{events, instance, items, lines, panics::start_panicking, world};
use emulators::{
    World,
    aws::{AwsFault, Operations},
    convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Endpoint, Fault, Revoke, V2_CLIENT_SECRET},
    credentials_secret, dynamodb,
    instance::Instance,
    v2_secret,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// A part of the bodies of Convirza's errors and of its answers.
const UPSTREAM_BODIES: [&str; 4] = ["Bad Gateway", "frontend_token", "role_id", "org_unit_id"];
const TELL_TALE: &str = "tell-tale-4711";
const EVERYTHING: (&str, &str) = ("BROKER_LOG", "trace");
/// All accounts, including V2's, have one OAuth host, and so one budget.
const WHOLE_LIMIT: (&str, &str) = ("BROKER_LOGIN_BUDGET", "10");

/// One test's world, and all output of the function in it.
struct Observed {
    world: World,
    secrets: BTreeSet<String>,
    shown: Vec<String>,
    outcomes: BTreeSet<String>,
}

impl Observed {
    async fn start() -> Self {
        let world = world().await;
        world.add_account("emea", "emea@example.invalid", "word-of-emea").await.expect("an account");
        let legacy = v2_secret(&world, DEFAULT_EMAIL, DEFAULT_PASSWORD);
        world.put_secret("legacy", &legacy).await.expect("a version");
        world.put_secret("bad", &json!({"email": TELL_TALE}).to_string()).await.expect("a version");
        let elsewhere =
            json!({"email": TELL_TALE, "password": TELL_TALE, "oauth_url": "https://tell-tale-4711.example"});
        world.put_secret("elsewhere", &elsewhere.to_string()).await.expect("a version");
        world.put_secret("wrong", &credentials_secret(TELL_TALE, TELL_TALE)).await.expect("a version");
        let secrets =
            [DEFAULT_PASSWORD, "word-of-emea", V2_CLIENT_SECRET, TELL_TALE, "EXAMPLE-SESSION-TOKEN"];
        let secrets = secrets.map(str::to_owned).into();
        Self { world, secrets, shown: Vec::new(), outcomes: BTreeSet::new() }
    }

    /// Invokes the function. The token in a token answer is intended, so it does not count as shown.
    async fn invoke(&mut self, instance: &Instance, payload: impl ToString) {
        let mut answer = instance.invoke_through(None, payload).await;
        self.remember_stored_tokens().await;
        if let Ok(answer) = &mut answer {
            if let Some(token) = answer.as_object_mut().and_then(|answer| answer.remove("access_token")) {
                self.secrets.extend(token.as_str().map(str::to_owned));
            }
            if let Some(body) = answer["body"].as_str() {
                let mut body: Value = serde_json::from_str(body).expect("JSON");
                body.as_object_mut().map(|body| body.remove("access_token"));
                answer["body"] = body;
            }
        }
        self.shown.push(format!("{answer:?}"));
    }

    async fn remember_stored_tokens(&mut self) {
        let table = json!({"TableName": self.world.table()});
        let stored = dynamodb::call(&self.world.dynamodb, "Scan", &table).await;
        collect_tokens(&stored.unwrap_or_default(), &mut self.secrets);
    }

    /// Takes the output of an instance, and its environment as other processes may read it.
    async fn end(&mut self, instance: Instance) {
        let id = instance.id().expect("it runs");
        if let Ok(environment) = fs::read(format!("/proc/{id}/environ")) {
            self.shown.push(String::from_utf8_lossy(&environment).into_owned());
        }
        let output = instance.output().await;
        let json = output.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>().join("\n");
        let outcomes = lines::invocations(&json).into_iter();
        self.outcomes.extend(outcomes.filter_map(|line| Some(line["outcome"].as_str()?.to_owned())));
        self.shown.push(output);
    }
}

fn collect_tokens(stored: &Value, secrets: &mut BTreeSet<String>) {
    match stored {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name.ends_with("token") {
                    secrets.extend(value["S"].as_str().map(str::to_owned));
                }
                collect_tokens(value, secrets);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_tokens(item, secrets)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_shows_a_credential_a_token_or_a_body() {
    let mut observed = Observed::start().await;
    tokens_and_operators(&mut observed).await;
    failures(&mut observed).await;
    panics(&mut observed).await;

    let Observed { secrets, shown, outcomes, .. } = observed;
    assert!(secrets.len() > 15, "the credentials, and every token that was ever stored: {}", secrets.len());
    for code in [
        "ok",
        "invalid_request",
        "unsupported_grant_type",
        "access_denied",
        "unknown_account",
        "credentials_rejected",
        "bad_secret",
        "login_budget_exhausted",
        "upstream_rate_limited",
        "upstream_unavailable",
        "store_unavailable",
        "secret_unavailable",
        "misconfigured",
        "internal",
    ] {
        assert!(outcomes.contains(code), "no path led to {code}: {outcomes:?}");
    }
    assert!(shown.iter().any(|text| text.contains("upstream call")), "the diagnostic events are on");
    for text in &shown {
        for secret in secrets.iter().map(String::as_str).chain(UPSTREAM_BODIES) {
            let at = text.find(secret).map(|at| text.get(at.saturating_sub(200)..at));
            assert_eq!(at, None, "a secret is shown after this");
        }
    }
}

/// Logins, refreshes, probes and revocations, direct and over HTTP.
async fn tokens_and_operators(observed: &mut Observed) {
    let rules = json!([
        {"caller": "direct", "accounts": ["*"], "actions": ["*"], "audit": true},
        {"caller": "arn:aws:iam::123456789012:*", "accounts": ["*"], "actions": ["*"]},
    ]);
    let settings = [EVERYTHING, WHOLE_LIMIT, ("BROKER_CALLERS", &rules.to_string())];
    let instance = instance::start(&observed.world, &settings).await;
    for account in ["default", "emea", "legacy"] {
        for action in ["token", "token", "status", "refresh"] {
            observed.invoke(&instance, json!({"action": action, "account": account})).await;
        }
        let generation = items::get(&observed.world, &format!("account#{account}")).await;
        let generation =
            generation["pair"]["M"]["generation"]["N"].as_str().and_then(|text| text.parse::<u64>().ok());
        observed.world.convirza.revoke_all_sessions(Revoke::AccessTokens);
        observed.invoke(&instance, json!({"account": account, "rejected_generation": generation})).await;
        observed.world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(1));
        observed.invoke(&instance, json!({"action": "revoke", "account": account})).await;
        observed.invoke(&instance, json!({"action": "unblock", "account": account})).await;
    }
    observed.invoke(&instance, json!({"action": "maintain"})).await;
    for event in [
        "http-token",
        "http-token-form",
        "http-status",
        "http-refresh",
        "http-revoke",
        "rest-token",
        "url-token",
    ] {
        observed.invoke(&instance, events::read(event)).await;
    }
    observed.end(instance).await;
}

/// Every error.
async fn failures(observed: &mut Observed) {
    let instance = instance::start(&observed.world, &[EVERYTHING, WHOLE_LIMIT]).await;
    let secret_in = |field: &str| json!({field: TELL_TALE, "password": TELL_TALE});
    for payload in [
        TELL_TALE.to_owned(),
        json!(TELL_TALE).to_string(),
        json!({"account": TELL_TALE.to_uppercase()}).to_string(),
        secret_in("action").to_string(),
        json!({"account": "none"}).to_string(),
        json!({"account": "bad"}).to_string(),
        json!({"account": "elsewhere"}).to_string(),
        json!({"account": "wrong"}).to_string(),
        json!({"requestContext": TELL_TALE}).to_string(),
        events::read("http-refresh").to_string(),
    ] {
        observed.invoke(&instance, payload).await;
    }
    let mut form = events::read("http-token-form");
    form["isBase64Encoded"] = json!(false);
    form["body"] = json!(format!("grant_type=password&username=me&password={TELL_TALE}"));
    observed.invoke(&instance, form).await;
    observed.end(instance).await;

    let too_many = Fault::RateLimited { retry_after: Some("90".to_owned()) };
    let faults = [
        Fault::BadGatewayHtml,
        Fault::HtmlSuccess,
        Fault::Truncated,
        Fault::LostReply,
        Fault::Redirect,
        too_many,
    ];
    for fault in faults {
        // Each has its own world, so that neither a cooldown nor the budget hides the fault.
        observed.world = world().await;
        let instance = instance::start(&observed.world, &[EVERYTHING]).await;
        observed.world.convirza.faults().set(Endpoint::Login, fault, Some(1));
        observed.invoke(&instance, json!({})).await;
        observed.end(instance).await;
    }
    let budget = [EVERYTHING, ("BROKER_LOGIN_BUDGET", "1")];
    observed.world = world().await;
    observed.world.add_account("emea", "emea@example.invalid", "word-of-emea").await.expect("an account");
    let instance = instance::start(&observed.world, &budget).await;
    observed.invoke(&instance, json!({})).await;
    observed.invoke(&instance, json!({"account": "emea"})).await;
    for (account, fault) in [("other", AwsFault::Unproven), ("another", AwsFault::AccessDenied)] {
        observed.world.secrets_manager.faults().set(Operations::All, fault, None);
        observed.invoke(&instance, json!({"account": account})).await;
    }
    let mut item = items::get(&observed.world, items::DEFAULT_ACCOUNT).await;
    item["pair"]["M"]["origin"] = json!({"M": {"oauth_url": {"S": "https://tell-tale-4711.example"}}});
    item["pk"] = json!({"S": "account#redirected"});
    items::put(&observed.world, &item).await;
    observed.invoke(&instance, json!({"account": "redirected"})).await;
    observed.remember_stored_tokens().await;
    for (account, fault) in [("emea", AwsFault::Unproven), ("default", AwsFault::AccessDenied)] {
        observed.world.dynamodb.faults().set(Operations::All, fault, None);
        observed.invoke(&instance, json!({"account": account})).await;
    }
    observed.end(instance).await;
}

async fn panics(observed: &mut Observed) {
    observed.world = world().await;
    let environment =
        observed.world.environment().into_iter().chain([(EVERYTHING.0, EVERYTHING.1.to_owned())]);
    let instance = start_panicking(environment.collect()).await;
    observed.invoke(&instance, json!({})).await;
    observed.invoke(&instance, events::read("http-token")).await;
    observed.invoke(&instance, json!({})).await;
    observed.end(instance).await;
}
