//! The simulated fleet in figures and pictures: every plan of the simulation, by the broker and by what people
//! do without one, under the same requests and the same faults. Writes a table and charts.
//!
//! `cargo figures`, which is `cargo run --release --no-default-features --example fleet`: the core alone is needed.
//!
//! | module | is about |
//! | --- | --- |
//! | `simulation` | the world and what runs in it; `tests/simulation` judges the same |
//! | [`outcome`] | what is told of one run |
//! | [`table`] | that as a table |
//! | [`charts`] | a picture of each plan, and one of all |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a simulation in which the broker breaks an invariant ends there"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]
#![allow(clippy::doc_markdown, reason = "the comments of options are their help texts")]

mod charts;
mod outcome;
#[path = "../../tests/simulation/fleet/mod.rs"]
mod simulation;
mod table;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use outcome::Outcome;
use simulation::{
    plans::{self, Plan},
    strategy::Strategy,
    world::World,
};
use std::{error::Error, fs, path::PathBuf, process::ExitCode};

/// The simulated fleet in figures and pictures.
#[derive(Parser)]
#[command(name = "cargo figures", bin_name = "cargo figures")]
struct Options {
    /// Where the table and the charts go
    #[arg(long, default_value = "target/fleet")]
    out: PathBuf,
    /// One seed gives one run, to the last event
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this plan; may be given several times
    #[arg(long = "plan", value_name = "NAME", value_parser = plan)]
    plans: Vec<Plan>,
    /// Instances, in place of the plan's own number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    instances: Option<u32>,
    /// Days, in place of the plan's own number
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=180))]
    days: Option<u64>,
}

fn plan(name: &str) -> Result<Plan, String> {
    plans::ALL.into_iter().find(|plan| plan.name == name).ok_or_else(|| {
        let names: Vec<_> = plans::ALL.iter().map(|plan| plan.name).collect();
        format!("the plans are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let chosen = if options.plans.is_empty() { plans::ALL.to_vec() } else { options.plans.clone() };
    fs::create_dir_all(&options.out)?;
    let runs = (chosen.len() * (1 + Strategy::OTHERS.len())) as u64;
    let bar = ProgressBar::new(runs).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} runs, {elapsed_precise}, {eta} left: {msg}",
    )?);
    let mut outcomes = Vec::new();
    for plan in chosen {
        let plan = Plan {
            instances: options.instances.map_or(Ok(plan.instances), usize::try_from)?,
            days: options.days.unwrap_or(plan.days),
            ..plan
        };
        let began = bar.elapsed();
        let outcome = through(plan, options.seed, &bar);
        charts::plan(&outcome, &options.out)?;
        let took = bar.elapsed().saturating_sub(began).as_secs_f64();
        bar.suspend(|| println!("{} ({took:.1} s)\n{}\n", table::title(&outcome), table::terminal(&outcome)));
        outcomes.push(outcome);
    }
    charts::overview(&outcomes, &options.out)?;
    fs::write(options.out.join("table.md"), table::markdown(&outcomes))?;
    bar.finish_and_clear();
    let took = bar.elapsed().as_secs_f64();
    println!("{runs} runs in {took:.0} s; the table and the charts are in {}", options.out.display());
    Ok(())
}

/// What makes a run again, with the numbers that were given in place of the plan's own.
fn command(plan: &Plan, seed: u64) -> String {
    let Plan { name, instances, days, .. } = plan;
    format!("cargo figures --plan {name} --seed {seed} --instances {instances} --days {days}")
}

/// The broker first, and then the others, put through what came upon its fleet.
fn through(plan: Plan, seed: u64, bar: &ProgressBar) -> Outcome {
    let begin =
        |strategy: Strategy| bar.set_message(format!("{}, {}", table::words(plan.name), strategy.name()));
    begin(Strategy::Broker);
    let (broker, script) = World::new(plan, seed).run_recorded();
    bar.inc(1);
    let mut runs = Vec::new();
    for strategy in Strategy::OTHERS {
        begin(strategy);
        runs.push((strategy, World::instead(strategy, plan, seed, &script).run()));
        bar.inc(1);
    }
    runs.push((Strategy::Broker, broker));
    Outcome::new(plan, seed, runs)
}
