//! The program: reads arguments and environment, and leaves the rest to the library.

use std::{path::Path, process::ExitCode};
use token_broker_agent::{cli::Command, run};
use token_broker_client::Environment;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let inside_lambda = environment.get("AWS_LAMBDA_RUNTIME_API").is_some();
    let command = match Command::parse(std::env::args_os(), inside_lambda) {
        Ok(command) => command,
        Err(error) => {
            // Help goes to standard output, errors to standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let program = std::env::args_os().next().unwrap_or_default();
    // Lambda requires the file's name as the extension's name.
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or("token-broker-agent");
    // One thread: the agent mostly waits for the network, and shares the function's processor. Name lookups run on
    // other threads, each of which would hold memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(command, &environment, name)),
        Err(_) => ExitCode::FAILURE,
    }
}
