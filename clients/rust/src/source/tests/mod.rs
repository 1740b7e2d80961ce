mod renewal;
mod report;
mod single_flight;
mod waiting;

use super::*;
use crate::{BoxFuture, Code, Reply};
use contract::Draw;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, advance},
};

const START: u64 = 1_775_000_000_000;

/// The time of Tokio's paused clock, and the time for which the process was frozen.
#[derive(Clone)]
struct TestClock {
    started: Instant,
    frozen: Arc<AtomicU64>,
}

impl TestClock {
    fn new() -> Self {
        Self { started: Instant::now(), frozen: Arc::default() }
    }

    /// The wall clock goes on while Tokio's clock stands still.
    fn freeze(&self, span: Duration) {
        self.frozen.fetch_add(contract::millis(span), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let frozen = Duration::from_millis(self.frozen.load(Ordering::Relaxed));
        Timestamp::from_millis(START).plus(self.started.elapsed()).plus(frozen)
    }

    fn draw(&self) -> Draw {
        Draw(0)
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

    fn report(&self, generation: u64) -> tokio::task::JoinHandle<Result<Token, Error>> {
        let source = self.source.clone();
        tokio::spawn(async move { source.report(&AccountName::default(), Generation(generation)).await })
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
