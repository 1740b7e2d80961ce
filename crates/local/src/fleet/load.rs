//! The load: requests to the brokers' real handlers.

use async_trait::async_trait;
use indicatif::ProgressBar;
use lambda_runtime::LambdaEvent;
use protocol::{Draw, Timestamp};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use token_broker::{inbound::Handler, outbound::SystemClock, ports::Clock};
use token_broker_local::front;
use tokio::{task::JoinSet, time::Instant};

/// Concurrent requests per broker.
const CONCURRENCY: u64 = 4;
/// The pause between two rounds of requests after the run.
const ROUND: Duration = Duration::from_millis(100);

/// The real time, and random numbers from a seed.
pub(super) struct SeededClock(Mutex<fastrand::Rng>);

impl SeededClock {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

#[async_trait]
impl Clock for SeededClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn draw(&self) -> Draw {
        Draw(self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(..))
    }

    async fn sleep_until(&self, until: Timestamp) {
        SystemClock.sleep_until(until).await;
    }
}

/// The callers' results.
#[derive(Default)]
pub(super) struct Outcome {
    /// One for each answer.
    pub(super) latencies: Vec<Duration>,
    /// Requests without a token, by error code.
    pub(super) failures: BTreeMap<String, u64>,
    /// When the last of them was sent, since the start of the run.
    pub(super) last_failure: Option<Duration>,
    /// The duration of the whole run.
    pub(super) elapsed: Duration,
}

/// Sends the requests, as fast as possible or spread over a time.
pub(super) async fn run(
    handlers: &[Handler],
    requests: u64,
    spread: Duration,
    seed: u64,
    bar: &ProgressBar,
) -> Outcome {
    let begun = Instant::now();
    let workers = (handlers.len() as u64 * CONCURRENCY).min(requests);
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let Some(handler) =
            usize::try_from(worker).ok().and_then(|index| handlers.get(index % handlers.len()))
        else {
            continue;
        };
        let share = requests / workers + u64::from(worker < requests % workers);
        let chance = fastrand::Rng::with_seed(seed ^ worker.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        tasks.spawn(work(handler.clone(), share, spread, begun, chance, bar.clone()));
    }
    let mut outcome = Outcome::default();
    while let Some(part) = tasks.join_next().await {
        // The answers of a worker that panicked are missing, and the report says so.
        let Ok(part) = part else { continue };
        outcome.latencies.extend(part.latencies);
        for (code, count) in part.failures {
            *outcome.failures.entry(code).or_default() += count;
        }
        outcome.last_failure = outcome.last_failure.max(part.last_failure);
    }
    outcome.elapsed = begun.elapsed();
    outcome
}

/// Requests a token from every broker repeatedly, until all faults were met and all brokers answer with a token. Gives
/// up if that takes longer than `patience` without another fault.
pub(super) async fn recover(handlers: &[Handler], faults_left: impl Fn() -> u64, patience: Duration) -> bool {
    let mut left = faults_left();
    let mut waiting_since = Instant::now();
    while waiting_since.elapsed() < patience {
        let requests =
            handlers.iter().cloned().map(|handler| async move { request_token(&handler).await.is_ok() });
        let answers = requests.collect::<JoinSet<_>>().join_all().await;
        let now_left = faults_left();
        if now_left == 0 && answers.into_iter().all(|answered| answered) {
            return true;
        }
        if now_left < left {
            (left, waiting_since) = (now_left, Instant::now());
        }
        tokio::time::sleep(ROUND).await;
    }
    false
}

async fn request_token(handler: &Handler) -> Result<(), String> {
    let answer = handler.handle(LambdaEvent::new(json!({}), front::context())).await;
    let answer = Value::from(answer.map_err(|error| error.error_type)?);
    let token = answer.get("access_token").and_then(Value::as_str);
    token.map(drop).ok_or_else(|| "no_token".to_owned())
}

async fn work(
    handler: Handler,
    share: u64,
    spread: Duration,
    begun: Instant,
    mut chance: fastrand::Rng,
    bar: ProgressBar,
) -> Outcome {
    let mut outcome = Outcome::default();
    for number in 0..share {
        let at = spread.mul_f64((number_as_f64(number) + chance.f64()) / number_as_f64(share));
        tokio::time::sleep_until(begun + at).await;
        let sent_at = Instant::now();
        let answer = request_token(&handler).await;
        outcome.latencies.push(sent_at.elapsed());
        if let Err(code) = answer {
            *outcome.failures.entry(code).or_default() += 1;
            outcome.last_failure = Some(sent_at - begun);
        }
        bar.inc(1);
    }
    outcome
}

#[allow(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests are sent")]
fn number_as_f64(number: u64) -> f64 {
    number as f64
}
