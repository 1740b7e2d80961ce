//! Actions.

use crate::named;

named! {
    /// What a request asks the broker to do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Action, name {
        /// Hand out a token.
        Token = "token",
        /// Report what the broker knows.
        Status = "status",
        /// Replace the pair.
        Refresh = "refresh",
        /// Revoke the pair.
        Revoke = "revoke",
        /// Forget the rejected secret version and the cooldown.
        Unblock = "unblock",
        /// Renew due pairs.
        Maintain = "maintain",
    }
}

impl Action {
    /// The method of the action's HTTP route. The path is the action's name. `maintain` has no route.
    pub const fn method(self) -> Option<&'static str> {
        match self {
            Self::Status => Some("GET"),
            Self::Token | Self::Refresh | Self::Revoke | Self::Unblock => Some("POST"),
            Self::Maintain => None,
        }
    }
}
