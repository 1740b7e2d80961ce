//! `cargo soak [SECONDS [SEED]]`: four processes of the function on one table, with random faults and clocks that step.
//!
//! One process has the right time. The other clocks are wrong, and step every half minute. Calls fail, kills and
//! freezes interrupt requests, and sessions are revoked. Callers try their token at the API, and report it if it is
//! dead. Tokens live for 10 s. At the end, the faults stop, the clocks stay wrong, and every process has to serve
//! again. Needs a C compiler.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a soak measures and prints, and fails by panicking"
)]

mod caller;
mod oauth;
mod process;

use caller::{Caller, Tally};
use emulators::{
    Ports, World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault, Revoke, Settings},
};
use process::Setting;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const PROCESSES: usize = 4;
const TOKEN_LIFE: Duration = Duration::from_secs(10);
const LOGIN_BUDGET: usize = 10;
/// Faults that end by themselves, each for one request.
const UPSTREAM: [&str; 7] =
    ["server_error", "bad_gateway_html", "hang", "lost_reply", "reset", "truncated", "unavailable"];
const AWS: [AwsFault; 7] = [
    AwsFault::Unavailable,
    AwsFault::Throttled,
    AwsFault::EmptySuccess,
    AwsFault::LostReply,
    AwsFault::Slow,
    AwsFault::Reset,
    AwsFault::Hang,
];
/// How far a clock may be off, in seconds.
const OFFSETS: [i64; 7] = [0, 3, -3, 600, -600, 6_600, -6_600];
/// The longest cooldown, and time for a login.
const RECOVERY: Duration = Duration::from_secs(90);

/// The events besides the requests.
#[derive(Default)]
struct Disturbances {
    clock_steps: u64,
    revocations: u64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((command, words)) = words.split_first()
        && command == "oauth"
    {
        return oauth::main(words);
    }
    let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let lasts = Duration::from_secs(numbers.first().copied().unwrap_or(60));
    let seed = numbers.get(1).copied().unwrap_or(1);
    let program = build_function();
    let library = build_clock(&program);
    tokio::runtime::Runtime::new().expect("a runtime").block_on(soak(&program, &library, lasts, seed))
}

/// Builds the function with the profile of this program. Returns its path.
fn build_function() -> PathBuf {
    let folder = std::env::current_exe().expect("this program").parent().expect("its folder").to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--locked", "--bin", "token-broker"])
        .args((!cfg!(debug_assertions)).then_some("--release"));
    assert!(cargo.status().expect("cargo").success(), "the function does not build");
    folder.join("token-broker")
}

/// Builds the clock beside the function.
fn build_clock(program: &Path) -> PathBuf {
    let library = program.with_file_name("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/soak/clock.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("a C compiler").success(), "the clock does not compile");
    library
}

async fn soak(program: &Path, library: &Path, lasts: Duration, seed: u64) -> ExitCode {
    let settings = Settings { access_lifetime: TOKEN_LIFE, ..Settings::default() };
    let world = Arc::new(World::start(Ports::default(), settings).await.expect("the emulated services"));
    world.add_account("emea", "emea@example.invalid", "word").await.expect("an account");
    let tally = Arc::new(Mutex::new(Tally::default()));
    let ends_at = Instant::now() + lasts;
    let mut callers = tokio::task::JoinSet::new();
    let mut clocks = Vec::new();
    for number in 0..PROCESSES {
        let clock = library.with_file_name(format!("clock-{number}-{}", std::process::id()));
        set_clock(&clock, 0);
        let mut environment = world.environment();
        environment.extend([
            ("BROKER_UPSTREAM_TIMEOUT_MS", "1000".to_owned()),
            ("BROKER_LOGIN_BUDGET", LOGIN_BUDGET.to_string()),
            ("BROKER_MEMORY_TTL_SECONDS", "2".to_owned()),
            ("LD_PRELOAD", library.display().to_string()),
            ("CLOCK_OFFSET_FILE", clock.display().to_string()),
        ]);
        clocks.push(clock);
        let chance = fastrand::Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number as u64));
        let setting = Setting {
            program: program.to_owned(),
            environment,
            timeout: Duration::from_secs(30),
            longest_freeze: Duration::from_secs(8),
        };
        let caller = Caller::new(setting, Arc::clone(&world), Arc::clone(&tally), chance);
        callers.spawn(caller.run(ends_at));
    }
    let disturbances = disturb(&world, &clocks, ends_at, fastrand::Rng::with_seed(seed)).await;
    world.convirza.faults().clear();
    world.dynamodb.faults().clear();
    world.secrets_manager.faults().clear();
    let ceased = Instant::now();
    let mut recovered = true;
    while let Some(ended) = callers.join_next().await {
        recovered &= ended.expect("a caller").serves_again(ceased + RECOVERY).await;
    }
    for clock in clocks {
        let _ = std::fs::remove_file(clock);
    }
    let recovered = recovered.then(|| ceased.elapsed());
    report(&world, &tally.lock().unwrap(), &disturbances, recovered, lasts, seed)
}

