//! Runs the cases of `crates/contract/behaviour.json`, which defines how every client behaves.

use super::*;
use serde_json::Value;
use tokio::task::JoinHandle;

fn cases(section: &str) -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../../../crates/contract/behaviour.json")).unwrap();
    file[section].as_array().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn of_a_source_is_that_of_every_client() {
    for case in cases("sources") {
        let mut run = Run::new(case["rule"].as_str().unwrap());
        for step in case["steps"].as_array().unwrap() {
            run.step(step).await;
        }
        run.expect_no_call();
    }
}

struct Run {
    rule: String,
    bench: Bench,
    began: Instant,
    /// The calls that have begun and that no step has expected yet.
    unexpected: Vec<(usize, Call)>,
    answers: Vec<Option<oneshot::Sender<Result<Reply, Error>>>>,
    callers: HashMap<String, JoinHandle<Result<Token, Error>>>,
}

impl Run {
    fn new(rule: &str) -> Self {
        let (answers, unexpected) = (Vec::new(), Vec::new());
        let (bench, began) = (Bench::new(), Instant::now());
        Self { rule: rule.to_owned(), bench, began, unexpected, answers, callers: HashMap::new() }
    }

    async fn step(&mut self, step: &Value) {
        let has = |name: &str| step.get(name).is_some();
        if !has("call") && !has("result") {
            self.expect_no_call();
        }
        if let Some(at) = seconds(&step["at"]) {
            while self.began.elapsed() < at {
                advance(at.saturating_sub(self.began.elapsed()).min(Duration::from_secs(1))).await;
                self.settle().await;
            }
        } else if has("clock") {
            self.bench.clock.step(step["clock"].as_i64().unwrap() * 1_000);
        } else if has("draw") {
            let fraction = step["draw"].as_f64().unwrap();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            self.bench
                .clock
                .draw
                .store((fraction * 9_007_199_254_740_992.0) as u64 * (1 << 11), Ordering::Relaxed);
        } else if has("get") || has("report") {
            let name = step.get("get").unwrap_or(&step["as"]).as_str().unwrap();
            self.begin(name, &account(step), demand(step, "report"));
        } else if has("call") {
            let number = step["call"].as_u64().unwrap();
            assert!(!self.unexpected.is_empty(), "{}: {step}: no call has begun", self.rule);
            let (begun, call) = self.unexpected.remove(0);
            assert_eq!(begun as u64, number, "{}: {step}", self.rule);
            let Demand { min_ttl, rejected } = demand(step, "rejected_generation");
            let expected = Call { min_ttl, rejected, ..Call::new(Action::Token, Some(account(step))) };
            assert_eq!(call, expected, "{}: {step}", self.rule);
        } else if has("answer") {
            let number = usize::try_from(step["answer"].as_u64().unwrap()).unwrap();
            let answer = self.answers[number - 1].take().unwrap();
            // An abandoned call does not listen.
            let _ = answer.send(result(step));
        } else if has("result") {
            self.check(step).await;
        } else {
            self.fill(step).await;
        }
        self.settle().await;
    }

    fn begin(&mut self, name: &str, account: &AccountName, demand: Demand) {
        let (source, account) = (self.bench.source.clone(), account.clone());
        let caller = tokio::spawn(async move {
            match (demand.rejected, demand.min_ttl) {
                (None, None) => source.get(&account).await,
                (None, Some(min_ttl)) => source.get_for(&account, min_ttl).await,
                (Some(rejected), None) => source.report(&account, rejected).await,
                (Some(rejected), Some(min_ttl)) => source.report_for(&account, rejected, min_ttl).await,
            }
        });
        self.callers.insert(name.to_owned(), caller);
    }

    async fn check(&mut self, step: &Value) {
        let caller = self.callers.get_mut(step["result"].as_str().unwrap()).unwrap();
        let waits = step["waiting"] == true;
        assert_eq!(!caller.is_finished(), waits, "{}: {step}: whether the caller waits", self.rule);
        if waits {
            return;
        }
        match caller.await.unwrap() {
            Ok(token) => {
                assert_eq!(Some(token.generation.0), step["generation"].as_u64(), "{}: {step}", self.rule);
            }
            Err(error) => {
                assert_eq!(
                    Some(error.code().as_str()),
                    step["error"].as_str(),
                    "{}: {step}: {error}",
                    self.rule
                );
                let retry_after = error.retry_after().map(contract::seconds_rounded_up);
                assert_eq!(retry_after, step["retry_after"].as_u64(), "{}: {step}", self.rule);
            }
        }
    }

