//! When the cache answers, when it refuses, and when the table has to be read.

use super::*;
use crate::{AccountName, Cooldown, CooldownReason, Draw, Generation, Policy, Timestamp, Verdict, testing};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const MS: Duration = Duration::from_millis(1);
const MISS: Lookup = Lookup::Miss { early_refresh: false };
const POLICY: Policy = Policy::DEFAULT;
/// Selects for early refresh whenever a pair is due.
const SELECTS: Draw = Draw(0);
/// Selects at the last instant only.
const SPARES: Draw = Draw(u64::MAX);

fn ago(span: Duration) -> Timestamp {
    NOW.minus(span)
}

fn request(arrived_at: Timestamp) -> Request {
    let arrived = Moment::of_agreeing_clocks(arrived_at);
    let intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };
    let deadline = NOW.plus(Duration::from_secs(28));
    Request { account: AccountName::default(), intent, arrived, deadline }
}

/// A record that was read at this instant, whose pair has this much of its week left.
fn record(read_at: Timestamp, left: Duration) -> CachedRecord {
    let pair = testing::pair(NOW.plus(left));
    let account = Account { pair: Some(pair), ..Account::default() };
    CachedRecord { account, read_at: Moment::of_agreeing_clocks(read_at), impossible_lease_seen: None }
}

fn cache(read_at: Timestamp, left: Duration) -> Cache {
    Cache { record: Some(record(read_at, left)), ..Cache::default() }
}

const FRESH: Duration = Duration::from_secs(6 * 86_400);
const DUE: Duration = Duration::from_secs(3_600);

fn looked_up(cache: &Cache, request: &Request, draw: Draw) -> Lookup {
    cache.look_up(request, Context::new(&POLICY, NOW, draw))
}

fn answers(cache: &Cache, request: &Request) -> bool {
    matches!(looked_up(cache, request, SPARES), Lookup::Answer(_))
}

#[test]
fn a_record_answers_while_it_is_young() {
    let ttl = POLICY.memory_ttl;
    for (read_at, young) in
        [(NOW, true), (ago(ttl).plus(MS), true), (ago(ttl), false), (ago(ttl).minus(MS), false)]
    {
        assert_eq!(answers(&cache(read_at, FRESH), &request(NOW.plus(MS))), young, "{read_at:?}");
    }
}

#[test]
fn a_record_read_since_arrival_is_as_good_as_a_read() {
    let ttl = POLICY.memory_ttl;
    let old = cache(ago(ttl), FRESH);
    assert!(answers(&old, &request(ago(ttl).minus(MS))));
    assert_eq!(
        looked_up(&old, &request(ago(ttl)), SPARES),
        MISS,
        "it may be older by less than a millisecond"
    );
    let cooldown = Cooldown {
        until: NOW.plus(MS),
        reason: CooldownReason::Unavailable(crate::UpstreamFault::Unexpected),
        failures: 1,
    };
    let mut cooling = cache(NOW, Duration::ZERO);
    cooling.record.as_mut().unwrap().account.cooldown = Some(cooldown);
    let refused = looked_up(&cooling, &request(ago(MS)), SPARES);
    assert!(matches!(refused, Lookup::Fail(Failure::UpstreamUnavailable { .. })));
    assert_eq!(looked_up(&cooling, &request(NOW), SPARES), MISS);
}

#[test]
fn a_report_on_an_unknown_generation_reads_the_table() {
    let cache = cache(ago(MS), FRESH);
    for (generation, answered) in [(6, true), (8, false)] {
        let rejected = Some(Generation(generation));
        let intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected };
        assert_eq!(answers(&cache, &Request { intent, ..request(NOW) }), answered, "generation {generation}");
        assert!(answers(&cache, &Request { intent, ..request(ago(2 * MS)) }), "it was read since");
    }
}

#[test]
fn a_report_on_a_token_found_alive_lately_reads_nothing() {
    let mut alive = cache(ago(MS), FRESH);
    let pair = alive.record.as_mut().unwrap().account.pair.as_mut().unwrap();
    pair.verdict = Verdict::Alive { at: ago(MS) };
    let intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(pair.generation) };
    assert!(answers(&alive, &Request { intent, ..request(NOW) }));
}

#[test]
fn a_missing_secret_withholds_no_usable_pair() {
    let failed = |left| Cache {
        secret_failure: Some((SecretError::Unreachable, Moment::of_agreeing_clocks(ago(MS)))),
        ..cache(ago(MS), left)
    };
    let refused = Lookup::Fail(SecretError::Unreachable.into());
    let consumed = |left| {
        let mut cache: Cache = failed(left);
        cache.record.as_mut().unwrap().account.mark_refresh_token(true);
        cache
    };
    let waited = request(ago(MS + MS));
    assert_eq!(looked_up(&consumed(Duration::ZERO), &waited, SPARES), refused);
    assert_eq!(
        looked_up(&consumed(Duration::ZERO), &request(NOW), SPARES),
        MISS,
        "another instance may have saved a pair"
    );
    assert_eq!(looked_up(&consumed(DUE), &request(NOW), SELECTS), Lookup::Miss { early_refresh: true });
    let intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(8)) };
    assert_eq!(
        looked_up(&failed(FRESH), &Request { intent, ..request(NOW) }, SPARES),
        MISS,
        "another's pair"
    );
}