fn set_clock(path: &Path, offset_s: i64) {
    // In place: the process has mapped the file.
    use std::io::Write;
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("a file");
    file.write_all(&(offset_s * 1_000).to_ne_bytes()).expect("a file");
}

/// Injects faults, revokes sessions and steps clocks until the end.
async fn disturb(
    world: &World,
    clocks: &[PathBuf],
    ends_at: Instant,
    mut chance: fastrand::Rng,
) -> Disturbances {
    let mut done = Disturbances::default();
    let mut tick = 0_u64;
    while Instant::now() < ends_at {
        match chance.u32(..10) {
            0..=2 => {
                let endpoint =
                    chance.choice([Endpoint::Login, Endpoint::Refresh, Endpoint::Refresh, Endpoint::Profile]);
                let fault =
                    chance.choice(UPSTREAM).and_then(|name| Fault::from_name(name, Some("2".to_owned())));
                world.convirza.faults().set(endpoint.unwrap(), fault.unwrap(), Some(1));
            }
            3..=6 => {
                let place = chance.choice([
                    Operations::Reads,
                    Operations::Writes,
                    Operations::WritesOf("login_limiter"),
                ]);
                world.dynamodb.faults().set(place.unwrap(), chance.choice(AWS).unwrap(), Some(1));
            }
            7 => world.secrets_manager.faults().set(Operations::All, chance.choice(AWS).unwrap(), Some(1)),
            8 if tick.is_multiple_of(5) => {
                world
                    .convirza
                    .revoke_all_sessions(chance.choice([Revoke::AccessTokens, Revoke::AllTokens]).unwrap());
                done.revocations += 1;
            }
            _ => {}
        }
        // The first process keeps the right time.
        if tick.is_multiple_of(10) {
            let clock = chance.choice(clocks.iter().skip(1)).unwrap();
            set_clock(clock, chance.choice(OFFSETS).unwrap());
            done.clock_steps += 1;
        }
        tick += 1;
        tokio::time::sleep(Duration::from_millis(chance.u64(500..1_500))).await;
    }
    done
}

fn report(
    world: &World,
    tally: &Tally,
    disturbances: &Disturbances,
    recovered: Option<Duration>,
    lasts: Duration,
    seed: u64,
) -> ExitCode {
    let upstream = world.convirza.observed();
    let faults = [&world.dynamodb, &world.secrets_manager].map(|service| service.counts().faults_injected);
    println!("{PROCESSES} processes, {} s, seed {seed}", lasts.as_secs());
    println!(
        "{} clock steps, {} freezes, {} kills, {} revocations of all sessions",
        disturbances.clock_steps, tally.freezes, tally.kills, disturbances.revocations
    );
    println!(
        "{} faults: {} upstream, {} table, {} secrets",
        upstream.faults_injected + faults[0] + faults[1],
        upstream.faults_injected,
        faults[0],
        faults[1]
    );
    println!("{} requests: {} tokens, {} cut short", tally.requests, tally.tokens, tally.cut_short);
    for (code, count) in &tally.failures {
        println!("  {code}: {count}");
    }
    println!(
        "{} refreshes, {} logins, at most {} in a minute; {} dead tokens reported",
        upstream.refreshes, upstream.logins_arrived, upstream.most_logins_in_a_minute, tally.reports
    );
    println!("longest answer: {:.1} s", tally.longest.as_secs_f64());
    match recovered {
        Some(after) => {
            println!("every process served again {:.1} s after the last fault", after.as_secs_f64());
        }
        None => println!("a process did not serve again within {} s", RECOVERY.as_secs()),
    }
    let broken = [
        ("refresh tokens sent twice", upstream.refresh_tokens_sent_twice),
        ("logins refused by the limit", upstream.logins_limited),
        ("logins beyond the budget", upstream.most_logins_in_a_minute.saturating_sub(LOGIN_BUDGET) as u64),
        ("expired tokens handed out", tally.expired),
        ("generations that fell", tally.fallen),
        ("answers that are neither a token nor a code of the contract", tally.internal),
        ("processes that do not recover", u64::from(recovered.is_none())),
    ];
    for (what, count) in broken {
        println!("{what}: {count}");
    }
    ExitCode::from(u8::from(broken.iter().any(|(_, count)| *count > 0)))
}
