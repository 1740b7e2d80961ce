//! Instants as text.

use crate::config;
use contract::rfc3339::{format, parse};
use proptest::prelude::*;
use protocol::Timestamp;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_instant_survives_a_round_trip_in_whole_seconds(millis in 0..253_402_300_799_000_u64) {
        let parsed = parse(&format(Timestamp::from_millis(millis)));
        prop_assert_eq!(parsed, Some(Timestamp::from_millis(millis / 1000 * 1000)));
    }
}
