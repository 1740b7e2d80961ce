//! Who may do what.

use protocol::AccountName;
use std::fmt;

/// What a request asks the broker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Hand out a token.
    Token,
    /// Report what is known.
    Status,
    /// Replace the pair.
    Refresh,
    /// Revoke the pair.
    Revoke,
    /// Forget the rejected secret version and the cooldown.
    Unblock,
    /// Renew what is due.
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

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// The caller that the platform in front of the broker has authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A direct invoke, through an alias or without one. IAM has allowed it, and does not tell the caller's identity.
    Direct {
        /// The function alias that was invoked.
        alias: Option<String>,
    },
    /// An HTTP request signed by an IAM role or user.
    Iam {
        /// The ARN of the role or user. A session counts as its role.
        arn: String,
    },
    /// An HTTP request without an IAM identity.
    Anonymous,
}

impl Caller {
    /// The caller behind the ARN that API Gateway reports. A session of a role,
    /// `arn:aws:sts::1:assumed-role/NAME/SESSION`, counts as its role, `arn:aws:iam::1:role/NAME`.
    pub fn from_arn(arn: &str) -> Self {
        Self::Iam { arn: role_of_session(arn).unwrap_or_else(|| arn.to_owned()) }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct { alias: None } => formatter.write_str("direct"),
            Self::Direct { alias: Some(alias) } => write!(formatter, "direct:{alias}"),
            Self::Iam { arn } => formatter.write_str(arn),
            Self::Anonymous => formatter.write_str("anonymous"),
        }
    }
}

/// The callers that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Any direct invoke.
    Direct,
    /// A direct invoke through this alias.
    DirectAlias(String),
    /// An HTTP request without an identity.
    Anonymous,
    /// The IAM identity with this ARN.
    Arn(String),
    /// Any IAM identity whose ARN begins with this.
    ArnPrefix(String),
}

impl Who {
    /// Parses the `caller` of a rule.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "direct" {
            return Ok(Self::Direct);
        }
        if text == "anonymous" {
            return Ok(Self::Anonymous);
        }
        if let Some(alias) = text.strip_prefix("direct:").filter(|alias| !alias.is_empty()) {
            return Ok(Self::DirectAlias(alias.to_owned()));
        }
        if !text.starts_with("arn:") {
            return Err("has to be `direct`, `direct:ALIAS`, `anonymous` or the ARN of an IAM role or user");
        }
        let (literal, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if literal.contains('*') {
            return Err("may have a `*` at its end only");
        }
        match (is_prefix, without_path(literal)) {
            // A session's ARN does not contain the path of its role, so such a rule could never match.
            (true, Some(_)) => {
                Err("cannot have both a role's path and a `*`: name the role without its path")
            }
            (true, None) => Ok(Self::ArnPrefix(literal.to_owned())),
            (false, Some(arn)) => Ok(Self::Arn(arn)),
            (false, None) => Ok(Self::Arn(role_of_session(literal).unwrap_or_else(|| literal.to_owned()))),
        }
    }

    fn is(&self, caller: &Caller) -> bool {
        match (self, caller) {
            (Self::Direct, Caller::Direct { .. }) | (Self::Anonymous, Caller::Anonymous) => true,
            (Self::DirectAlias(named), Caller::Direct { alias: Some(alias) }) => named == alias,
            (Self::Arn(named), Caller::Iam { arn }) => named == arn,
            (Self::ArnPrefix(prefix), Caller::Iam { arn }) => arn.starts_with(prefix.as_str()),
            _ => false,
        }
    }
}

/// Some names, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope<T> {
    All,
    These(Vec<T>),
}

/// One rule: these callers may do these actions on these accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rule {
    pub who: Who,
    pub accounts: Scope<AccountName>,
    pub actions: Scope<Action>,
}

/// The caller policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Callers {
    /// The operator set no rules. Direct invokes may do everything, since IAM guards them. IAM identities may get
    /// tokens and the status over HTTP. Other callers may do nothing.
    #[default]
    Unset,
    /// Denies everything that no rule allows.
    Rules(Vec<Rule>),
}

impl Callers {
    /// Whether a caller may do an action on an account, or on all accounts if none is named.
    pub fn allow(&self, caller: &Caller, action: Action, account: Option<&AccountName>) -> bool {
        if action == Action::Maintain {
            // The schedule's action. It hands nothing out, and the schedule invokes directly.
            return matches!(caller, Caller::Direct { .. });
        }
        match self {
            Self::Unset => match caller {
                Caller::Direct { .. } => true,
                Caller::Iam { .. } => matches!(action, Action::Token | Action::Status),
                Caller::Anonymous => false,
            },
            Self::Rules(rules) => rules.iter().any(|rule| {
                rule.who.is(caller) && covers(&rule.actions, Some(&action)) && covers(&rule.accounts, account)
            }),
        }
    }
}

fn covers<T: PartialEq>(scope: &Scope<T>, name: Option<&T>) -> bool {
    match scope {
        Scope::All => true,
        Scope::These(these) => name.is_some_and(|name| these.contains(name)),
    }
}

/// `arn:PARTITION:sts::ACCOUNT:assumed-role/NAME/SESSION` as `arn:PARTITION:iam::ACCOUNT:role/NAME`.
fn role_of_session(arn: &str) -> Option<String> {
    let (head, rest) = arn.split_once(":assumed-role/")?;
    let (name, _session) = rest.split_once('/')?;
    let mut parts = head.split(':');
    let (_arn, partition, service, _region, account) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (service == "sts" && parts.next().is_none())
        .then(|| format!("arn:{partition}:iam::{account}:role/{name}"))
}

/// A role's ARN without its path, if it has one. Within an account, a role's name is unique without its path.
fn without_path(arn: &str) -> Option<String> {
    let (head, path_and_name) = arn.split_once(":role/")?;
    let (_path, name) = path_and_name.rsplit_once('/')?;
    Some(format!("{head}:role/{name}"))
}

#[cfg(test)]
mod tests;
