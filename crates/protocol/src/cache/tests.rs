//! When memory answers, when it refuses, and when the table has to be asked.

use super::*;
use crate::{
    record::AccountName, record::Cooldown, record::CooldownReason, record::Generation, test_pair, test_policy,
};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const MS: Duration = Duration::from_millis(1);
const LOOK: Lookup = Lookup::Look { early_refresh: false };
const SHY: Draw = Draw(u64::MAX);

fn ago(span: Duration) -> Timestamp {
    NOW.minus(span)
}

fn ask(arrived_at: Timestamp) -> Request {
    let goal = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };
    Request { account: AccountName::default(), goal, arrived_at, deadline: NOW.plus(Duration::from_secs(28)) }
}

/// A copy, read at an instant, of a record with a pair that has so much of its week left.
fn copy(read_at: Timestamp, left: Duration) -> CachedRecord {
    let pair = test_pair(NOW.plus(left));
    CachedRecord { account: Account { pair: Some(pair), ..Account::default() }, read_at }
}

const FRESH: Duration = Duration::from_secs(6 * 86_400);
const DUE: Duration = Duration::from_secs(3_600);

fn recalled(memory: &Memory, ask: &Request, draw: Draw) -> Lookup {
    memory.look_up(ask, &test_policy(), NOW, draw)
}

fn answers(memory: &Memory, ask: &Request) -> bool {
    matches!(recalled(memory, ask, SHY), Lookup::Answer(_))
}

#[test]
fn a_copy_answers_while_it_is_young() {
    let ttl = test_policy().memory_ttl;
    for (read_at, young) in [
        (NOW, true),
        (ago(ttl).plus(MS), true),
        (ago(ttl), false),
        (NOW.plus(MS), false),
        (ago(ttl).minus(MS), false),
    ] {
        // A clock that went back says nothing about the age of a copy.
        let memory = Memory { copy: Some(copy(read_at, FRESH)), ..Cache::default() };
        assert_eq!(answers(&memory, &ask(NOW.plus(MS))), young, "{read_at:?}");
    }
}

#[test]
fn a_copy_that_was_read_since_the_request_arrived_is_as_good_as_a_look() {
    let ttl = test_policy().memory_ttl;
    let mut memory = Memory { copy: Some(copy(ago(ttl), FRESH)), ..Cache::default() };
    assert!(answers(&memory, &ask(ago(ttl).minus(MS))));
    assert_eq!(recalled(&memory, &ask(ago(ttl)), SHY), LOOK, "it may be older by less than a millisecond");
    let until = NOW.plus(MS);
    let cooldown = Cooldown { until, reason: CooldownReason::Unavailable, failures: 1 };
    let mut resting = copy(NOW, Duration::ZERO);
    resting.account.cooldown = Some(cooldown);
    memory.copy = Some(resting);
    assert!(matches!(
        recalled(&memory, &ask(ago(MS)), SHY),
        Lookup::Fail(Failure::UpstreamUnavailable { .. })
    ));
    assert_eq!(recalled(&memory, &ask(NOW), SHY), LOOK);
}

#[test]
fn a_report_on_a_pair_that_memory_does_not_know_has_the_table_asked() {
    let memory = Memory { copy: Some(copy(ago(MS), FRESH)), ..Cache::default() };
    for (generation, answered) in [(6, true), (8, false)] {
        let rejected = Some(Generation(generation));
        let goal = Intent::Token { min_ttl: Duration::from_secs(60), rejected };
        assert_eq!(answers(&memory, &Request { goal, ..ask(NOW) }), answered, "generation {generation}");
        assert!(answers(&memory, &Request { goal, ..ask(ago(2 * MS)) }), "it was read since");
    }
}

#[test]
fn a_pair_that_is_due_is_renewed_by_the_table_and_drawn_for_once() {
    let memory = Memory { copy: Some(copy(NOW, DUE)), ..Cache::default() };
    assert!(answers(&memory, &ask(NOW)));
    assert_eq!(recalled(&memory, &ask(NOW), Draw(0)), Lookup::Look { early_refresh: true });
    let dead = Memory { copy: Some(copy(NOW, Duration::ZERO)), ..Cache::default() };
    assert_eq!(recalled(&dead, &ask(NOW), Draw(0)), LOOK, "nobody draws for a pair that does not serve");
}

#[test]
fn only_a_token_is_had_from_memory_and_nothing_while_a_pair_is_to_be_saved() {
    let memory = Memory { copy: Some(copy(NOW, FRESH)), ..Cache::default() };
    let maintain = Request { goal: Intent::Maintain { revoked: false }, ..ask(ago(MS)) };
    assert_eq!(recalled(&memory, &maintain, SHY), LOOK);
    assert_eq!(recalled(&Cache::default(), &ask(ago(MS)), SHY), LOOK);
    let pending_write = Some(PendingWrite { expected: Version(1), next: Account::default() });
    assert_eq!(recalled(&Memory { pending_write, ..memory }, &ask(ago(MS)), SHY), LOOK);
}

#[test]
fn after_the_store_failed_memory_answers_for_a_second_whatever_its_age() {
    let failed = |failed_at, left| Memory {
        copy: Some(copy(ago(Duration::from_secs(3600)), left)),
        store_failed_at: Some(failed_at),
        ..Cache::default()
    };
    for (failed_at, answered) in [
        (NOW, true),
        (ago(STORE_RETRY).plus(MS), true),
        (ago(STORE_RETRY), false),
        (ago(STORE_RETRY).minus(MS), false),
    ] {
        assert_eq!(answers(&failed(failed_at, FRESH), &ask(NOW)), answered, "{failed_at:?}");
        // Those who waited while it failed share what came of it.
        assert!(answers(&failed(failed_at, FRESH), &ask(failed_at.minus(MS))), "{failed_at:?}");
        let refused = recalled(&failed(failed_at, Duration::ZERO), &ask(failed_at.minus(MS)), SHY);
        assert_eq!(refused, Lookup::Fail(Failure::StoreUnavailable), "{failed_at:?}");
        assert_eq!(recalled(&failed(failed_at, Duration::ZERO), &ask(failed_at), SHY), LOOK, "{failed_at:?}");
    }
    let ahead = NOW.plus(MS);
    assert_eq!(recalled(&failed(ahead, FRESH), &ask(ahead), SHY), LOOK, "the clock went back");
}
