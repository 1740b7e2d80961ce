use super::*;
use crate::{BoxFuture, Code, Reply};
use protocol::Draw;
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
        self.frozen.fetch_add(protocol::millis(span), Ordering::Relaxed);
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

type Asked = (Call, oneshot::Sender<Result<Reply, Error>>);

struct ScriptedBroker(mpsc::UnboundedSender<Asked>);

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
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Bench {
    fn new() -> Self {
        let (calls, asked) = mpsc::unbounded_channel();
        let clock = TestClock::new();
        let source = TokenSource::with(ScriptedBroker(calls), clock.clone(), Limits::default());
        Self { source, clock, asked }
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

    async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }

    /// Whether no call is waiting, after all tasks that can run have run.
    async fn is_quiet(&mut self) -> bool {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.asked.try_recv().is_err()
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

mod single_flight {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_one_call() {
        let mut bench = Bench::new();
        let waiting: Vec<_> = (0..64).map(|_| bench.get()).collect();
        let (call, answer) = bench.next().await;
        assert_eq!(call, Call::new(Action::Token, Some(AccountName::default())));
        answer.send(Ok(token(7, 900))).unwrap();
        for got in waiting {
            assert_eq!(generation(got.await.unwrap()), 7);
        }
        assert!(bench.is_quiet().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_too() {
        let mut bench = Bench::new();
        let waiting: Vec<_> = (0..64).map(|_| bench.get()).collect();
        bench.next().await.1.send(Err(down())).unwrap();
        for got in waiting {
            assert_eq!(got.await.unwrap(), Err(down()));
        }
        assert!(bench.is_quiet().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_survives_the_caller_that_started_it() {
        let mut bench = Bench::new();
        let first = bench.get();
        let (_, answer) = bench.next().await;
        first.abort();
        let second = bench.get();
        assert!(bench.is_quiet().await);
        answer.send(Ok(token(7, 900))).unwrap();
        assert_eq!(generation(second.await.unwrap()), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_do_not_wait_for_each_other() {
        let mut bench = Bench::new();
        let _waiting = bench.get();
        let (first, _answer) = bench.next().await;
        let source = bench.source.clone();
        let emea = AccountName::parse("emea").unwrap();
        let asked = emea.clone();
        tokio::spawn(async move { source.get(&asked).await });
        let (second, _) = bench.next().await;
        assert_eq!((first.account, second.account), (Some(AccountName::default()), Some(emea)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_demand_waits_and_then_asks_for_itself() {
        let mut bench = Bench::new();
        let short = bench.get();
        let (_, answer) = bench.next().await;
        let source = bench.source.clone();
        let long =
            tokio::spawn(
                async move { source.get_for(&AccountName::default(), Duration::from_secs(800)).await },
            );
        assert!(bench.is_quiet().await);
        answer.send(Ok(token(7, 100))).unwrap();
        assert_eq!(generation(short.await.unwrap()), 7);
        let (call, answer) = bench.next().await;
        assert_eq!(call.min_ttl, Some(Duration::from_secs(800)));
        answer.send(Ok(token(8, 900))).unwrap();
        assert_eq!(generation(long.await.unwrap()), 8);
    }
}

mod waiting {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_after_five_seconds_and_the_call_goes_on() {
        let mut bench = Bench::new();
        let began = Instant::now();
        let got = bench.get();
        let (_, answer) = bench.next().await;
        assert_eq!(got.await.unwrap(), Err(Error::StillWaiting(Duration::from_secs(5))));
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        answer.send(Ok(token(7, 900))).unwrap();
        assert!(bench.is_quiet().await);
        assert_eq!(generation(bench.get().await.unwrap()), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn for_a_call_ends_after_thirty_seconds() {
        let mut bench = Bench::new();
        let _gave_up = bench.get();
        let (_, answer) = bench.next().await;
        advance(Duration::from_secs(31)).await;
        assert!(bench.is_quiet().await);
        assert!(answer.is_closed(), "the call was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn for_a_call_of_before_a_freeze_is_in_vain() {
        let mut bench = Bench::new();
        let _early = bench.get();
        let (_, lost) = bench.next().await;
        bench.clock.freeze(Duration::from_secs(3600));
        let got = bench.get();
        let (_, answer) = bench.next().await;
        answer.send(Ok(token(8, 900))).unwrap();
        assert_eq!(generation(got.await.unwrap()), 8);
        // The answer of before the freeze has expired, and replaces nothing.
        let _ = lost.send(Ok(token(7, 900)));
        assert!(bench.is_quiet().await);
        assert_eq!(generation(bench.get().await.unwrap()), 8);
    }
}

mod renewal {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn happens_in_the_background_on_use() {
        let mut bench = Bench::holding().await;
        advance(Duration::from_secs(599)).await;
        assert_eq!(generation(bench.get().await.unwrap()), 7);
        assert!(bench.is_quiet().await);
        advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            assert_eq!(generation(bench.get().await.unwrap()), 7);
        }
        bench.next().await.1.send(Ok(token(8, 900))).unwrap();
        assert!(bench.is_quiet().await, "one call for ten requests");
        assert_eq!(generation(bench.get().await.unwrap()), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_leaves_the_token_until_it_expires() {
        let mut bench = Bench::holding().await;
        let keeper = tokio::spawn({
            let source = bench.source.clone();
            async move { source.keep_fresh(AccountName::default(), |_| {}).await }
        });
        let began = Instant::now();
        let mut calls = 0;
        while began.elapsed() < Duration::from_secs(839) {
            tokio::select! {
                (_, answer) = async { bench.asked.recv().await.unwrap() } => {
                    calls += 1;
                    answer.send(Err(down())).unwrap();
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    assert_eq!(generation(bench.source.get(&AccountName::default()).await), 7);
                }
            }
        }
        assert!((5..15).contains(&calls), "{calls} calls");
        keeper.abort();
        advance(Duration::from_secs(100)).await;
        let got = bench.get();
        if let Ok((_, answer)) = tokio::time::timeout(Duration::from_secs(1), bench.next()).await {
            answer.send(Err(down())).unwrap();
        }
        assert_eq!(got.await.unwrap().unwrap_err().code(), Code::UpstreamUnavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn needs_no_requests_where_a_token_is_kept_fresh() {
        let mut bench = Bench::new();
        let source = bench.source.clone();
        let began = Instant::now();
        tokio::spawn(async move { source.keep_fresh(AccountName::default(), |_| {}).await });
        for number in 0..4 {
            let (_, answer) = bench.next().await;
            assert_eq!(began.elapsed(), Duration::from_secs(number * 600));
            answer.send(Ok(token(number, 900))).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn follows_a_freeze_within_seconds() {
        let mut bench = Bench::new();
        let source = bench.source.clone();
        tokio::spawn(async move { source.keep_fresh(AccountName::default(), |_| {}).await });
        bench.next().await.1.send(Ok(token(7, 900))).unwrap();
        assert!(bench.is_quiet().await);
        bench.clock.freeze(Duration::from_secs(86_400));
        let thawed = Instant::now();
        bench.next().await.1.send(Ok(token(8, 900))).unwrap();
        assert!(thawed.elapsed() <= TICK);
    }
}

mod report {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_is_one_call() {
        let mut bench = Bench::holding().await;
        let waiting: Vec<_> = (0..64).map(|_| bench.report(7)).collect();
        let (call, answer) = bench.next().await;
        assert_eq!(call.rejected, Some(Generation(7)));
        answer.send(Ok(token(8, 900))).unwrap();
        for got in waiting {
            assert_eq!(generation(got.await.unwrap()), 8);
        }
        assert_eq!(generation(bench.report(7).await.unwrap()), 8);
        assert!(bench.is_quiet().await);
    }

    #[tokio::test(start_paused = true)]
    async fn is_made_after_a_renewal_that_was_under_way() {
        let mut bench = Bench::holding().await;
        advance(Duration::from_secs(600)).await;
        bench.get().await.unwrap().unwrap();
        let (_, renewed) = bench.next().await;
        let reported = bench.report(7);
        assert!(bench.is_quiet().await, "one call at a time");
        renewed.send(Ok(token(7, 900))).unwrap();
        let (call, answer) = bench.next().await;
        assert_eq!(call.rejected, Some(Generation(7)));
        answer.send(Ok(token(8, 900))).unwrap();
        assert_eq!(generation(reported.await.unwrap()), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn that_fails_leaves_the_token() {
        let mut bench = Bench::holding().await;
        let reported = bench.report(7);
        bench.next().await.1.send(Err(down())).unwrap();
        assert_eq!(reported.await.unwrap(), Err(down()));
        assert_eq!(generation(bench.get().await.unwrap()), 7);
    }
}
