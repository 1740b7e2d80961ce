mod behaviour;
mod renewal;
mod single_flight;
mod waiting;

use super::*;
use crate::{BoxFuture, Reply};
use contract::Draw;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, advance},
};

const START: u64 = 1_775_000_000_000;

/// Tokio's paused clock, how many milliseconds the wall clock has stepped, and the random number.
#[derive(Clone)]
struct TestClock {
    started: Instant,
    stepped: Arc<AtomicI64>,
    draw: Arc<AtomicU64>,
}

impl TestClock {
    fn new() -> Self {
        Self { started: Instant::now(), stepped: Arc::default(), draw: Arc::default() }
    }

    /// The wall clock goes on while Tokio's clock stands still.
    fn freeze(&self, span: Duration) {
        self.step(i64::try_from(span.as_millis()).unwrap());
    }

    fn step(&self, millis: i64) {
        self.stepped.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::from_millis(START).plus(self.started.elapsed());
        Timestamp::from_millis(now.as_millis().saturating_add_signed(self.stepped.load(Ordering::Relaxed)))
    }

    fn draw(&self) -> Draw {
        Draw(self.draw.load(Ordering::Relaxed))
    }
}

type Requested = (Call, oneshot::Sender<Result<Reply, Error>>);

struct ScriptedBroker(mpsc::UnboundedSender<Requested>);

impl Broker for ScriptedBroker {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply, Error>> {
        let (answer, answered) = oneshot::channel();
        self.0.send((call.clone(), answer)).unwrap();
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(down())) })
    }
}

struct Bench {
    source: TokenSource,
    clock: TestClock,
    requested: mpsc::UnboundedReceiver<Requested>,
}

impl Bench {
    fn new() -> Self {
        let (calls, requested) = mpsc::unbounded_channel();
        let clock = TestClock::new();
        let source = TokenSource::with(ScriptedBroker(calls), clock.clone(), Limits::default());
        Self { source, clock, requested }
    }

    /// A source that holds generation 7 for 900 s.
    async fn holding() -> Self {
        let mut bench = Self::new();
        let got = bench.get();
        bench.next().await.1.send(Ok(token(7, 900))).unwrap();
        assert_eq!(generation(got.await.unwrap()), 7);
        bench
    }

    fn get(&self) -> tokio::task::JoinHandle<Result<Token, Error>> {
        let source = self.source.clone();
        tokio::spawn(async move { source.get(&AccountName::default()).await })
    }

    async fn next(&mut self) -> Requested {
        self.requested.recv().await.unwrap()
    }

    /// Whether no call is waiting, after all tasks that can run have run.
    async fn is_quiet(&mut self) -> bool {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.requested.try_recv().is_err()
    }
}

fn token(generation: u64, expires_in: u64) -> Reply {
    let text =
        format!(r#"{{"access_token":"t{generation}","expires_in":{expires_in},"generation":{generation}}}"#);
    Reply::new(text.into_bytes())
}

fn down() -> Error {
    Error::Unreachable("refused".to_owned())
}

fn generation(result: Result<Token, Error>) -> u64 {
    result.unwrap().generation.0
}