    async fn fill(&mut self, step: &Value) {
        for number in 0..step["accounts"].as_u64().unwrap() {
            let account = AccountName::parse(&format!("other-{number}")).unwrap();
            self.begin("other", &account, Demand::default());
            self.settle().await;
            self.unexpected.remove(0);
            let answer = self.answers.last_mut().and_then(Option::take).unwrap();
            answer.send(result(step)).unwrap();
            self.settle().await;
        }
    }

    /// Lets all tasks run that can, and records the calls that began.
    async fn settle(&mut self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        while let Ok((call, answer)) = self.bench.requested.try_recv() {
            self.answers.push(Some(answer));
            self.unexpected.push((self.answers.len(), call));
        }
    }

    fn expect_no_call(&self) {
        assert_eq!(self.unexpected, [], "{}: no step expects this call", self.rule);
    }
}

#[cfg(feature = "middleware")]
mod requests {
    use super::*;
    use crate::BearerToken;
    use reqwest::{Request, Response, ResponseBuilderExt as _};
    use reqwest_middleware::{ClientBuilder, Middleware, Next};

    struct ListedBroker(Mutex<std::vec::IntoIter<Value>>, Mutex<mpsc::UnboundedSender<u64>>);

    impl Broker for ListedBroker {
        fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply, Error>> {
            if let Some(rejected) = call.rejected {
                self.1.lock().unwrap().send(rejected.0).unwrap();
            }
            let answer = self.0.lock().unwrap().next().expect("one call more than the case lists");
            Box::pin(async move { result(&answer) })
        }
    }

    struct ListedApi(Mutex<std::vec::IntoIter<Value>>, mpsc::UnboundedSender<u64>);

    #[async_trait::async_trait]
    impl Middleware for ListedApi {
        async fn handle(
            &self,
            request: Request,
            _: &mut http::Extensions,
            _: Next<'_>,
        ) -> reqwest_middleware::Result<Response> {
            let token = request.headers()["authorization"].to_str().unwrap().replace("Bearer t", "");
            self.1.send(token.parse().unwrap()).unwrap();
            let status = self.0.lock().unwrap().next().expect("one request more than the case lists");
            let status = u16::try_from(status.as_u64().unwrap()).unwrap();
            let response = http::Response::builder().status(status).url(request.url().clone()).body("");
            Ok(response.unwrap().into())
        }
    }

    fn list(case: &Value, name: &str) -> Vec<Value> {
        case[name].as_array().unwrap().clone()
    }

    fn numbers(mut seen: mpsc::UnboundedReceiver<u64>) -> Value {
        std::iter::from_fn(|| seen.try_recv().ok()).collect()
    }

    #[tokio::test]
    async fn of_a_request_is_that_of_every_client() {
        for case in cases("requests") {
            let (reports, reported) = mpsc::unbounded_channel();
            let (requests, sent) = mpsc::unbounded_channel();
            let broker = ListedBroker(Mutex::new(list(&case, "broker").into_iter()), Mutex::new(reports));
            let api = ListedApi(Mutex::new(list(&case, "api").into_iter()), requests);
            let url: reqwest::Url = "https://platform-api.convirza.com/v3/x".parse().unwrap();
            let bearer = BearerToken::new(TokenSource::new(broker), AccountName::default(), url.clone());
            let client = ClientBuilder::new(reqwest::Client::new()).with(bearer).with(api).build();
            match client.post(url).body("text").send().await {
                Ok(response) => {
                    assert_eq!(Some(&response.status().as_u16().into()), list(&case, "api").last());
                }
                Err(error) => assert!(error.to_string().contains(case["error"].as_str().unwrap()), "{error}"),
            }
            assert_eq!((&numbers(sent), &numbers(reported)), (&case["sent"], &case["reported"]), "{case}");
        }
    }
}

fn account(step: &Value) -> AccountName {
    AccountName::parse(step["account"].as_str().unwrap_or("default")).unwrap()
}

fn demand(step: &Value, report: &str) -> Demand {
    Demand { min_ttl: seconds(&step["min_ttl_seconds"]), rejected: step[report].as_u64().map(Generation) }
}

fn result(step: &Value) -> Result<Reply, Error> {
    match step["error"].as_str() {
        None => {
            Ok(token(step["generation"].as_u64().unwrap_or(1), step["expires_in"].as_u64().unwrap_or(900)))
        }
        Some("broker_unavailable") => Err(down()),
        Some(code) => Err(Error::Refused {
            code: crate::Code::parse(code).unwrap(),
            description: "as the case says".to_owned(),
            retry_after: seconds(&step["retry_after"]),
            request_id: None,
        }),
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    value.as_f64().map(Duration::from_secs_f64)
}
