//! What can go wrong, and when.

use fastrand::Rng;

/// One thing that goes wrong during a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// DynamoDB is out of reach.
    StoreDown,
    /// DynamoDB refuses every other request, after the client's own retries.
    StoreThrottles,
    /// DynamoDB loses one reply in four. One request in ten arrives long after its client gave up, and the client
    /// sends one in ten twice.
    StoreLosesReplies,
    /// Secrets Manager is out of reach.
    SecretsDown,
    /// Connections to the upstream fail.
    UpstreamUnreachable,
    /// The upstream answers 500. It has carried out one request in four all the same.
    UpstreamFails,
    /// The upstream never answers. Requests arrive late, and it carries out every other one.
    UpstreamHangs,
    /// The upstream carries out every request, and every reply is lost.
    UpstreamLosesReplies,
    /// The upstream answers 429 to every request.
    UpstreamLimits,
    /// Another client behind the same address uses up the logins.
    Neighbour,
    /// An instance is stopped before one effect in ten and before one step in ten, for up to a minute.
    Pauses,
    /// An instance dies before one step in ten.
    Kills,
    /// An instance that renews dies before every other step, but at most one in half an hour.
    HoldersDie,
}

impl Fault {
    pub(crate) const ALL: [Self; 13] = [
        Self::StoreDown,
        Self::StoreThrottles,
        Self::StoreLosesReplies,
        Self::SecretsDown,
        Self::UpstreamUnreachable,
        Self::UpstreamFails,
        Self::UpstreamHangs,
        Self::UpstreamLosesReplies,
        Self::UpstreamLimits,
        Self::Neighbour,
        Self::Pauses,
        Self::Kills,
        Self::HoldersDie,
    ];
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

    /// Whether a fault strikes that does so once in `one_in` times during its window.
    pub(crate) fn strikes(&self, fault: Fault, one_in: u32, now_ms: u64, rng: &mut Rng) -> bool {
        self.lasts(fault, now_ms) && rng.u32(..one_in) == 0
    }

    /// The end of the last window.
    pub(crate) fn end_ms(&self) -> u64 {
        self.windows.iter().map(|window| window.until_ms).max().unwrap_or(0)
    }
}