#[test]
fn a_prefetched_record_answers_and_replaces_no_other() {
    let record = record(NOW, FRESH);
    let prefetched =
        Cache::default().with_prefetched(record.account.clone(), Moment::of_agreeing_clocks(NOW));
    assert_eq!(prefetched.record, Some(record));
    assert_eq!(
        prefetched.clone().with_prefetched(Account::default(), Moment::of_agreeing_clocks(NOW.plus(MS))),
        prefetched
    );
}

#[test]
fn a_due_pair_is_renewed_from_the_table_and_selected_once() {
    let due = cache(NOW, DUE);
    assert!(answers(&due, &request(NOW)));
    assert_eq!(looked_up(&due, &request(NOW), SELECTS), Lookup::Miss { early_refresh: true });
    let expired = cache(NOW, Duration::ZERO);
    assert_eq!(looked_up(&expired, &request(NOW), SELECTS), MISS, "no early refresh of an unusable pair");
}

#[test]
fn only_tokens_are_answered_and_none_while_a_write_is_pending() {
    let fresh = cache(NOW, FRESH);
    let maintain = Request { intent: Intent::Maintain(crate::Task::Renew), ..request(ago(MS)) };
    assert_eq!(looked_up(&fresh, &maintain, SPARES), MISS);
    assert_eq!(looked_up(&Cache::default(), &request(ago(MS)), SPARES), MISS);
    let pending_write = Some(AccountWrite { expected: Version(1), next: Account::default() });
    assert_eq!(looked_up(&Cache { pending_write, ..fresh }, &request(ago(MS)), SPARES), MISS);
}

#[test]
fn after_a_store_failure_the_cache_answers_for_a_second() {
    let failed = |failed_at, left| Cache {
        store_failure: Some((StoreError::Unreachable, Moment::of_agreeing_clocks(failed_at))),
        ..cache(ago(Duration::from_secs(3600)), left)
    };
    for (failed_at, answered) in [
        (NOW, true),
        (ago(STORE_RETRY).plus(MS), true),
        (ago(STORE_RETRY), false),
        (ago(STORE_RETRY).minus(MS), false),
    ] {
        assert_eq!(answers(&failed(failed_at, FRESH), &request(NOW)), answered, "{failed_at:?}");
        // Requests that waited while it failed share the result.
        assert!(answers(&failed(failed_at, FRESH), &request(failed_at.minus(MS))), "{failed_at:?}");
        let refused = looked_up(&failed(failed_at, Duration::ZERO), &request(failed_at.minus(MS)), SPARES);
        assert_eq!(
            refused,
            Lookup::Fail(Failure::StoreUnavailable { retry_after: STORE_RETRY }),
            "{failed_at:?}"
        );
        let later = looked_up(&failed(failed_at, Duration::ZERO), &request(failed_at), SPARES);
        assert_eq!(later, MISS, "{failed_at:?}");
    }
}

/// The wall clock has gone back an hour since: the uptime says how long ago something was, and what came first.
#[test]
fn a_wall_clock_that_stepped_back_freezes_nothing() {
    let before_the_step = |ago_by: Duration| Moment {
        wall: NOW.plus(Duration::from_secs(3600)),
        uptime: Moment::of_agreeing_clocks(ago(ago_by)).uptime,
    };
    let failed = |at| Cache {
        store_failure: Some((StoreError::Unreachable, at)),
        ..cache(ago(Duration::from_secs(3600)), Duration::ZERO)
    };
    assert_eq!(looked_up(&failed(before_the_step(STORE_RETRY)), &request(ago(MS)), SPARES), MISS);
    let read = |at| {
        let mut cache = cache(NOW, FRESH);
        cache.record.as_mut().unwrap().read_at = at;
        cache
    };
    let memory_ttl = POLICY.memory_ttl;
    assert!(answers(&read(before_the_step(memory_ttl.checked_sub(MS).unwrap())), &request(NOW)));
    assert!(!answers(&read(before_the_step(memory_ttl)), &request(NOW)));
    // Another instance renewed the pair after the read and before the step: the report of its generation is believed.
    let generation = Generation(NOW.plus(Duration::from_secs(3600)).as_millis() + 1);
    let intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(generation) };
    let reported = Request { intent, ..request(NOW) };
    assert_eq!(looked_up(&read(before_the_step(MS)), &reported, SPARES), MISS);
}
