//! The program. It reads arguments and environment, and leaves the rest to the library.

use std::{path::Path, process::ExitCode};
use token_broker_agent::{cli::Command, run};
use token_broker_client::Environment;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    let command = match Command::parse(&arguments, environment.get("AWS_LAMBDA_RUNTIME_API").is_some()) {
        Ok(command) => command,
        Err(usage) => {
            // Nothing has been set up that could log.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{usage}\n").as_bytes());
            return ExitCode::from(2);
        }
    };
    // Lambda demands the name of the file as the extension's name.
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or("token-broker-agent");
    // One thread: the agent waits for the network most of the time, and shares the function's processor. Name
    // lookups run on other threads, and each thread would keep memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(command, &environment, name)),
        Err(_) => ExitCode::FAILURE,
    }
}
