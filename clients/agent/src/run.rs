//! Runs a command.

use crate::{
    Agent, Listening, Settings,
    cli::Command,
    extension::Extension,
    log::{Level, log},
    operator::{self, misconfigured},
    settings,
};
use contract::Action;
use std::{process::ExitCode, sync::Arc, time::Duration};
use token_broker_client::{Environment, Error, Limits, SystemClock, TokenSource, http::HttpClient};
use tokio::signal::unix::{SignalKind, signal};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Containers are killed 10 s after SIGTERM, or later.
const DRAIN: Duration = Duration::from_secs(8);
/// Lambda gives all extensions together 2 s.
const EXTENSION_DRAIN: Duration = Duration::from_millis(500);

/// Runs a command, and returns the process's exit code: 0, 1 after a failure, or 2 for a wrong configuration.
pub async fn run(command: Command, environment: &Environment, program: &str) -> ExitCode {
    let action = |action, account| operator::call(environment, operator::action(action, account, false));
    match command {
        Command::Extension => serve(environment, Some(program)).await,
        Command::Serve => serve(environment, None).await,
        Command::Token { wanted, rejected_generation, raw: false } => {
            operator::call(environment, wanted.call(rejected_generation)).await
        }
        Command::Token { wanted, rejected_generation, raw: true } => {
            operator::raw_token(environment, wanted.call(rejected_generation)).await
        }
        Command::Status(account) => action(Action::Status, account).await,
        Command::Refresh(account) => action(Action::Refresh, account).await,
        Command::Unblock(account) => action(Action::Unblock, account).await,
        Command::Revoke { account, confirm } => {
            operator::call(environment, operator::action(Action::Revoke, account, confirm)).await
        }
        Command::Exec { wanted, env, command } => {
            operator::exec(environment, wanted.call(None), &env, &command).await
        }
        Command::Health { ready } => operator::health(environment, ready).await,
    }
}

/// Serves as a sidecar, or as an extension if there is a name to register.
async fn serve(environment: &Environment, extension: Option<&str>) -> ExitCode {
    let (settings, broker) = match (Settings::parse(environment), settings::broker(environment)) {
        (Ok(settings), Ok(broker)) => (settings, broker),
        (settings, broker) => {
            let faults =
                [settings.err(), broker.err()].into_iter().flatten().map(|faults| faults.to_string());
            return misconfigured(&faults.collect::<Vec<_>>().join("; "));
        }
    };
    let listening = match Listening::on(settings.port).await {
        Ok(listening) => listening,
        Err(error) => {
            return misconfigured(&format!("cannot listen on 127.0.0.1:{}: {error}", settings.port));
        }
    };
    for warning in &settings.warnings {
        log(Level::Warn, warning, &[]);
    }
    let address = listening.address();
    let http = HttpClient::new(SystemClock, environment.roots(), CONNECT_TIMEOUT);
    let source = TokenSource::with(broker, SystemClock, Limits::default());
    let agent = Arc::new(Agent::new(&settings, source.clone(), http.clone()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let drain = if extension.is_some() { EXTENSION_DRAIN } else { DRAIN };
    let until = async {
        let _either_way = stopped.await;
    };
    let server = tokio::spawn(listening.serve(agent, until, drain));
    log(Level::Info, "serving", &[("address", address.to_string().into())]);
    let ended = match extension {
        Some(name) => be_extension(environment, name, http, &settings, &source).await,
        None => {
            keep_fresh(&settings, &source);
            until_signal().await
        }
    };
    drop(stop);
    let _ = server.await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(Level::Error, &error, &[]);
            ExitCode::FAILURE
        }
    }
}

/// The port is already open, because an initialised function may call at once.
async fn be_extension(
    environment: &Environment,
    name: &str,
    http: HttpClient,
    settings: &Settings,
    source: &TokenSource,
) -> Result<(), String> {
    let runtime_api = environment.get("AWS_LAMBDA_RUNTIME_API").unwrap_or_default();
    let extension = Extension::register(http, runtime_api, name).await?;
    keep_fresh(settings, source);
    tokio::select! {
        ended = extension.until_shutdown() => ended,
        ended = until_signal() => ended,
    }
}

fn keep_fresh(settings: &Settings, source: &TokenSource) {
    if !settings.prefetch {
        return;
    }
    for account in settings.accounts.clone() {
        let source = source.clone();
        tokio::spawn(async move {
            let mut failing = false;
            let name = account.to_string();
            // Logs changes only: a broker that is down for hours must not fill the log.
            let observe = |result: &Result<_, Error>| {
                if std::mem::replace(&mut failing, result.is_err()) == result.is_err() {
                    return;
                }
                let account = ("account", name.clone().into());
                match result {
                    Err(error) => {
                        let fields = [account, ("error", error.code().as_str().into())];
                        log(Level::Warn, &error.description(), &fields);
                    }
                    Ok(_) => log(Level::Info, "the broker answers again", &[account]),
                }
            };
            source.keep_fresh(account, observe).await;
        });
    }
}

async fn until_signal() -> Result<(), String> {
    let handler = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
