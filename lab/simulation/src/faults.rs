//! Faults, and when they happen.

use crate::HOUR;
use fastrand::Rng;

/// One kind of fault, which lasts for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// DynamoDB is unreachable.
    StoreDown,
    /// DynamoDB refuses every other request, after the client's own retries.
    StoreThrottles,
    /// DynamoDB loses one reply in four. One request in ten arrives long after its client gave up, and the client
    /// sends one in ten twice.
    StoreLosesReplies,
    /// DynamoDB refuses every write at once, as after a lost permission. Reads work.
    StoreWritesDown,
    /// Writes of the login rate limiter take 2.1 to 3 s. The client gives up after 2.5 s, and they are carried out.
    LimiterSlow,
    /// Secrets Manager is unreachable.
    SecretsDown,
    /// Connections to the upstream fail.
    UpstreamUnreachable,
    /// The upstream answers 500, but has carried out one request in four.
    UpstreamFails,
    /// The upstream never answers. Requests arrive late, and it carries out every other one.
    UpstreamHangs,
    /// The upstream carries out every request, and every reply is lost.
    UpstreamLosesReplies,
    /// The upstream answers 429 to every request.
    UpstreamLimits,
    /// One call in four fails: its reply is lost, it arrives late, something between answers 500 before or after the
    /// upstream has carried it out, or the network delivers it twice.
    UpstreamFlaky,
    /// The upstream answers 400 or 403 to every login, whatever the password.
    LoginsForbidden,
    /// Another client behind the same address uses up the logins.
    Neighbour,
    /// Another client logs in as the first account's user whenever a login of the fleet ends its session, which ends
    /// the fleet's session.
    Rival,
    /// Every other caller reports its token, dead or alive, and the API answers 401 to every probe.
    Lies,
    /// An instance is stopped before one step in ten and before one effect in ten, for up to a minute. A process of the
    /// broker is stopped as a whole.
    Pauses,
    /// An instance dies before one step in ten.
    Kills,
    /// A port panics instead of returning one reply in twenty.
    Panics,
    /// After one reply in twenty, a caller of that instance hangs up.
    HangUps,
    /// An instance that renews dies before every other step, but at most one in half an hour.
    HoldersDie,
}

impl Fault {
    /// The faults that may be drawn. The others need their own callers and settling times.
    pub(crate) const ALL: [Self; 18] = [
        Self::StoreDown,
        Self::StoreThrottles,
        Self::StoreLosesReplies,
        Self::StoreWritesDown,
        Self::LimiterSlow,
        Self::SecretsDown,
        Self::UpstreamUnreachable,
        Self::UpstreamFails,
        Self::UpstreamHangs,
        Self::UpstreamLosesReplies,
        Self::UpstreamLimits,
        Self::LoginsForbidden,
        Self::Neighbour,
        Self::Pauses,
        Self::Kills,
        Self::Panics,
        Self::HangUps,
        Self::HoldersDie,
    ];

    /// How much longer this fault has an effect than others. A refused login is tried again after at most an hour and a
    /// tenth. A pair whose predecessors died young is trusted for that long.
    fn aftermath_ms(self) -> u64 {
        match self {
            Self::LoginsForbidden | Self::Rival | Self::Lies => HOUR + HOUR / 10,
            _ => 0,
        }
    }
}

/// A span of true time in which a fault lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultWindow {
    pub(crate) fault: Fault,
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
}

impl FaultWindow {
    pub(crate) fn new(fault: Fault, from_ms: u64, lasts_ms: u64) -> Self {
        Self { fault, from_ms, until_ms: from_ms + lasts_ms }
    }
}

/// All fault windows of a run.
pub(crate) struct Faults {
    pub(crate) windows: Vec<FaultWindow>,
}

impl Faults {
    pub(crate) fn lasts(&self, fault: Fault, now_ms: u64) -> bool {
        let now = |window: &FaultWindow| window.from_ms <= now_ms && now_ms < window.until_ms;
        self.windows.iter().any(|window| window.fault == fault && now(window))
    }

    /// Whether a fault strikes that does so one time in `one_in` during its window.
    pub(crate) fn strikes(&self, fault: Fault, one_in: u32, now_ms: u64, rng: &mut Rng) -> bool {
        self.lasts(fault, now_ms) && rng.u32(..one_in) == 0
    }

    /// When the last fault and its after-effects are over.
    pub(crate) fn end_ms(&self) -> u64 {
        self.windows.iter().map(|window| window.until_ms + window.fault.aftermath_ms()).max().unwrap_or(0)
    }
}
