//! What can go wrong, and when.

use fastrand::Rng;

/// One thing that goes wrong while a window lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing reaches DynamoDB.
    StoreDown,
    /// DynamoDB refuses every other request, after the client's own retries.
    StoreThrottles,
    /// One reply in four of DynamoDB is lost, one request in ten arrives long after it was given up, and one
    /// in ten is sent twice by the client itself.
    StoreLosesReplies,
    /// Secrets Manager is out of reach.
    SecretsDown,
    /// The upstream cannot be connected to.
    UpstreamUnreachable,
    /// The upstream answers 500; one request in four was carried out all the same.
    UpstreamFails,
    /// The upstream never answers; requests arrive late, and every other one is carried out.
    UpstreamHangs,
    /// The upstream carries out everything, and every reply is lost.
    UpstreamLosesReplies,
    /// The upstream answers 429 to everything.
    UpstreamLimits,
    /// Somebody behind the same address uses up the logins.
    Neighbour,
    /// At one point in ten an instance is stopped for up to a minute.
    Pauses,
    /// At one point in ten an instance dies.
    Kills,
    /// Whoever renews dies, unless another one did so within the last half an hour.
    HoldersDie,
}

impl Fault {
    pub const ALL: [Self; 13] = [
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

/// A span of true time in which something goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from_ms: u64,
    pub until_ms: u64,
    pub fault: Fault,
}

/// All windows of a run.
pub struct Faults {
    pub windows: Vec<Window>,
}

impl Faults {
    pub fn is(&self, fault: Fault, now_ms: u64) -> bool {
        let lasts = |window: &Window| window.from_ms <= now_ms && now_ms < window.until_ms;
        self.windows.iter().any(|window| window.fault == fault && lasts(window))
    }

    /// Whether a fault strikes that does so once in `one_in` times while its window lasts.
    pub fn strikes(&self, fault: Fault, one_in: u32, now_ms: u64, rng: &mut Rng) -> bool {
        self.is(fault, now_ms) && rng.u32(..one_in) == 0
    }

    pub fn ends_at_ms(&self) -> u64 {
        self.windows.iter().map(|window| window.until_ms).max().unwrap_or(0)
    }
}
