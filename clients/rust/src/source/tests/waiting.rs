use super::*;

#[tokio::test(start_paused = true)]
async fn for_a_call_ends_after_thirty_seconds() {
    let mut bench = Bench::new();
    let _gave_up = bench.get();
    let (_, answer) = bench.next().await;
    advance(Duration::from_secs(31)).await;
    assert!(bench.is_quiet().await);
    assert!(answer.is_closed(), "the call was ended");
}
