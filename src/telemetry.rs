//! The log: one JSON object a line on standard output, from where Lambda takes it to CloudWatch.

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging what `filter` lets through. Only the first call has an effect.
pub fn start(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    // A second subscriber would be a second log: whoever came first keeps it.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
