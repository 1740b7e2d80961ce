//! Who may do what.

use contract::{AccountName, Action};
use std::fmt;

/// The caller, as authenticated by AWS in front of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A direct invocation, with or without an alias. IAM has allowed it, but does not reveal the caller's identity.
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

/// The callers to whom a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Any direct invocation.
    Direct,
    /// A direct invocation through this alias.
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
        if let Some(alias) = text.strip_prefix("direct:") {
            let alias = alias_name(alias).ok_or("must name an alias after `direct:`, not a version")?;
            return Ok(Self::DirectAlias(alias.to_owned()));
        }
        if !text.starts_with("arn:") {
            return Err("must be `direct`, `direct:ALIAS`, `anonymous` or the ARN of an IAM role or user");
        }
        let (literal, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if literal.contains('*') {
            return Err("may have a `*` only at its end");
        }
        let resource = resource_of(literal)
            .ok_or("must name a partition and an account: arn:PARTITION:iam::ACCOUNT:role/NAME")?;
        match (is_prefix, without_path(literal)) {
            // A session's ARN lacks the path of its role, so such a rule could never match.
            (true, Some(_)) => {
                Err("cannot have both a role's path and a `*`: name the role without its path")
            }
            (true, None) if !resource.may_begin_an_identity() => Err(NO_IDENTITY),
            (true, None) => Ok(Self::ArnPrefix(literal.to_owned())),
            (false, Some(arn)) if resource.is_an_identity() && !arn.ends_with('/') => Ok(Self::Arn(arn)),
            (false, Some(_)) => Err(NO_IDENTITY),
            (false, None) => match role_of_session(literal) {
                Some(role) => Ok(Self::Arn(role)),
                None if resource.is_an_identity() => Ok(Self::Arn(literal.to_owned())),
                None => Err(NO_IDENTITY),
            },
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

/// Some names, or all.
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
    /// The log names this rule when it alone allows a request, so the operator learns what would break without it.
    pub audit: bool,
}

/// The policy's verdict on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// No rule allows it.
    Denied,
    /// It is allowed.
    Allowed,
    /// Only `audit` rules allow it. The first of them has this number, counted from one.
    Audited(usize),
}

/// The caller policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Callers {
    /// The operator set no rules. Direct invocations may do everything, because IAM guards them. IAM identities may use
    /// `token` and `status` over HTTP. Other callers may do nothing.
    #[default]
    Unset,
    /// Denies everything that no rule allows.
    Rules(Vec<Rule>),
}

impl Callers {
    /// Whether a caller may do an action on an account, or on all accounts if none is named.
    pub fn allow(&self, caller: &Caller, action: Action, account: Option<&AccountName>) -> bool {
        self.permission(caller, action, account) != Permission::Denied
    }

    /// The policy's verdict on an action on an account, or on all accounts if none is named.
    pub fn permission(&self, caller: &Caller, action: Action, account: Option<&AccountName>) -> Permission {
        let allowed = |is_allowed| if is_allowed { Permission::Allowed } else { Permission::Denied };
        if action == Action::Maintain {
            // `maintain` belongs to the schedule, which invokes directly. It hands out no token.
            return allowed(matches!(caller, Caller::Direct { .. }));
        }
        match self {
            Self::Unset => allowed(match caller {
                Caller::Direct { .. } => true,
                Caller::Iam { .. } => matches!(action, Action::Token | Action::Status),
                Caller::Anonymous => false,
            }),
            Self::Rules(rules) => {
                let matching = || {
                    rules.iter().enumerate().filter(|(_, rule)| {
                        rule.who.is(caller)
                            && covers(&rule.actions, Some(&action))
                            && covers(&rule.accounts, account)
                    })
                };
                match matching().find(|(_, rule)| !rule.audit).or_else(|| matching().next()) {
                    None => Permission::Denied,
                    Some((index, Rule { audit: true, .. })) => Permission::Audited(index + 1),
                    Some(_) => Permission::Allowed,
                }
            }
        }
    }
}

fn covers<T: PartialEq>(scope: &Scope<T>, name: Option<&T>) -> bool {
    match scope {
        Scope::All => true,
        Scope::These(these) => name.is_some_and(|name| these.contains(name)),
    }
}

const NO_IDENTITY: &str = "can never match: the ARN of a caller is that of an IAM role, an IAM user, a federated user or the account's root";

/// A well-formed alias name. A number would be a version.
pub fn alias_name(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_version = text.bytes().all(|byte| byte.is_ascii_digit());
    (text.len() <= 128 && !is_version && text.bytes().all(is_plain)).then_some(text)
}

/// The service of an ARN, and the part after the account: `role/NAME`.
struct Resource<'a> {
    service: &'a str,
    name: &'a str,
}

/// The resource of `arn:PARTITION:SERVICE::ACCOUNT:RESOURCE`. None unless partition and account are given in full.
fn resource_of(arn: &str) -> Option<Resource<'_>> {
    let mut parts = arn.splitn(6, ':');
    let (_arn, partition, service, region) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (account, name) = (parts.next()?, parts.next()?);
    let is_partition = partition.starts_with("aws")
        && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (is_partition && is_account && region.is_empty()).then_some(Resource { service, name })
}

impl Resource<'_> {
    /// The prefixes of callers' resources. A session counts as its role.
    fn kinds(&self) -> &'static [&'static str] {
        match self.service {
            "iam" => &["role/", "user/", "root"],
            "sts" => &["federated-user/"],
            _ => &[],
        }
    }

    fn is_an_identity(&self) -> bool {
        self.kinds().iter().any(|kind| match self.name.strip_prefix(kind) {
            Some(name) => kind.ends_with('/') != name.is_empty(),
            None => false,
        })
    }

    fn may_begin_an_identity(&self) -> bool {
        self.kinds().iter().any(|kind| kind.starts_with(self.name) || self.name.starts_with(kind))
    }
}

/// `arn:PARTITION:sts::ACCOUNT:assumed-role/NAME/SESSION` as `arn:PARTITION:iam::ACCOUNT:role/NAME`.
fn role_of_session(arn: &str) -> Option<String> {
    let (head, rest) = arn.split_once(":assumed-role/")?;
    let (name, _session) = rest.split_once('/')?;
    let mut parts = head.split(':');
    let (arn, partition, service, region, account) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (arn == "arn" && service == "sts" && region.is_empty() && parts.next().is_none())
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
