//! `cargo local fleet`: many brokers on one store under load, each with its own cache.

mod faults;
mod load;
mod report;

use crate::MAX_LIFETIME;
use clap::Args;
use emulators::{Ports, World, convirza::Settings, server::Server};
use faults::Planned;
use indicatif::{ProgressBar, ProgressStyle};
use std::{cell::Cell, error::Error, process::ExitCode, sync::Arc, time::Duration};
use token_broker::inbound::Handler;
use token_broker_local::{
    console::{CALLERS, Console},
    wiring,
};
use tokio::time::Instant;

#[derive(Args)]
pub(crate) struct Options {
    /// The number of independent brokers
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    instances: u32,
    /// The number of requests, to all brokers together
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// How long an access token lives; with faults, 8 by default. The load is then spread over four lifetimes, so that
    /// pairs have to be renewed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(4..=MAX_LIFETIME))]
    token_lifetime: Option<u64>,
    /// A fault to inject once, such as refresh=lost_reply or store=unavailable. May be given several times.
    /// `--fault help` lists all faults
    #[arg(long = "fault", value_name = "WHERE=WHAT")]
    faults: Vec<String>,
    /// The number of random faults, drawn from the seed
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    random_faults: u32,
    /// The console's port. 0: any free port
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Waits until the console is open in a browser, and serves it until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// The seed of all random choices, which makes a run repeatable as far as the machine's timing permits
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Enough for several renewals.
const LIFETIMES: u32 = 4;
/// Faults at a refresh need pairs that are renewed during the run.
const LIFETIME_WITH_FAULTS: Duration = Duration::from_secs(8);
/// The upstream's limit. One account gets half of it, and each fault may cost a login.
const LOGIN_BUDGET: usize = 10;
/// The longest cooldown after a single fault, plus a reserve.
const PATIENCE: Duration = Duration::from_secs(80);

pub(crate) async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let Some(faults) = faults::choose(&options.faults, options.random_faults, options.seed)? else {
        println!("{}", faults::help());
        return Ok(ExitCode::SUCCESS);
    };
    let with_faults = (!faults.is_empty()).then_some(LIFETIME_WITH_FAULTS);
    let lifetime = options.token_lifetime.map(Duration::from_secs).or(with_faults);
    let defaults = Settings::default();
    let settings = Settings { access_lifetime: lifetime.unwrap_or(defaults.access_lifetime), ..defaults };
    let world = Arc::new(World::start(Ports::default(), settings).await?);
    // Shorter than the defaults, so that a fault ends before the run.
    let quick = [
        ("BROKER_UPSTREAM_TIMEOUT_MS", "1000".to_owned()),
        ("BROKER_CLOCK_MARGIN_MS", "500".to_owned()),
        ("BROKER_LEASE_MS", "3000".to_owned()),
        ("BROKER_LOGIN_BUDGET", LOGIN_BUDGET.to_string()),
    ];
    let config = wiring::config(&world, &quick)?;

    let shared = wiring::ports(&world, &config, Arc::new(load::SeededClock::new(options.seed)))?;
    let handlers: Vec<Handler> = (0..options.instances)
        .map(|instance| {
            let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(instance));
            let ports = token_broker::ports::Ports {
                clock: Arc::new(load::SeededClock::new(seed)),
                ..shared.clone()
            };
            wiring::handler(&config, ports)
        })
        .collect();

    let console = Console::new(&world, &config, handlers.iter().take(CALLERS).cloned())?;
    let server = Server::start("the console", options.port, console.routes()).await?;
    if !faults.is_empty() {
        let faults: Vec<_> = faults.iter().map(Planned::to_string).collect();
        println!("Faults, each met once: {}", faults.join(", "));
    }
    if options.watch {
        println!(
            "Open {}/ in a browser: the run starts then, and the page stays until Ctrl-C.",
            server.url()
        );
        console.opened().await;
    }
    let bar = ProgressBar::new(options.requests).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} requests, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let spread = lifetime.map(|lifetime| lifetime * LIFETIMES).unwrap_or_default();
    let begun = Instant::now();
    let last_fault = Cell::new(None);
    let chosen = faults.len() as u64;
    let running = async {
        let outcome = load::run(&handlers, options.requests, spread, options.seed, &bar).await;
        bar.finish_and_clear();
        let faults_left = || chosen.saturating_sub(faults::injected(&world));
        let recovered = load::recover(&handlers, faults_left, PATIENCE).await;
        (outcome, recovered)
    };
    let (outcome, recovered) = tokio::select! {
        // The faults come first, so that the first login can meet one.
        biased;
        never = faults::inject(&world, &faults, spread, |at| last_fault.set(Some(at))) => match never {},
        ended = running => ended,
    };
    // A cooldown is about as long as the failures before it, and logins are stopped for at most a minute.
    let upstream = faults.iter().filter(|fault| matches!(fault, Planned::Upstream(..))).count();
    let stops_logins = upstream > faults::MOST_DRAWN_UPSTREAM || faults.iter().any(Planned::stops_logins);
    let failures_end = last_fault.get().map(|met: Instant| {
        let met = met - begun;
        let pause = met + settings.access_lifetime;
        met + if stops_logins { pause.max(PATIENCE) } else { pause }
    });
    let run = report::Run {
        faults_chosen: chosen,
        recovered,
        failures_end,
        access_lifetime: settings.access_lifetime,
        revocations: console.revocations(),
    };
    let result = report::print(&world, &options, &outcome, &run);
    if options.watch {
        tokio::signal::ctrl_c().await?;
    }
    Ok(result)
}
