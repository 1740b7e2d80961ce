//! Actions.

/// What a request asks the broker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Hand out a token.
    Token,
    /// Report what the broker knows.
    Status,
    /// Replace the pair.
    Refresh,
    /// Revoke the pair.
    Revoke,
    /// Forget the rejected secret version and the cooldown.
    Unblock,
    /// Renew due pairs.
    Maintain,
}

impl Action {
    /// Every action, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Token, Self::Status, Self::Refresh, Self::Revoke, Self::Unblock, Self::Maintain];

    /// The action's name in payloads and rules.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Status => "status",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Unblock => "unblock",
            Self::Maintain => "maintain",
        }
    }

    /// The method of the action's HTTP route. The path is the action's name. `maintain` has no route.
    pub const fn method(self) -> Option<&'static str> {
        match self {
            Self::Status => Some("GET"),
            Self::Token | Self::Refresh | Self::Revoke | Self::Unblock => Some("POST"),
            Self::Maintain => None,
        }
    }

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
