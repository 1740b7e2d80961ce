//! What a flow has learned is published after each step.

use crate::bench::Bench;
use protocol::{Intent, ServedFrom};

#[test]
fn answers_a_waiter_as_soon_as_the_record_serves_it() {
    let mut bench = Bench::with_a_pair_that_is_due(1);
    let holder = bench.request("a", Intent::Maintain(protocol::Task::Renew));
    bench.run();
    let waiters = [bench.request_a_token(), bench.request_a_token()];
    let at_ms = bench.now_ms;
    bench.answer(0);
    for waiter in waiters {
        assert!(bench.token_of(waiter).is_some(), "the holder has just read the record");
        assert_eq!(bench.ended[&waiter].0, at_ms);
    }
    assert!(bench.answer_until("refresh"));
    assert!(!bench.ended.contains_key(&holder));
}

#[test]
fn is_published_while_the_upstream_is_called() {
    let mut bench = Bench::with_a_pair_that_is_due(2);
    bench.request("a", Intent::Replace);
    bench.run();
    assert!(bench.answer_until("refresh"));
    // The lease is written, so the record is known as that write left it.
    let task = bench.request_a_token();
    assert_eq!(bench.token_of(task).map(|(_, from)| from), Some(ServedFrom::Memory));
    assert!(bench.find("refresh").is_some());
}

#[test]
fn keeps_what_a_cancelled_flow_has_learned() {
    let mut bench = Bench::with_a_pair_that_is_due(3);
    let holder = bench.request("a", Intent::Maintain(protocol::Task::Renew));
    bench.run();
    assert!(bench.answer_until("refresh"));
    bench.cancel(holder);
    let task = bench.request_a_token();
    assert_eq!(bench.token_of(task).map(|(_, from)| from), Some(ServedFrom::Memory));
}
