//! Configurations: the server, the fleet, its requests, the secrets, and the faults.

use crate::guards::Guard;
use std::time::Duration;
use token_broker_protocol::{Intent, Policy, Timestamp};

/// When every run begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_000_000_000);
/// An ordinary request.
pub(crate) const TOKEN: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };

/// How a server treats refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// A refresh returns a new refresh token, and the old one is used up.
    pub(crate) rotates: bool,
    /// The second use of a token ends the whole family, its access tokens included.
    pub(crate) reuse_kills: bool,
    pub(crate) grace: Grace,
    /// A refresh ends the earlier access tokens.
    pub(crate) kills_access: bool,
}

/// What a used token returns within the grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grace {
    None,
    /// The same pair again.
    SamePair,
    /// Another pair. Of all successors, only the newest is valid.
    NewestOnly,
}

/// How long a grace period lasts, if there is one.
pub(crate) const GRACE: Duration = Duration::from_secs(100);

impl Behaviour {
    /// Rotates, and ends the family at the second use of a token.
    pub(crate) const STRICT: Self =
        Self { rotates: true, reuse_kills: true, grace: Grace::None, kills_access: false };
    pub(crate) const GRACEFUL: Self = Self { grace: Grace::SamePair, ..Self::STRICT };
    pub(crate) const NEWEST_ONLY: Self = Self { grace: Grace::NewestOnly, ..Self::STRICT };
    pub(crate) const LENIENT: Self = Self { reuse_kills: false, ..Self::STRICT };
    pub(crate) const STATIC: Self = Self { rotates: false, reuse_kills: false, ..Self::STRICT };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretValue {
    /// The number of the bootstrap token, which a person obtained.
    pub(crate) bootstrap: usize,
    /// Whether the client may use it. With another client, every token gets `invalid_grant`.
    pub(crate) right_client: bool,
}

/// The record at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    /// There is no record.
    Absent,
    /// A pair that expires after this many seconds.
    Pair(u64),
    /// The same, whose refresh token was used a minute ago, and the reply was lost. The server carried the call out.
    InDoubt(u64),
    /// The same, and the pair was lost with its instance, or is held by the second instance, which could not save it.
    Unsaved(u64),
    /// Two instances have obtained the same pair within the grace period. The first instance has saved it; the second
    /// could not.
    Twin(u64),
}

/// One configuration of the model.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) server: Behaviour,
    /// How many seconds the clock of each instance is ahead.
    pub(crate) clocks: Vec<i64>,
    /// How long the callers of each instance wait, in seconds.
    pub(crate) patience: Vec<u64>,
    /// The requests that each instance gets one after another.
    pub(crate) requests: Vec<Vec<Intent>>,
    pub(crate) initial: Initial,
    /// The versions of the secret. The next one may follow at any moment.
    pub(crate) secrets: Vec<SecretValue>,
    pub(crate) faults: u8,
    /// How often time may pass in one run while an instance has something to do.
    pub(crate) pauses: u8,
    /// No pause ends later than this many seconds after the start.
    pub(crate) horizon: u64,
    /// Whether reads and writes of the table may fail too.
    pub(crate) table_fails: bool,
    /// The guard that is removed, to show what it prevents.
    pub(crate) without: Option<Guard>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            server: Behaviour::STRICT,
            clocks: vec![0, 0],
            patience: vec![28, 28],
            requests: vec![vec![TOKEN]; 2],
            initial: Initial::Pair(20),
            secrets: vec![SecretValue { bootstrap: 0, right_client: true }],
            faults: 1,
            pauses: 1,
            horizon: 200,
            table_fails: false,
            without: None,
        }
    }
}

impl Setting {
    pub(crate) const POLICY: Policy = Policy::DEFAULT;
    /// How long an access token lives.
    pub(crate) const LIFETIME: Duration = Duration::from_secs(120);

    /// The server's documented grace period.
    pub(crate) fn grace(&self) -> Duration {
        if self.server.grace == Grace::None { Duration::ZERO } else { GRACE }
    }

    /// Whether the instances can be exchanged for each other.
    pub(crate) fn instances_are_alike(&self) -> bool {
        self.clocks.windows(2).all(|two| two[0] == two[1])
            && self.patience.windows(2).all(|two| two[0] == two[1])
            && self.requests.windows(2).all(|two| two[0] == two[1])
            && !matches!(self.initial, Initial::Unsaved(_) | Initial::Twin(_))
    }
}
