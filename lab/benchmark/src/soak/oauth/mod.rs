//! `cargo soak oauth ACCOUNTS [GRANTS_URL] [SECONDS [SEED]]`: six processes on one table and a third-party server.
//!
//! `ACCOUNTS` is a JSON file: an object with a secret for each account, as Secrets Manager would hold it. A POST to
//! `GRANTS_URL` returns a `refresh_token`, as a person would obtain it; without it, the secrets need their own, and a
//! lost grant stays lost. Token requests go through a proxy that delays them, loses replies, answers 503 before or
//! after the server has acted, refuses connections, and has the sender killed. Afterwards the record must show that no
//! refresh token was sent again against the rules of PROTOCOL.md, no grant was lost without need, and no caller was
//! refused while a token was usable.

mod caller;
mod judge;
mod proxy;
mod record;

use crate::{AWS, RECOVERY, build_function, process::Setting};
use caller::{Caller, Shared, Tally};
use emulators::{Ports, World, aws::Operations, convirza::Settings};
use judge::{GrantRules, Timing, Verdict, judge};
use proxy::{Endpoints, Proxy};
use record::Record;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const PROCESSES: usize = 6;
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(1);
const CLOCK_MARGIN: Duration = Duration::from_millis(500);
/// Short, so that a call that got no reply is settled within the run.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The broker's deadline for a request.
const DEADLINE: Duration = Duration::from_millis(4_700);

/// An account to try.
struct Account {
    name: String,
    /// With the proxy's URLs.
    secret: Value,
    rules: GrantRules,
    /// Where callers try their token: the server itself.
    probe_url: Option<String>,
}

pub(crate) fn main(words: &[String]) -> ExitCode {
    let (numbers, words): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.parse::<u64>().is_ok());
    let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let accounts = words.first().expect("a file with a secret for each account");
    let accounts = std::fs::read(accounts).expect("the file of accounts");
    let accounts: BTreeMap<String, Value> = serde_json::from_slice(&accounts).expect("an object of secrets");
    let lasts = Duration::from_secs(numbers.first().copied().unwrap_or(60));
    let seed = numbers.get(1).copied().unwrap_or(1);
    let program = build_function();
    let trial = Trial { program, accounts, grants_url: words.get(1).copied().cloned(), lasts, seed };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(trial.run())
}

struct Trial {
    program: std::path::PathBuf,
    accounts: BTreeMap<String, Value>,
    grants_url: Option<String>,
    lasts: Duration,
    seed: u64,
}

impl Trial {
    async fn run(self) -> ExitCode {
        let chance =
            |number: u64| fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000).wrapping_add(number));
        let record = Arc::<Mutex<Record>>::default();
        let endpoints =
            self.accounts.iter().map(|(name, secret)| (name.clone(), endpoints(secret))).collect();
        let mut proxy = Proxy::start(endpoints, Arc::clone(&record), chance(100)).await;
        let accounts = self.accounts.iter().map(|(name, secret)| account(name, secret, &proxy)).collect();
        let world = World::start(Ports::default(), Settings::default()).await.expect("the emulated services");
        let environment = environment(&world, &proxy);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let shared = Arc::new(Shared {
            world,
            accounts,
            record: Arc::clone(&record),
            client: client.expect("a client"),
            grants_url: self.grants_url.clone(),
            person: tokio::sync::Mutex::default(),
        });
        let begun = Instant::now();
        for account in &shared.accounts {
            shared.grant(account).await;
        }
        let ends_at = begun + self.lasts;
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..PROCESSES {
            let setting = Setting {
                program: self.program.clone(),
                environment: environment.clone(),
                timeout: FUNCTION_TIMEOUT,
                longest_freeze: Duration::from_secs(4),
            };
            let caller =
                Caller::new(number, setting, Arc::clone(&shared), proxy.kills(), chance(number as u64));
            callers.spawn(caller.run(ends_at));
        }
        let outages = disturb(&shared.world, &mut proxy, &record, ends_at, chance(200)).await;
        proxy.stop_faults();
        shared.world.dynamodb.faults().clear();
        shared.world.secrets_manager.faults().clear();
        let ceased = Instant::now();
        let (mut recovered, mut tallies) = (true, Vec::new());
        while let Some(ended) = callers.join_next().await {
            let mut caller = ended.expect("a caller");
            recovered &= caller.serves_again(ceased + RECOVERY).await;
            tallies.push(caller.tally);
        }
        let rules = shared.accounts.iter().map(|account| (account.name.clone(), account.rules)).collect();
        let timing =
            Timing { upstream_timeout: UPSTREAM_TIMEOUT, clock_margin: CLOCK_MARGIN, deadline: DEADLINE };
        let record = record.lock().unwrap();
        let mut verdict = judge(&record, &rules, timing);
        if !recovered {
            verdict.broken.push(format!("a process did not serve again within {} s", RECOVERY.as_secs()));
        }
        println!("{PROCESSES} processes, {} s, seed {}, {outages} outages", self.lasts.as_secs(), self.seed);
        report(&record, &tallies, &verdict, ceased.elapsed());
        ExitCode::from(u8::from(!verdict.broken.is_empty()))
    }
}

