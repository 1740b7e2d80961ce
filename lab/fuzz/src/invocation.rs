//! One invocation of the real handler, and the rules for all of them.

use crate::ports::{ACCESS_TOKEN, KEPT_INSIDE, Memory, RENEWED_TOKEN};
use contract::{Action, ErrorCode};
use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use protocol::{AccountName, Policy};
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, atomic::Ordering::Relaxed};
use token_broker::{
    broker::Broker,
    inbound::{
        Aliases, Handler, Payload,
        authorization::{Callers, Rule, Scope, Who},
    },
    telemetry::{Audit, InvocationLog, LONGEST_LINE, Style},
};

/// The role that may fetch tokens over HTTP.
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/caller";
/// As API Gateway reports a session of that role.
pub(crate) const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/caller/";

pub(crate) struct Invocation {
    pub(crate) result: Result<Value, Diagnostic>,
    pub(crate) lines: Vec<Value>,
    pub(crate) renewals: usize,
    /// Reads, writes and renewals.
    effects: usize,
}

/// The settings of the template: an alias for each way in, and what each may do.
pub(crate) fn deployed() -> (Aliases, Callers) {
    let only = AccountName::parse("default").map(|account| vec![account]).unwrap_or_default();
    let rule = |who, accounts, actions| Rule { who, accounts, actions, audit: false };
    let rules = vec![
        rule(
            Who::DirectAlias("live".to_owned()),
            Scope::These(only.clone()),
            Scope::These(vec![Action::Token, Action::Status]),
        ),
        rule(Who::DirectAlias("operator".to_owned()), Scope::All, Scope::All),
        rule(Who::Arn(ROLE.to_owned()), Scope::These(only), Scope::These(vec![Action::Token])),
    ];
    let aliases = Aliases { http: Some("http".to_owned()), schedule: Some("schedule".to_owned()) };
    (aliases, Callers::Rules(rules))
}

/// Lets the handler answer a payload from an alias. An empty name means no alias.
pub(crate) fn invoke(payload: &[u8], alias: &str, aliases: Aliases, callers: Callers) -> Invocation {
    let memory = Arc::new(Memory::default());
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let written = Arc::clone(&lines);
    let log = InvocationLog::new("token-broker", Audit::All, Style::Json, move |line| {
        written.lock().expect("no other thread").push(line.to_owned());
    });
    let handler =
        Handler::new(Broker::new(Policy::DEFAULT, memory.ports()), callers).behind(aliases).logging_to(log);
    let mut context = Context::default();
    "00000000-0000-4000-8000-000000000001".clone_into(&mut context.request_id);
    let function = "arn:aws:lambda:eu-central-1:123456789012:function:token-broker";
    context.invoked_function_arn =
        if alias.is_empty() { function.to_owned() } else { format!("{function}:{alias}") };
    let text = String::from_utf8_lossy(payload);
    // Deserialized as the runtime does it.
    let mut json = serde_json::Deserializer::from_slice(payload);
    let payload = Payload::deserialize(&mut json).expect("every payload is accepted");
    let answer = handler.handle(LambdaEvent::new(payload, context));
    let result = answer.now_or_never().expect("nothing waits").map(Value::from);
    let lines = lines.lock().expect("no other thread");
    let answer = result.as_ref().map_or_else(|error| error.error_message.clone(), Value::to_string);
    // The fuzzer finds these texts, and names a field like one of them.
    let is_unknown = |secret: &&str| !text.contains(*secret);
    assert_eq!(KEPT_INSIDE.iter().copied().filter(is_unknown).find(|secret| answer.contains(secret)), None);
    let tokens = [ACCESS_TOKEN, RENEWED_TOKEN];
    let secrets: Vec<_> = KEPT_INSIDE.into_iter().chain(tokens).filter(is_unknown).collect();
    let invocation = Invocation {
        lines: lines.iter().map(|line| checked_line(line, &secrets)).collect(),
        result,
        renewals: memory.renewals.load(Relaxed),
        effects: [&memory.reads, &memory.writes, &memory.renewals]
            .map(|count| count.load(Relaxed))
            .iter()
            .sum(),
    };
    invocation.check(alias);
    invocation
}

/// The rules of every line: short, JSON, one line, and no secret.
fn checked_line(line: &str, secrets: &[&str]) -> Value {
    assert!(line.len() <= LONGEST_LINE, "{} bytes", line.len());
    assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
    assert_eq!(secrets.iter().find(|secret| line.contains(**secret)), None);
    serde_json::from_str(line).expect("a line is JSON")
}

impl Invocation {
    /// Checks the rules for every invocation.
    fn check(&self, alias: &str) {
        let line = self.line();
        assert_eq!(line["alias"].as_str().unwrap_or_default(), alias);
        assert!(["direct", "http", "schedule"].contains(&line["entry"].as_str().unwrap_or_default()));
        let code = self.code();
        assert_eq!(line["outcome"], code.as_deref().unwrap_or("ok"), "the log says what was answered");
        let code = code.as_deref().and_then(ErrorCode::parse);
        if code.is_some_and(|code| [400, 403].contains(&code.http_status())) {
            assert_eq!(self.effects, 0, "a refused request does nothing");
        }
        if let Some((status, body)) = self.http() {
            assert!((200..=599).contains(&status));
            assert_eq!(body.get("error").is_some(), status >= 400, "{body}");
        }
    }

    /// The invocation's own line. Maintenance writes further ones, for each account.
    pub(crate) fn line(&self) -> &Value {
        self.lines.first().expect("every invocation has a line")
    }

    /// The status and the body, if the answer is an HTTP response.
    pub(crate) fn http(&self) -> Option<(i64, Value)> {
        let response = self.result.as_ref().ok()?;
        let status = response.get("statusCode")?.as_i64()?;
        let body = response["body"].as_str().expect("a response has a body");
        Some((status, serde_json::from_str(body).expect("a body is JSON")))
    }

    /// The code of the error, if the answer is one.
    pub(crate) fn code(&self) -> Option<String> {
        match (&self.result, self.http()) {
            (Err(error), _) => Some(error.error_type.clone()),
            (Ok(_), Some((_, body))) => body["error"].as_str().map(str::to_owned),
            (Ok(_), None) => None,
        }
    }

    /// Everything that the caller reads.
    pub(crate) fn text(&self) -> String {
        match &self.result {
            Ok(answer) => answer.to_string(),
            Err(error) => error.error_message.clone(),
        }
    }

    /// Asserts that this is a refusal of a direct invoke that does nothing.
    pub(crate) fn assert_denied(&self) {
        let code = self.result.as_ref().err().map(|error| error.error_type.as_str());
        assert_eq!(code, Some(ErrorCode::AccessDenied.as_str()), "{}", self.line());
        assert_eq!(self.line()["entry"], "direct");
    }
}
