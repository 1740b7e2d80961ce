//! The form of the stored items: one DynamoDB item per account, and one for the login rate limiter.
//!
//! | attribute | type | meaning |
//! | --- | --- | --- |
//! | `pk` | S | `account#NAME`, `grant#NAME` for a grant that only a person can renew, `login_limiter`, or `login_limiter#HOST` for another host, with `#ACCOUNT` if it counts each account for itself |
//! | `version` | N | every write is conditional on it |
//! | `ttl` | N | seconds since the epoch, for DynamoDB's garbage collection |
//! | `pair` | M | the current pair, see below |
//! | `lease` | M | `holder`, `until_ms` |
//! | `cooldown` | M | `until_ms`, `reason`, `failures`; `fault`, if the upstream did not respond, or refused |
//! | `rejected_secret` | S | the version id of the secret that the upstream rejected |
//! | `rejected_secret_refusals` | N | how often it did in a row; left out by earlier releases |
//! | `rejected_secret_retry_at_ms` | N | a request may try it again from then on; left out by earlier releases |
//! | `pending_revocations` | L of M | tokens that are to be revoked: `token`, `kind`, `origin`, `expires_at_ms`; `retry` of one that failed: `at_ms`, `failures` |
//! | `pending_oauth2_revocations` | L of M | the same for OAuth 2.0 servers; 0.1.0 does not know them |
//! | `young_deaths` | N | generations in a row that were found dead soon after their issue; left out if none |
//! | `replaced_at_ms` | N | when an operator's refresh was last carried out |
//! | `early_refresh_after_ms` | N | no early renewal before then |
//! | `grant` | M | of a grant that only a person can renew: `held` and `trial`, the use of the refresh token that the pair holds and of a new one; `sent`, fingerprints of bootstrap tokens; `predecessor`, `send_after_ms`, `resend_within_ms` |
//! | `permits` | L of M | of the limiter: `account`, `acquired_at_ms`, `counts_until_ms`, `holder` |
//! | `blocked_until_ms` | N | of the limiter: no login before then, after a 429 |
//! | `window_seconds` | N | of the limiter: the span over which its writer counted, unless 60 |
//!
//! | attribute of a pair | type | meaning |
//! | --- | --- | --- |
//! | `generation` | N | |
//! | `access_token` | S | |
//! | `refresh_token` | S | absent if the upstream gave none |
//! | `refresh_token_state` | S | `available` or `consumed`; only with a refresh token |
//! | `refresh_expires_at_ms` | N | only with a refresh token, if the upstream stated it |
//! | `earlier_refresh_life_ms` | N | the longest stated life of an earlier refresh token of the session, if it was at least 28 days |
//! | `issued_at_ms`, `expires_at_ms` | N | |
//! | `obtained_by` | S | `login` or `refresh` |
//! | `replaces` | N | the generation before, if there was one |
//! | `secret_version` | S | the version id of the secret of the login that the pair descends from |
//! | `verdict` | M | `state` is `alive`, `inconclusive` or `dead`; left out before the first probe |
//! | `origin` | M | `api_version`, `oauth_url`, `api_url`; left out if all have their defaults. Of an OAuth 2.0 server: `token_url`, `revoke_url`, `probe_url`, with V2's `api_version` |
//! | `extra` | S | fields of the upstream's answer for callers, as a JSON object |
//! | `refresh_ahead_seconds` | N | renewed this long before its expiry, where the secret says so |
//!
//! A verdict's `at_ms` is the instant of the probe (`alive`) or of the next one (`inconclusive`); `dead` has none.
//!
//! Parsing is strict. A malformed or contradictory item, such as a state without its token, is an error that names the
//! attribute and never its value. The broker does not overwrite such an item. It ignores unknown attributes.

mod attributes;
mod grant;
mod login_limiter;
mod pair;

pub use login_limiter::{from_login_limiter, limiter_key, to_login_limiter};

