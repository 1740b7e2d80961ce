//! The operator's commands: one call to the broker, or one request to the agent on this machine.

use crate::{
    log::{Level, log},
    settings,
};
use contract::{Action, Call, Secret, TokenAnswer, agent::GUARD_HEADERS};
use serde_json::Value;
use std::{ffi::OsString, io::Write, os::unix::process::CommandExt as _, process::ExitCode, time::Duration};
use token_broker_client::{
    BrokerClient, Environment, Error, Reply, SystemClock, TokenSource,
    http::{BaseUrl, HttpClient, collect, empty},
};

/// A live agent answers within milliseconds; if it asks the broker, within the time of a login.
const LONGEST_HEALTH: Duration = Duration::from_secs(25);
const LONGEST_ANSWER: usize = 64 * 1024;

/// Calls the broker and prints its answer.
pub(crate) async fn call(environment: &Environment, call: Call) -> ExitCode {
    match ask(environment, &call).await {
        Ok(reply) => print(reply.expose()),
        Err(code) => code,
    }
}

/// Prints only the token.
pub(crate) async fn raw_token(environment: &Environment, call: Call) -> ExitCode {
    match token(environment, &call).await {
        Ok(token) => print(token.expose().as_bytes()),
        Err(code) => code,
    }
}

/// Becomes the command, with the token in a variable.
pub(crate) async fn exec(
    environment: &Environment,
    call: Call,
    variable: &str,
    line: &[OsString],
) -> ExitCode {
    let Some((program, arguments)) = line.split_first() else { return ExitCode::from(2) };
    let token = match token(environment, &call).await {
        Ok(token) => token,
        Err(code) => return code,
    };
    let mut command = std::process::Command::new(program);
    let error = command.args(arguments).env(variable, token.expose()).exec();
    log(Level::Error, &format!("cannot run {}: {error}", program.display()), &[]);
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Asks the agent that listens on this machine.
pub(crate) async fn health(environment: &Environment, ready: bool) -> ExitCode {
    let asked = tokio::time::timeout(LONGEST_HEALTH, ask_agent(environment, ready)).await;
    match asked.unwrap_or_else(|_| Err("the agent does not answer".to_owned())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log(Level::Error, &why, &[]);
            ExitCode::FAILURE
        }
    }
}

async fn ask_agent(environment: &Environment, ready: bool) -> Result<(), String> {
    let port = settings::port(environment, &mut Vec::new())?;
    let url = BaseUrl::parse(&format!("http://127.0.0.1:{port}")).map_err(|error| error.to_string())?;
    let mut request = http::Request::get(if ready { "/readyz" } else { "/ping" });
    if ready {
        let guard = environment.guard_token().map_err(|error| error.to_string())?;
        request = request.header(GUARD_HEADERS[0], guard.expose());
    }
    let request = request.body(empty()).map_err(|_| "the guard token cannot be sent in a header")?;
    let http = HttpClient::new(SystemClock, environment.roots(), LONGEST_HEALTH);
    let response = http.send(&url.target, request).await.map_err(|error| error.to_string())?;
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status();
    let body = collect(response.into_body(), LONGEST_ANSWER).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = body.get("error_description").and_then(Value::as_str).unwrap_or_default();
    Err(format!("the agent answered HTTP {status}: {why}"))
}

async fn token(environment: &Environment, call: &Call) -> Result<Secret, ExitCode> {
    let reply = ask(environment, call).await?;
    let account = call.account.clone().unwrap_or_default();
    let answer = TokenAnswer::read(reply.expose(), &account).map_err(Error::Unreadable);
    answer.map_err(|error| report(&error))?.access_token.ok_or(ExitCode::FAILURE)
}

async fn ask(environment: &Environment, call: &Call) -> Result<Reply, ExitCode> {
    let broker: BrokerClient =
        settings::broker(environment).map_err(|faults| misconfigured(&faults.to_string()))?;
    TokenSource::new(broker).call(call).await.map_err(|error| report(&error))
}

fn report(error: &Error) -> ExitCode {
    let retry_after = error.retry_after().map(|span| span.as_secs());
    let mut fields = vec![("error", Value::from(error.code().as_str()))];
    fields.extend(retry_after.map(|seconds| ("retry_after", seconds.into())));
    fields.extend(error.request_id().map(|id| ("request_id", id.into())));
    log(Level::Error, &error.description(), &fields);
    ExitCode::FAILURE
}

fn print(text: &[u8]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let newline: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    let printed = out.write_all(text).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The environment is wrong.
pub(crate) fn misconfigured(faults: &str) -> ExitCode {
    log(Level::Error, faults, &[]);
    ExitCode::from(2)
}

/// The call of an operator's action.
pub(crate) fn action(action: Action, account: crate::cli::Account, confirm: bool) -> Call {
    Call { confirm, ..Call::new(action, account.account) }
}
