//! What the function tells its operators: one line for each invocation, and the diagnostic events of the broker's code.
//!
//! | part | contents |
//! | --- | --- |
//! | [`InvocationLog`] | the line of an invocation: log, audit record and metrics at once |
//! | [`Metric`] | the metrics, in CloudWatch's embedded metric format |
//! | [`start`] | diagnostic events through `tracing`, filtered by `BROKER_LOG` |
//! | [`hide_panic_texts`] | logs a panic's place, but not its text |
//!
//! Lines go to standard output, which Lambda forwards to CloudWatch.

mod line;
mod log;
mod metrics;
mod record;

pub use line::{LONGEST_LINE, Style};
pub use log::{Audit, InvocationLog};
pub use metrics::Metric;
pub use record::{AccountRecord, Record, Severity};

use contract::Timestamp;
use std::{io::Write, panic, path::Path};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging the events that `filter` admits. Only the first call has an effect.
pub fn start(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false);
    // Fails if a subscriber is installed already, which then remains.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

/// Writes a line to standard output, in one piece.
pub fn write_to_stdout(line: &str) {
    // If standard output is gone, there is no way to report it.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Logs that the Lambda runtime failed, which ends the process. The runtime's error is not shown, because it may repeat
/// what a caller sent, such as a malformed client context.
pub fn runtime_failed(at: Timestamp) {
    write_to_stdout(&line::of_failed_runtime(at));
}

/// Logs each panic's place in the code, and the missing header if the Lambda runtime panicked for one. The text is not
/// shown, because it may hold anything. The default hook would print it to standard error.
pub fn hide_panic_texts(now: impl Fn() -> Timestamp + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|location| {
            let file = Path::new(location.file()).file_name().unwrap_or_default().to_string_lossy();
            format!("{file}:{}", location.line())
        });
        let header = panic.payload_as_str().and_then(missing_header);
        write_to_stdout(&line::of_panic(now(), &place.unwrap_or_default(), header));
    }));
}

/// The header in the runtime library's panic text, `missing lambda-runtime-… header`.
fn missing_header(text: &str) -> Option<&str> {
    let name = text.strip_prefix("missing ")?.strip_suffix(" header")?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (is_plain && name.starts_with("lambda-runtime-")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::missing_header;

    #[test]
    fn a_panic_for_a_missing_header_names_it() {
        let name = "lambda-runtime-deadline-ms";
        assert_eq!(missing_header(&format!("missing {name} header")), Some(name));
        for other in ["missing tell-tale header", "missing lambda-runtime-\"x\" header", "missing header", ""]
        {
            assert_eq!(missing_header(other), None, "{other}");
        }
    }
}
