//! Property tests of the protocol: they hold for every record, request, policy, clock and order of events.
//!
//! | module | contents |
//! | --- | --- |
//! | [`boundaries`] | expiries and pauses, at the millisecond before and after each instant that matters |
//! | [`decision`] | decisions fit the record and the request |
//! | [`flow`] | no order of events breaks a flow |
//! | [`login_limiter`] | the budget is kept |

mod boundaries;
mod decision;
mod flow;
mod login_limiter;

use proptest::prelude::ProptestConfig;

/// Failures are printed, not written to a file.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}