use attributes::{
    get_instant, get_map, get_maps, get_number, get_small_number, get_text, instant, list, map, number,
    optional, required, text,
};
use aws_sdk_dynamodb::types::AttributeValue;
use grant::{from_grant, to_grant};
use pair::{from_pair, from_revocation, to_pair, to_revocation};
use protocol::{
    Account, AccountName, Cooldown, CooldownReason, Holder, Lease, RejectedSecret, Revocation, SecretVersion,
    UpstreamFault, Version,
};
use std::collections::HashMap;

/// An item, or a map within one.
pub type Item = HashMap<String, AttributeValue>;

/// The attribute because of which an item cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute `{attribute}` is missing or malformed")]
pub struct ItemError {
    /// The attribute's name.
    pub attribute: &'static str,
}

/// The partition key of the login rate limiter.
pub const LOGIN_LIMITER_KEY: &str = "login_limiter";
/// The prefix of the accounts' partition keys.
pub const ACCOUNT_KEY_PREFIX: &str = "account#";

/// The prefix of the partition keys of grants that only a person can renew. Release 0.1.0 drops the attributes that it
/// does not know from an account's item, and would send a token again. It does not see items with this prefix.
pub const GRANT_KEY_PREFIX: &str = "grant#";

/// The partition key of an account that can log in.
pub fn account_key(name: &AccountName) -> String {
    format!("{ACCOUNT_KEY_PREFIX}{name}")
}

/// The partition key of an account whose grant only a person can renew.
pub fn grant_key(name: &AccountName) -> String {
    format!("{GRANT_KEY_PREFIX}{name}")
}

/// The account that an item belongs to; `None` if it is another kind of item.
pub fn account_of(item: &Item) -> Option<AccountName> {
    let key = get_text(item.get("pk")?)?;
    let name = key.strip_prefix(ACCOUNT_KEY_PREFIX).or_else(|| key.strip_prefix(GRANT_KEY_PREFIX))?;
    AccountName::parse(name)
}

/// Whether an item is that of a grant that only a person can renew.
pub fn is_grant(item: &Item) -> bool {
    item.get("pk").and_then(get_text).is_some_and(|key| key.starts_with(GRANT_KEY_PREFIX))
}

/// An account's record as an item.
pub fn from_account(name: &AccountName, account: &Account) -> Item {
    let key = if account.grant.is_some() { grant_key(name) } else { account_key(name) };
    let mut item = Item::from([text("pk", key), number("version", account.version.0)]);
    item.extend(account.garbage_collection_time().map(|at| number("ttl", at.as_millis() / 1000)));
    item.extend(account.pair.as_ref().map(|pair| map("pair", from_pair(pair))));
    item.extend(account.lease.map(|lease| {
        map("lease", Item::from([number("holder", lease.holder.0), instant("until_ms", lease.until)]))
    }));
    item.extend(account.cooldown.map(|cooldown| map("cooldown", from_cooldown(cooldown))));
    item.extend(account.rejected_secret.iter().flat_map(from_rejected_secret));
    let pending = &account.pending_revocations;
    let (oauth2, convirza): (Vec<_>, Vec<_>) = pending.iter().partition(|it| it.origin.needs_client());
    for (name, revocations) in [("pending_revocations", convirza), ("pending_oauth2_revocations", oauth2)] {
        if !revocations.is_empty() {
            item.extend([list(name, revocations.into_iter().map(from_revocation))]);
        }
    }
    if account.young_deaths > 0 {
        item.extend([number("young_deaths", u64::from(account.young_deaths))]);
    }
    item.extend(account.replaced_at.map(|at| instant("replaced_at_ms", at)));
    item.extend(account.early_refresh_after.map(|at| instant("early_refresh_after_ms", at)));
    item.extend(account.grant.as_ref().map(|grant| map("grant", from_grant(grant))));
    item
}

