//! The function's entry point: wiring only.

use lambda_runtime::{Diagnostic, LambdaEvent};
use std::{cell::RefCell, error::Error, io, process::ExitCode, sync::Arc, time::Duration};
use token_broker::{
    config::{self, Config},
    inbound::{Handler, Payload, Response},
    outbound::{FleetClock, Roots, SystemClock, sdk},
    ports::Clock,
    telemetry::{self, InvocationLog, Style},
    wiring,
};
use tokio::sync::Notify;

/// AWS's emulator, which `sam local` uses, may start the function before its Runtime API listens. So a refused
/// connection is retried for a second.
const CONNECT_TRIES: u32 = 100;
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the log may not be set up, and the process ends here")]
            {
                eprintln!("token-broker: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, lambda_runtime::Error> {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here, once")]
    let lookup = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let read = RefCell::new(Vec::new());
    let config = match Config::from_environment(|name| {
        read.borrow_mut().push(name);
        lookup(name)
    }) {
        Ok(config) => config,
        Err(errors) => {
            report_init_error(lookup("AWS_LAMBDA_RUNTIME_API"), &errors).await;
            return Err(errors.into());
        }
    };
    if lookup("AWS_LAMBDA_RUNTIME_API").is_none() {
        if std::env::args_os().nth(1).is_some_and(|argument| argument == "--check") {
            #[expect(clippy::print_stderr, reason = "this is the answer to the person who runs the check")]
            {
                eprintln!("token-broker: the configuration is valid");
            }
            return Ok(ExitCode::SUCCESS);
        }
        return Err("this program runs inside AWS Lambda; use `cargo local` to run it outside".into());
    }
    telemetry::start(config.log.clone());
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for variable in config::unknown_variables(names, &read.into_inner()) {
        tracing::warn!(variable, "no setting has this name; it has no effect");
    }
    telemetry::hide_panic_texts(|| SystemClock.now());
    let tls = match Roots::from_environment(lookup).tls_config() {
        Ok(tls) => tls,
        Err(error) => {
            report_init_error(lookup("AWS_LAMBDA_RUNTIME_API"), &error).await;
            return Err(error.into());
        }
    };
    let sdk = sdk::load(lookup, tls.clone()).await?;
    let clock = Arc::new(FleetClock::new(config.policy.clock_margin));
    let ports = wiring::ports(&config, [&sdk, &sdk], tls, clock);
    let log = InvocationLog::new(&config.function, config.audit, Style::Json, telemetry::write_to_stdout);
    let handler = wiring::handler(&config, ports).behind(config.aliases).logging_to(log);
    let prefetching = handler.clone();
    tokio::spawn(async move { prefetching.prefetch(&config.prefetch).await });
    for _ in 0..CONNECT_TRIES {
        let ended = Arc::new(Notify::new());
        let worker = Worker { handler: handler.clone(), ended: Arc::clone(&ended) };
        let service = lambda_runtime::service_fn(move |event: LambdaEvent<Payload>| worker.handle(event));
        let result = tokio::select! {
            biased;
            result = lambda_runtime::run_concurrent(service) => result,
            () = ended.notified() => Err("a worker of the Lambda runtime has ended".into()),
        };
        match result {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(error) if is_refused(&*error) => tokio::time::sleep(CONNECT_PAUSE).await,
            Err(_) => break,
        }
    }
    telemetry::runtime_failed(SystemClock.now());
    Ok(ExitCode::FAILURE)
}

/// Held by each worker of the Lambda runtime, and dropped when the worker ends. On Managed Instances, the runtime ends
/// a worker whose call it cannot read, and continues until none is left. We end the instance with the first, so that
/// the caller gets an error and Lambda starts another instance.
#[derive(Clone)]
struct Worker {
    handler: Handler,
    ended: Arc<Notify>,
}

impl Worker {
    fn handle(
        &self,
        event: LambdaEvent<Payload>,
    ) -> impl Future<Output = Result<Response, Diagnostic>> + use<> {
        let handler = self.handler.clone();
        async move { handler.handle(event).await }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

/// Whether nothing listens at the other end.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let io_error = error.downcast_ref::<io::Error>();
    io_error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        || error.source().is_some_and(is_refused)
}

/// Tells Lambda why the function does not start, so that a direct caller reads the same text as the log.
async fn report_init_error(runtime_api: Option<String>, error: &impl std::fmt::Display) {
    let Some(runtime_api) = runtime_api else { return };
    // Lambda gives only host and port, cargo-lambda's emulator a URL.
    let host = runtime_api.strip_prefix("http://").unwrap_or(&runtime_api);
    let body = serde_json::json!({"errorType": "Configuration", "errorMessage": error.to_string()});
    // Lambda's API is on this machine, without TLS. A client that loads certificates would fail if the certificates are
    // the error.
    let Ok(client) = reqwest::Client::builder().no_proxy().tls_certs_only([]).build() else { return };
    let report = client
        .post(format!("http://{host}/2018-06-01/runtime/init/error"))
        .header("lambda-runtime-function-error-type", "Configuration")
        .timeout(Duration::from_secs(2))
        .body(body.to_string());
    // If the report fails, the process still ends and prints the errors to standard error.
    let _ = report.send().await;
}
