use super::*;
use crate::ClientErrorCode;

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
            (_, answer) = async { bench.requested.recv().await.unwrap() } => {
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
    assert_eq!(got.await.unwrap().unwrap_err().code(), ClientErrorCode::BrokerUnavailable);
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
async fn pauses_for_a_second_whatever_the_broker_answers() {
    let mut bench = Bench::new();
    let source = bench.source.clone();
    tokio::spawn(async move { source.keep_fresh(AccountName::default(), |_| {}).await });
    let began = Instant::now();
    for number in 0..10 {
        let (_, answer) = bench.next().await;
        assert_eq!(began.elapsed(), Duration::from_secs(2 * number));
        // The answer takes a second, which is the whole life of its token.
        advance(Duration::from_secs(1)).await;
        answer.send(Ok(token(7, 1))).unwrap();
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
