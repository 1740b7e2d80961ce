use super::*;

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
