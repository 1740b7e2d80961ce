//! Runs a plan with its seeds, and checks each run.

use token_broker_simulation::{Checks, Plan, Simulation, Strategy, Tally};

/// Runs a plan with each of its seeds.
pub(crate) fn run(plan: Plan, check: impl Fn(&Checks)) {
    for seed in seeds(plan.runs) {
        let (checks, _) = simulation(plan, seed).broker();
        println!("{}", checks.summary());
        check(&checks);
    }
}

pub(crate) fn simulation(plan: Plan, seed: u64) -> Simulation {
    let command = format!(
        "SIMULATION_SEED={seed} cargo test -p token-broker-simulation --test plans -- --exact {}",
        plan.name
    );
    Simulation { plan, seed, command }
}

fn seeds(runs: u64) -> Vec<u64> {
    match number_from_environment("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number_from_environment("SIMULATION_SEEDS").unwrap_or(runs)).collect(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the developer chooses the seeds")]
fn number_from_environment(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a seed is a number"))
}

/// Runs a plan with the broker, and replays it with each baseline. The data of the charts has to agree with the tally.
pub(crate) fn compare(plan: Plan, check: impl Fn(Strategy, &Checks)) {
    for seed in seeds(plan.runs) {
        let simulation = simulation(plan, seed);
        let (broker, trace) = simulation.broker();
        let requests = broker.tally.requests;
        let baseline = |strategy| (strategy, simulation.baseline(strategy, &trace));
        let baselines = Strategy::BASELINES.into_iter().map(baseline);
        for (strategy, checks) in baselines.chain([(Strategy::Broker, broker)]) {
            let Checks { tally, figures, .. } = &checks;
            println!("{}: {} {:?}", strategy.name(), tally.line(), tally.broken);
            let replayed = tally.requests;
            checks
                .require(replayed == requests, || format!("{replayed} requests, the broker had {requests}"));
            // A few may not have ended when the plan ends.
            let ended = figures.waits_ms.len() as u64 + tally.failed();
            let all_ended = (requests - 5..=requests).contains(&ended);
            checks.require(all_ended, || format!("{ended} of {requests} requests ended"));
            let (drawn, logins) = (figures.logins_by_minute.values().sum::<u32>(), tally.logins());
            checks.require(u64::from(drawn) == logins, || format!("{drawn} logins drawn of {logins}"));
            check(strategy, &checks);
        }
    }
}

/// The figures of seed 1 of the plans with other providers than Convirza.
const OAUTH: &str = include_str!("../../../../docs/simulation/oauth.csv");

/// Runs a plan with another provider, and compares its figures with the documented ones.
pub(crate) fn run_oauth(plan: Plan, check: impl Fn(&Checks)) {
    for seed in seeds(plan.runs) {
        let (checks, _) = simulation(plan, seed).broker();
        println!("{}", checks.summary());
        check(&checks);
        let Tally { requests, sent_within_grace, sent_as_last_resort, grants_ended, .. } = checks.tally;
        let (answered, refreshes) = (100.0 * checks.tally.availability(), checks.tally.refreshes());
        let row = format!(
            "{},{requests},{answered:.2},{refreshes},{sent_within_grace},{sent_as_last_resort},{grants_ended}",
            plan.name
        );
        let documented = seed != 1 || OAUTH.lines().any(|line| line == row);
        checks.require(documented, || format!("docs/simulation/oauth.csv needs the row {row}"));
    }
}
