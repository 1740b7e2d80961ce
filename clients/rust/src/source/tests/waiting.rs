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
