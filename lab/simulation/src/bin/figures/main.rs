//! `cargo figures`: runs every plan with the broker and with each baseline, under the same requests and faults. Writes a
//! table and charts.
//!
//! | module | contents |
//! | --- | --- |
//! | `outcome` | the figures of one plan |
//! | `table` | the figures as a table |
//! | `charts` | one chart for each plan, and one for all |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]
#![allow(clippy::doc_markdown, reason = "the comments of options are their help texts")]

mod charts;
mod outcome;
mod table;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use outcome::Outcome;
use std::{error::Error, fs, path::PathBuf, process::ExitCode};
use token_broker_simulation::{Plan, Simulation, Strategy};

/// Compares the broker with common alternatives in a simulated fleet, and writes a table and charts.
#[derive(Parser)]
#[command(name = "cargo figures", bin_name = "cargo figures")]
struct Options {
    /// The folder for the table and the charts
    #[arg(long, default_value = "target/figures")]
    out: PathBuf,
    /// The seed of the random number generator; one seed gives one run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this plan; may be given several times
    #[arg(long = "plan", value_name = "NAME", value_parser = plan)]
    plans: Vec<Plan>,
    /// The number of instances, instead of the plan's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    instances: Option<u32>,
    /// The number of days, instead of the plan's
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=180))]
    days: Option<u64>,
}

fn plan(name: &str) -> Result<Plan, String> {
    Plan::ALL.into_iter().find(|plan| plan.name == name).ok_or_else(|| {
        let names: Vec<_> = Plan::ALL.iter().map(|plan| plan.name).collect();
        format!("the plans are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let plans = if options.plans.is_empty() { Plan::ALL.to_vec() } else { options.plans.clone() };
    fs::create_dir_all(&options.out)?;
    let runs = (plans.len() * (1 + Strategy::BASELINES.len())) as u64;
    let bar = ProgressBar::new(runs).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} runs, {elapsed_precise}, {eta} left: {msg}",
    )?);
    let mut outcomes = Vec::new();
    for mut plan in plans {
        plan.instances = options.instances.map_or(Ok(plan.instances), usize::try_from)?;
        plan.days = options.days.unwrap_or(plan.days);
        let began = bar.elapsed();
        let outcome = run_all(plan, options.seed, &bar);
        charts::plan(&outcome, &options.out)?;
        let took = bar.elapsed().saturating_sub(began).as_secs_f64();
        bar.suspend(|| println!("{} ({took:.1} s)\n{}\n", table::title(&outcome), table::terminal(&outcome)));
        outcomes.push(outcome);
    }
    charts::overview(&outcomes, &options.out)?;
    fs::write(options.out.join("figures.csv"), table::csv(&outcomes))?;
    bar.finish_and_clear();
    let took = bar.elapsed().as_secs_f64();
    println!("{runs} runs in {took:.0} s; the table and the charts are in {}", options.out.display());
    Ok(())
}

/// Runs a plan with the broker, then with each baseline.
fn run_all(plan: Plan, seed: u64, bar: &ProgressBar) -> Outcome {
    let Plan { name, instances, days, .. } = plan;
    let command = format!("cargo figures --plan {name} --seed {seed} --instances {instances} --days {days}");
    let simulation = Simulation { plan, seed, command };
    let begin = |strategy: Strategy| bar.set_message(format!("{}, {}", table::words(name), strategy.name()));
    begin(Strategy::Broker);
    let (broker, trace) = simulation.broker();
    bar.inc(1);
    let mut runs = Vec::new();
    for strategy in Strategy::BASELINES {
        begin(strategy);
        runs.push((strategy, simulation.baseline(strategy, &trace)));
        bar.inc(1);
    }
    runs.push((Strategy::Broker, broker));
    Outcome::new(plan, seed, runs)
}
