//! The log: one JSON object per line on standard output, which Lambda forwards to CloudWatch.

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging the events that `filter` lets through. Only the first call has an effect.
pub fn start(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    // Fails if a subscriber is installed already, which then stays the only one.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
