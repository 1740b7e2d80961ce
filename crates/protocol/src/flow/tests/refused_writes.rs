//! A table that can be read but refuses writes.

use super::*;
use crate::policy::WRITE_RETRY;

/// The table can be read, but refuses every write, after this many milliseconds.
fn refusing_writes(takes_ms: u64) -> impl FnMut(&mut World, &Effect) -> Fate {
    move |world, effect| match effect {
        Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => {
            world.pass(Duration::from_millis(takes_ms));
            Fate::Lost(Event::Written(WriteOutcome::Unknown))
        }
        _ => Fate::Done,
    }
}

#[test]
fn a_table_that_refuses_writes_withholds_no_usable_token() {
    let reported = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(7)) };
    for (intent, left) in [(TOKEN, Duration::from_secs(3600)), (reported, WEEK)] {
        for takes_ms in [20, 2_500] {
            let mut world = World::with_pair(left);
            world.eager = true;
            let mut flow = Flow::new(world.request(intent), Cache::default());
            world.run(&mut flow, refusing_writes(takes_ms)).unwrap();
            let waited = world.now.since(START);
            assert!(waited < 4 * SECOND, "{waited:?}");
            assert_eq!(world.count("write account"), 1);
            // The next request knows, and does not start over.
            let mut next = Flow::new(world.request(intent), flow.cache().clone());
            world.run(&mut next, refusing_writes(takes_ms)).unwrap();
            assert_eq!(world.count("write account"), 1);
        }
    }
}

#[test]
fn a_table_that_refuses_writes_is_reported_as_such() {
    for takes_ms in [20, 2_500] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        assert_eq!(
            world.run(&mut flow, refusing_writes(takes_ms)),
            Err(Failure::StoreUnavailable { retry_after: WRITE_RETRY })
        );
        let waited = world.now.since(START);
        assert!(waited < 8 * SECOND, "{waited:?}");
        world.requested.clear();
        let mut next = Flow::new(world.request(TOKEN), flow.cache().clone());
        assert_eq!(
            world.run(&mut next, refusing_writes(takes_ms)),
            Err(Failure::StoreUnavailable { retry_after: WRITE_RETRY })
        );
        assert_eq!(world.count("write account"), 0, "the next request does not start over");
        world.pass(5 * SECOND);
        let mut later = Flow::new(world.request(TOKEN), flow.cache().clone());
        world.run(&mut later, |_, _| Fate::Done).unwrap();
        assert_eq!(later.cache().writes_failed, None);
    }
}

#[test]
fn a_new_pair_that_cannot_be_saved_is_handed_out_in_time() {
    for takes_ms in [20, 2_500] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let mut refuse = refusing_writes(takes_ms);
        world
            .run(
                &mut flow,
                |world, effect| if world.count("login") == 1 { refuse(world, effect) } else { Fate::Done },
            )
            .unwrap();
        let waited = world.now.since(START);
        assert!(waited < 4 * SECOND, "{waited:?}");
        assert!(flow.cache().pending_write.is_some());
    }
}
