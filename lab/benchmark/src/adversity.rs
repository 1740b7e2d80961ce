//! Half-broken dependencies and lying callers, against several processes of the function. Unlike the tests, this lets real
//! minutes pass.

use emulators::{
    Ports, World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault, Settings},
    instance::Instance,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const PROCESSES: usize = 4;

/// Measures, and prints one line for each figure.
pub(crate) fn measure(broker: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        presses(broker).await;
        refused_writes(broker).await;
        slow_limiter(broker).await;
        refused_logins(broker, Fault::BadRequest).await;
        refused_logins(broker, Fault::Forbidden).await;
        lies(broker).await;
    });
}

async fn start(broker: &Path) -> (World, Vec<Instance>) {
    let world = World::start(Ports::default(), Settings::default()).await.expect("the emulated services");
    world.add_account("emea", "emea@example.invalid", "word").await.expect("an account");
    let mut instances = Vec::new();
    for _ in 0..PROCESSES {
        instances.push(Instance::start_program(broker, &[], world.environment()).await);
    }
    (world, instances)
}

/// An operator who presses 40 times in 3 s, at one process after another.
async fn presses(broker: &Path) {
    let (world, instances) = start(broker).await;
    instances[0].invoke(json!({})).await.expect("a token");
    for press in 0..40 {
        instances[press % PROCESSES].invoke(json!({"action": "refresh"})).await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(75)).await;
    }
    println!("40 presses of refresh in 3 s: {} refreshes", world.convirza.observed().refreshes);
}

/// The table refuses writes, and answers reads.
async fn refused_writes(broker: &Path) {
    let (world, instances) = start(broker).await;
    let first = instances[0].invoke(json!({})).await.expect("a token");
    world.dynamodb.faults().set(Operations::Writes, AwsFault::AccessDenied, None);
    let before = world.dynamodb.counts().writes;
    for (what, payload) in [
        ("a report of a dead token", json!({"rejected_generation": first["generation"]})),
        ("the same again", json!({"rejected_generation": first["generation"]})),
        ("nothing usable", json!({"account": "emea"})),
        ("the same again", json!({"account": "emea"})),
    ] {
        let began = Instant::now();
        let outcome = match instances[1].invoke(payload).await {
            Ok(_) => "a token".to_owned(),
            Err(error) => error["errorType"].to_string(),
        };
        let writes = world.dynamodb.counts().writes - before;
        println!("writes refused, {what}: {outcome} after {:.1?}, {writes} writes so far", began.elapsed());
    }
}

/// Writes of the login limiter are answered later than the broker waits for them. Every process needs a login.
async fn slow_limiter(broker: &Path) {
    let (world, instances) = start(broker).await;
    world.dynamodb.faults().set(Operations::WritesOf("login_limiter"), AwsFault::Slow, None);
    let began = Instant::now();
    let requests = instances.iter().map(|instance| instance.invoke(json!({})));
    let outcomes = futures_util::future::join_all(requests).await;
    let (elapsed, logins) = (began.elapsed(), world.convirza.observed().logins_arrived);
    let tokens = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    println!(
        "slow writes of the limiter: {tokens} of {PROCESSES} requests got a token, the last after {elapsed:.1?}; {} permits, {logins} logins",
        permits(&instances[0]).await
    );
    world.dynamodb.faults().clear();
    let began = Instant::now();
    for instance in &instances {
        while instance.invoke(json!({})).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    println!("  once they are fast again: every process has a token after {:.1?}", began.elapsed());
}

async fn permits(instance: &Instance) -> Value {
    let status = instance.invoke(json!({"action": "status"})).await.expect("the status");
    status["login_limiter"]["permits"].clone()
}

/// Logins are answered with 400 or 403 for three minutes, while all processes go on asking.
async fn refused_logins(broker: &Path, fault: Fault) {
    let (world, instances) = start(broker).await;
    let name = fault.name();
    world.convirza.faults().set(Endpoint::Login, fault, None);
    let (began, mut round) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_mins(3) {
        let error = instances[round % PROCESSES].invoke(json!({})).await.expect_err("no token");
        assert_eq!(error["errorType"], "upstream_unavailable", "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        round += 1;
    }
    let logins = world.convirza.observed().logins_arrived;
    world.convirza.faults().clear();
    let status = instances[0].invoke(json!({"action": "status"})).await.expect("the status");
    let rejected = &status["accounts"][0]["rejected_secret_version"];
    let began = Instant::now();
    instances[0].invoke(json!({"action": "unblock"})).await.expect("an answer");
    instances[1].invoke(json!({})).await.expect("a token");
    println!(
        "logins answered with {name} for 3 min: {round} requests, {logins} logins, rejected secret {rejected}; \
         a token {:.1?} after `unblock`",
        began.elapsed()
    );
}

/// Every caller reports every generation, and every probe is answered with 401.
async fn lies(broker: &Path) {
    let (world, instances) = start(broker).await;
    world.convirza.faults().set(Endpoint::Profile, Fault::WrongPassword, None);
    let mut generation = instances[0].invoke(json!({})).await.expect("a token")["generation"].clone();
    instances[1].invoke(json!({"account": "emea"})).await.expect("a token");
    let (began, mut unserved) = (Instant::now(), 0);
    let issued_at_first = world.convirza.observed().issued_pairs;
    let mut issued_soon = None;
    for round in 0.. {
        let elapsed = began.elapsed();
        if elapsed > Duration::from_secs(90) && issued_soon.is_none() {
            issued_soon = Some(world.convirza.observed().issued_pairs - issued_at_first);
        }
        if elapsed > Duration::from_mins(6) {
            break;
        }
        let lie = json!({"rejected_generation": generation});
        match instances[round % PROCESSES].invoke(lie).await {
            Ok(answer) => generation = answer["generation"].clone(),
            Err(_) => unserved += 1,
        }
        let other: Result<Value, Value> =
            instances[(round + 1) % PROCESSES].invoke(json!({"account": "emea"})).await;
        unserved += u64::from(other.is_err());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let observed = world.convirza.observed();
    println!(
        "lying callers and probes: {} renewals in 90 s, {} in 6 min, {} logins in all, {unserved} requests unserved",
        issued_soon.unwrap_or_default(),
        observed.issued_pairs - issued_at_first,
        observed.logins_arrived
    );
}