/// An item as an account's record.
///
/// # Errors
/// The first attribute that is missing or malformed.
pub fn to_account(item: &Item) -> Result<Account, ItemError> {
    Ok(Account {
        version: Version(required(item, "version", get_number)?),
        pair: optional(item, "pair", get_map)?.map(to_pair).transpose()?,
        lease: optional(item, "lease", get_map)?.map(to_lease).transpose()?,
        cooldown: optional(item, "cooldown", get_map)?.map(to_cooldown).transpose()?,
        rejected_secret: to_rejected_secret(item)?,
        pending_revocations: to_revocations(item)?,
        young_deaths: optional(item, "young_deaths", get_small_number)?.unwrap_or_default(),
        replaced_at: optional(item, "replaced_at_ms", get_instant)?,
        early_refresh_after: optional(item, "early_refresh_after_ms", get_instant)?,
        grant: optional(item, "grant", get_map)?.map(to_grant).transpose()?.map(Box::new),
    })
}

/// OAuth 2.0 servers have their own attribute: release 0.1.0 would send their tokens to Convirza.
fn to_revocations(item: &Item) -> Result<Vec<Revocation>, ItemError> {
    let convirza = optional(item, "pending_revocations", get_maps)?;
    let oauth2 = optional(item, "pending_oauth2_revocations", get_maps)?;
    let all = convirza.into_iter().chain(oauth2).flatten().map(to_revocation);
    let mut all = all.collect::<Result<Vec<_>, _>>()?;
    // In the order in which they would be written, even if an entry is in the other's attribute.
    all.sort_by_key(|revocation| revocation.origin.needs_client());
    Ok(all)
}

fn from_rejected_secret(rejected: &RejectedSecret) -> Item {
    let mut item = Item::from([
        text("rejected_secret", rejected.version.0.clone()),
        number("rejected_secret_refusals", u64::from(rejected.refusals)),
    ]);
    item.extend(rejected.retry_at.map(|at| instant("rejected_secret_retry_at_ms", at)));
    item
}

fn to_rejected_secret(item: &Item) -> Result<Option<RejectedSecret>, ItemError> {
    let Some(version) = optional(item, "rejected_secret", get_text)? else { return Ok(None) };
    Ok(Some(RejectedSecret {
        version: SecretVersion(version.to_owned()),
        refusals: optional(item, "rejected_secret_refusals", get_small_number)?.unwrap_or(1),
        retry_at: optional(item, "rejected_secret_retry_at_ms", get_instant)?,
    }))
}

fn to_lease(item: &Item) -> Result<Lease, ItemError> {
    let holder = Holder(required(item, "holder", get_number)?);
    Ok(Lease { holder, until: required(item, "until_ms", get_instant)? })
}

fn from_cooldown(cooldown: Cooldown) -> Item {
    let reason = match cooldown.reason {
        CooldownReason::RateLimited => "upstream_rate_limited",
        CooldownReason::Unavailable(_) => "upstream_unavailable",
        CooldownReason::BudgetExhausted => "login_budget_exhausted",
    };
    let fault = match cooldown.reason {
        CooldownReason::Unavailable(UpstreamFault::NoResponse) => Some("no_response"),
        CooldownReason::Unavailable(UpstreamFault::Refused) => Some("refused"),
        _ => None,
    };
    let mut item = Item::from([
        instant("until_ms", cooldown.until),
        text("reason", reason),
        number("failures", u64::from(cooldown.failures)),
    ]);
    item.extend(fault.map(|fault| text("fault", fault)));
    item
}

fn to_cooldown(item: &Item) -> Result<Cooldown, ItemError> {
    let fault = optional(item, "fault", |value| match get_text(value)? {
        "no_response" => Some(UpstreamFault::NoResponse),
        "refused" => Some(UpstreamFault::Refused),
        _ => None,
    })?;
    let fault = fault.unwrap_or(UpstreamFault::Unexpected);
    Ok(Cooldown {
        until: required(item, "until_ms", get_instant)?,
        reason: required(item, "reason", |value| match get_text(value)? {
            "upstream_rate_limited" => Some(CooldownReason::RateLimited),
            "upstream_unavailable" => Some(CooldownReason::Unavailable(fault)),
            "login_budget_exhausted" => Some(CooldownReason::BudgetExhausted),
            _ => None,
        })?,
        failures: required(item, "failures", |value| u32::try_from(get_number(value)?).ok())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_attribute_and_not_its_value() {
        let error = ItemError { attribute: "pair" };
        assert_eq!(error.to_string(), "attribute `pair` is missing or malformed");
    }
}