/// The server's URLs behind the proxy's endpoints.
fn endpoints(secret: &Value) -> Endpoints {
    let names = [("token", "token_url"), ("revoke", "revoke_url"), ("probe", "probe_url")];
    names.into_iter().filter_map(|(name, field)| Some((name, secret[field].as_str()?.to_owned()))).collect()
}

/// The account with the proxy's URLs.
fn account(name: &str, secret: &Value, proxy: &Proxy) -> Account {
    let rules = GrantRules {
        by_person: secret["grant"] == "refresh_token",
        resend_within: Duration::from_secs(secret["resend_within_seconds"].as_u64().unwrap_or_default()),
    };
    let mut behind = secret.clone();
    for (endpoint, _) in endpoints(secret) {
        behind[format!("{endpoint}_url")] = format!("http://{}/{name}/{endpoint}", proxy.host()).into();
    }
    let probe_url = secret["probe_url"].as_str().map(str::to_owned);
    Account { name: name.to_owned(), secret: behind, rules, probe_url }
}

fn environment(world: &World, proxy: &Proxy) -> Vec<(&'static str, String)> {
    let mut environment = world.environment();
    let limits = json!({proxy.host(): {"requests": 100, "seconds": 60, "counts": "logins", "per": "host"}});
    environment.extend([
        ("BROKER_UPSTREAM_HOSTS", proxy.host()),
        ("BROKER_UPSTREAM_TIMEOUT_MS", UPSTREAM_TIMEOUT.as_millis().to_string()),
        ("BROKER_CLOCK_MARGIN_MS", CLOCK_MARGIN.as_millis().to_string()),
        ("BROKER_LEASE_MS", "3000".to_owned()),
        ("BROKER_MEMORY_TTL_SECONDS", "2".to_owned()),
        ("BROKER_LOGIN_LIMITS", limits.to_string()),
        ("BROKER_PREFETCH", String::new()),
    ]);
    environment
}

/// Disturbs table, secrets and connections until the end. Returns how often connections were refused.
async fn disturb(
    world: &World,
    proxy: &mut Proxy,
    record: &Mutex<Record>,
    ends_at: Instant,
    mut chance: fastrand::Rng,
) -> usize {
    let mut outages = 0;
    while Instant::now() < ends_at {
        let fault = chance.choice(AWS).unwrap();
        match chance.u32(..10) {
            // Only writes: if a read fails, a caller may be refused although a token is usable.
            0..=1 => {
                world.dynamodb.faults().set(Operations::Writes, fault, Some(1));
                // The last callers may write no more.
                let met = world.dynamodb.faults().met(&Operations::Writes);
                if tokio::time::timeout_at(ends_at.into(), met).await.is_ok() {
                    record.lock().unwrap().table_failures.push(Instant::now());
                }
            }
            2 => world.secrets_manager.faults().set(Operations::All, fault, Some(1)),
            3 => {
                proxy.refuse(Duration::from_millis(chance.u64(100..1_000))).await;
                outages += 1;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(chance.u64(500..1_500))).await;
    }
    outages
}

fn report(record: &Record, tallies: &[Tally], verdict: &Verdict, recovery: Duration) {
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    let mut grants: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for exchange in &record.exchanges {
        if let Some(fault) = exchange.fault {
            *faults.entry(format!("{fault:?}")).or_default() += 1;
        }
        let [requests, carried_out, received] = grants.entry(&exchange.grant).or_default();
        *requests += 1;
        let succeeded = exchange.carried_out.as_ref().is_some_and(|answer| answer.status == 200);
        *carried_out += usize::from(succeeded);
        *received += usize::from(succeeded && exchange.reply.is_some_and(|(_, status)| status == 200));
    }
    println!(
        "{} kills, {} freezes; faults of token requests: {faults:?}",
        sum(|tally| tally.kills),
        sum(|tally| tally.freezes)
    );
    for (grant, [requests, carried_out, received]) in grants {
        println!("{grant}: {requests} requests, {carried_out} carried out, {received} replies passed on");
    }
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for code in record.observations.iter().filter_map(|observation| observation.answer.as_ref().err()) {
        *errors.entry(code).or_default() += 1;
    }
    println!(
        "{} calls: {} tokens, {} cut short, {} reports of a dead token; errors: {errors:?}",
        sum(|tally| tally.requests),
        record.observations.iter().filter(|observation| observation.answer.is_ok()).count(),
        sum(|tally| tally.cut_short),
        sum(|tally| tally.reports),
    );
    let longest = tallies.iter().map(|tally| tally.longest).max().unwrap_or_default();
    println!(
        "longest call: {:.1} s; all served again {:.1} s after the last fault",
        longest.as_secs_f64(),
        recovery.as_secs_f64()
    );
    println!("refresh tokens sent again: {:?}", verdict.resends);
    println!("grants lost where nothing could keep them: {}", verdict.grants_lost);
    println!("calls without a token while none was usable: {}", verdict.refused);
    println!("broken rules: {}", verdict.broken.len());
    let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in &verdict.broken {
        *broken.entry(rule).or_default() += 1;
    }
    for (rule, times) in broken {
        println!("  {times} times: {rule}");
    }
}
