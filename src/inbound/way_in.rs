//! How an event reached the function, and how long its caller waits.

use protocol::Timestamp;
use std::time::Duration;

/// The timeout that the template sets, for runtimes that state none.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest timeout of a function.
const LONGEST_INVOCATION: Duration = Duration::from_secs(900);
/// API Gateway gives up after 29 s, counted from a little before the function starts.
const GATEWAY_LIMIT: Duration = Duration::from_secs(28);
/// Reserved for returning the answer to the caller.
const ANSWER_RESERVE: Duration = Duration::from_millis(300);

/// How an event reached the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WayIn {
    /// A direct invocation.
    Direct,
    /// API Gateway or a Function URL.
    Http,
    /// EventBridge, which invokes directly.
    Schedule,
}

impl WayIn {
    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Http => "http",
            Self::Schedule => "schedule",
        }
    }

    /// The instant by which the caller needs its answer. Lambda ends the invocation at `lambda_deadline`.
    pub fn deadline(self, lambda_deadline: Timestamp, arrived_at: Timestamp) -> Timestamp {
        // Some local runtimes send zero, and the machine's clock may be wrong. An invocation cannot be over when it
        // arrives, nor take longer than Lambda allows.
        let possible = arrived_at.plus(Duration::from_millis(1))..=arrived_at.plus(LONGEST_INVOCATION);
        let given = Some(lambda_deadline).filter(|deadline| possible.contains(deadline));
        let invocation = given.unwrap_or_else(|| arrived_at.plus(FUNCTION_TIMEOUT));
        match self {
            Self::Direct | Self::Schedule => invocation.minus(ANSWER_RESERVE),
            Self::Http => invocation.min(arrived_at.plus(GATEWAY_LIMIT)).minus(ANSWER_RESERVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_log_names_each_way_in() {
        let names = [WayIn::Direct, WayIn::Http, WayIn::Schedule].map(WayIn::name);
        assert_eq!(names, ["direct", "http", "schedule"]);
    }

    #[test]
    fn the_earlier_of_invocation_and_gateway_ends_the_wait() {
        let within = |way_in: WayIn, lambda| way_in.deadline(NOW.plus(ms(lambda)), NOW).since(NOW);
        assert_eq!(within(WayIn::Direct, 60_000), ms(59_700));
        assert_eq!(within(WayIn::Http, 60_000), ms(27_700));
        assert_eq!(within(WayIn::Http, 10_000), ms(9_700));
        assert_eq!(within(WayIn::Direct, 1), ms(0), "less than the reserve");
        for none in [Timestamp::default(), NOW, NOW.minus(ms(600_000)), NOW.plus(ms(6_600_000))] {
            assert_eq!(
                WayIn::Direct.deadline(none, NOW),
                NOW.plus(ms(29_700)),
                "it is missing, or by another clock"
            );
        }
    }
}
