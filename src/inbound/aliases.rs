//! The aliases of the function, which decide the way in.

use contract::Action;

/// The aliases that decide the way in. If one is not set, the shape of the event decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases {
    /// The alias for HTTP events, and for nothing else.
    pub http: Option<String>,
    /// The only alias through which `maintain` is accepted.
    pub schedule: Option<String>,
}

/// Why access is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    HttpElsewhere,
    DirectAtHttp,
    MaintainElsewhere,
    NoRule,
}

impl Denial {
    /// For the log. The caller learns only that access is denied.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::HttpElsewhere => {
                "access denied: an HTTP event in a direct invocation; HTTP events are accepted through BROKER_HTTP_ALIAS only"
            }
            Self::DirectAtHttp => "access denied: a direct payload through BROKER_HTTP_ALIAS",
            Self::MaintainElsewhere => {
                "access denied: maintain is accepted through BROKER_SCHEDULE_ALIAS only"
            }
            Self::NoRule => "access denied",
        }
    }
}

impl Aliases {
    /// Checks that an event came through the alias for its shape.
    pub(super) fn check(&self, alias: Option<&str>, is_http: bool) -> Result<(), Denial> {
        match &self.http {
            Some(http) if is_http && alias != Some(http) => Err(Denial::HttpElsewhere),
            Some(http) if !is_http && alias == Some(http) => Err(Denial::DirectAtHttp),
            _ => Ok(()),
        }
    }

    /// Checks that an action came through the alias for it.
    pub(super) fn check_action(&self, alias: Option<&str>, action: Action) -> Result<(), Denial> {
        match &self.schedule {
            Some(schedule) if action == Action::Maintain && alias != Some(schedule) => {
                Err(Denial::MaintainElsewhere)
            }
            _ => Ok(()),
        }
    }

    /// Whether a direct invocation comes from the schedule.
    pub(super) fn is_schedule(&self, alias: Option<&str>, action: Option<Action>) -> bool {
        match &self.schedule {
            Some(schedule) => alias == Some(schedule),
            None => action == Some(Action::Maintain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases() -> Aliases {
        Aliases { http: Some("http".to_owned()), schedule: Some("schedule".to_owned()) }
    }

    #[test]
    fn http_events_and_the_http_alias_belong_together() {
        for (alias, is_http, expected) in [
            (Some("http"), true, Ok(())),
            (Some("live"), true, Err(Denial::HttpElsewhere)),
            (None, true, Err(Denial::HttpElsewhere)),
            (Some("http"), false, Err(Denial::DirectAtHttp)),
            (Some("live"), false, Ok(())),
            (None, false, Ok(())),
        ] {
            assert_eq!(aliases().check(alias, is_http), expected, "{alias:?}, HTTP: {is_http}");
            assert_eq!(Aliases::default().check(alias, is_http), Ok(()), "not set");
        }
    }

    #[test]
    fn maintain_comes_through_the_schedules_alias_only() {
        for (alias, action, expected) in [
            (Some("schedule"), Action::Maintain, Ok(())),
            (Some("live"), Action::Maintain, Err(Denial::MaintainElsewhere)),
            (None, Action::Maintain, Err(Denial::MaintainElsewhere)),
            (Some("live"), Action::Token, Ok(())),
            (Some("schedule"), Action::Token, Ok(())),
        ] {
            assert_eq!(aliases().check_action(alias, action), expected, "{alias:?}, {action:?}");
            assert_eq!(Aliases::default().check_action(alias, action), Ok(()), "not set");
        }
    }

    #[test]
    fn the_schedule_is_known_by_its_alias_or_by_its_action() {
        let (set, unset) = (aliases(), Aliases::default());
        assert!(
            set.is_schedule(Some("schedule"), None) && set.is_schedule(Some("schedule"), Some(Action::Token))
        );
        assert!(!set.is_schedule(Some("live"), Some(Action::Maintain)));
        assert!(unset.is_schedule(None, Some(Action::Maintain)));
        assert!(!unset.is_schedule(None, Some(Action::Token)) && !unset.is_schedule(None, None));
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        for (wrong, what) in [
            (Denial::HttpElsewhere, "HTTP event"),
            (Denial::DirectAtHttp, "direct payload"),
            (Denial::MaintainElsewhere, "maintain"),
        ] {
            assert!(wrong.message().starts_with("access denied: ") && wrong.message().contains(what));
        }
    }
}
