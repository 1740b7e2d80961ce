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
