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
async fn a_fault_in_the_options_of_one_caller_is_not_shared() {
    let mut bench = Bench::new();
    let source = bench.source.clone();
    let greedy =
        tokio::spawn(async move { source.get_for(&AccountName::default(), Duration::from_secs(901)).await });
    let (_, answer) = bench.next().await;
    let modest = bench.get();
    assert!(bench.is_quiet().await);
    let refused = Error::InvalidCall("900 at most".to_owned());
    answer.send(Err(refused.clone())).unwrap();
    assert_eq!(greedy.await.unwrap(), Err(refused));
    bench.next().await.1.send(Ok(token(7, 900))).unwrap();
    assert_eq!(generation(modest.await.unwrap()), 7);
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
    let requested = emea.clone();
    tokio::spawn(async move { source.get(&requested).await });
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
        tokio::spawn(async move { source.get_for(&AccountName::default(), Duration::from_secs(800)).await });
    assert!(bench.is_quiet().await);
    answer.send(Ok(token(7, 100))).unwrap();
    assert_eq!(generation(short.await.unwrap()), 7);
    let (call, answer) = bench.next().await;
    assert_eq!(call.min_ttl, Some(Duration::from_secs(800)));
    answer.send(Ok(token(8, 900))).unwrap();
    assert_eq!(generation(long.await.unwrap()), 8);
}
