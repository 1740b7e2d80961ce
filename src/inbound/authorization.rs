//! Who may do what.

use super::record::AccountName;
use std::fmt;

/// What a request asks the broker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Hand out a token.
    Token,
    /// Say what is known.
    Status,
    /// Replace the pair now.
    Refresh,
    /// Revoke the pair and forget it.
    Revoke,
    /// Renew what is due.
    Maintain,
}

impl Action {
    /// Every action, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Token, Self::Status, Self::Refresh, Self::Revoke, Self::Maintain];

    /// The action's name in payloads and rules.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Status => "status",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Maintain => "maintain",
        }
    }

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// Who asks, as the platform in front of the broker has established it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A direct invoke, through an alias or without one. IAM has let it through; who it was is not known.
    Direct {
        /// The function alias that was invoked.
        alias: Option<String>,
    },
    /// An HTTP request signed by an IAM role or user. A role's session is named by its role.
    Iam {
        /// The ARN of the role or user.
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

/// Whom a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Any direct invoke.
    Direct,
    /// A direct invoke through this alias.
    DirectAlias(String),
    /// An HTTP request without an identity.
    Anonymous,
    /// An IAM identity, to the letter.
    Arn(String),
    /// An IAM identity that begins like this.
    ArnPrefix(String),
}

impl Who {
    /// Reads the `caller` of a rule.
    ///
    /// # Errors
    /// What it has to be.
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
            // A session's ARN does not tell the path of its role, so such a rule could never match.
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

/// A choice of names, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<T> {
    /// All.
    All,
    /// These.
    These(Vec<T>),
}

/// One rule: this caller may do these actions on these accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who.
    pub who: Who,
    /// On which accounts.
    pub accounts: Scope<AccountName>,
    /// Which actions.
    pub actions: Scope<Action>,
}

/// The caller policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Callers {
    /// None was set: direct invokes may do everything, since IAM is the gate; an IAM identity may have
    /// tokens and status over HTTP; nobody else may do anything.
    #[default]
    Unset,
    /// What no rule allows is denied.
    Rules(Vec<Rule>),
}

impl Callers {
    /// Whether a caller may do something to an account, or to all of them where none is named.
    pub fn allow(&self, caller: &Caller, action: Action, account: Option<&AccountName>) -> bool {
        if action == Action::Maintain {
            // The schedule's own action: it hands nothing out, and is only ever a direct invoke.
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

fn covers<T: PartialEq>(some: &Scope<T>, one: Option<&T>) -> bool {
    match some {
        Scope::All => true,
        Scope::These(these) => one.is_some_and(|one| these.contains(one)),
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

/// A role's ARN without its path, if it has one: within an account, a role's name is unique without it.
fn without_path(arn: &str) -> Option<String> {
    let (head, path_and_name) = arn.split_once(":role/")?;
    let (_path, name) = path_and_name.rsplit_once('/')?;
    Some(format!("{head}:role/{name}"))
}

#[cfg(test)]
mod tests;
