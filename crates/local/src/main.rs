//! `cargo local`: the broker on emulated services. It needs only Rust.
//!
//! | module | contents |
//! | --- | --- |
//! | `serve` | `cargo local` |
//! | `fleet` | `cargo local fleet` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]
#![allow(clippy::doc_markdown, reason = "the comments of options are their help texts")]

mod fleet;
mod serve;

use clap::{Parser, Subcommand};
use emulators::StartError;
use std::process::ExitCode;

/// The longest life of an access token, in seconds: 30 days.
const MAX_LIFETIME: u64 = 30 * 86_400;

/// Runs the broker and its agent on emulated services, in memory and on loopback.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", version, args_conflicts_with_subcommands = true, after_help = serve::ADDRESSES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many brokers on one store under load, and reports what the upstream saw
    Fleet(fleet::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => serve::run(arguments.serve).await,
        Some(Command::Fleet(options)) => fleet::run(options).await,
    };
    result.unwrap_or_else(|error| {
        eprintln!("cargo local: {error}");
        if let Some(StartError::Listen { .. }) = error.downcast_ref() {
            eprintln!(
                "Stop the process that listens there, or move the ports with --port; 0 takes any free ones."
            );
        }
        ExitCode::FAILURE
    })
}
