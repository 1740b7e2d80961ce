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

#[tokio::test(start_paused = true)]
async fn goes_on_with_another_call_after_a_freeze() {
    for frozen in [6, 12] {
        let mut bench = Bench::new();
        let before = bench.get();
        let (_, lost) = bench.next().await;
        bench.clock.freeze(Duration::from_secs(frozen));
        let after = bench.get();
        advance(Duration::from_secs(1)).await;
        let second = bench.next();
        let (_, answer) = tokio::time::timeout(Duration::from_secs(3), second).await.expect("another call");
        assert!(lost.is_closed(), "the connection of the first one may be dead");
        answer.send(Ok(token(7, 900))).unwrap();
        for waiting in [before, after] {
            assert_eq!(generation(waiting.await.unwrap()), 7);
        }
        assert!(bench.is_quiet().await, "there is no third call");
    }
}

#[tokio::test(start_paused = true)]
async fn gets_an_answer_that_came_during_a_freeze() {
    let mut bench = Bench::new();
    let waiting = bench.get();
    let (_, answer) = bench.next().await;
    bench.clock.freeze(Duration::from_secs(45));
    answer.send(Ok(token(7, 900))).unwrap();
    assert_eq!(generation(waiting.await.unwrap()), 7);
    assert_eq!(generation(bench.get().await.unwrap()), 7);
    assert!(bench.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn meets_no_failure_of_a_call_that_a_freeze_interrupted() {
    for frozen in [12, 31, 34, 45] {
        let mut bench = Bench::new();
        let _before = bench.get();
        let (_, answer) = bench.next().await;
        bench.clock.freeze(Duration::from_secs(frozen));
        answer.send(Err(down())).unwrap();
        let after = bench.get();
        bench.next().await.1.send(Ok(token(7, 900))).unwrap();
        assert_eq!(generation(after.await.unwrap()), 7, "{frozen} s");
    }
}
