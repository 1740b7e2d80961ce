//! Property tests of the function's formats: any input is parsed, or refused without a panic.
//!
//! | module | contents |
//! | --- | --- |
//! | [`item`] | stored items: round trips, and items that are damaged or have another form |
//! | [`any_item`] | random items |
//! | [`response`] | responses of the upstream |
//! | [`rfc3339`] | instants as text |

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod any_item;
mod item;
mod response;
mod rfc3339;

use proptest::prelude::ProptestConfig;

/// Failures are printed, not written to a file.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}
