//! The form in which records are stored: one DynamoDB item per account, and one for the ledger.
//!
//! | attribute | type | meaning |
//! | --- | --- | --- |
//! | `pk` | S | `account#NAME` or `ledger` |
//! | `version` | N | every write is conditional on it |
//! | `ttl` | N | seconds since the epoch, for DynamoDB's own clean-up |
//! | `pair` | M | `generation`, `access_token`, `refresh_token`, `refresh_spent`, `issued_at_ms`, `expires_at_ms`, `refresh_expires_at_ms`, `obtained_by`, `replaces`, `dead`, `origin` |
//! | `lease` | M | `holder`, `until_ms` |
//! | `cooldown` | M | `until_ms`, `reason`, `failures` |
//! | `parked` | S | version id of the secret that was refused |
//! | `verified_at_ms` | N | when a probe last found the access token alive |
//! | `no_probe_before_ms` | N | a probe brought no verdict, and rests until then |
//! | `pending` | L of M | to be revoked: `token`, `kind`, `origin` |
//! | `debits` | L of M | the ledger's `at_ms`, `until_ms`, `by` |
//! | `blocked_until_ms` | N | of the ledger |
//!
//! An `origin` is a map of `dialect`, `oauth_url` and `api_url`, and left out where all of it is as usual.
//!
//! Reading is strict: an item of any other form is an error that names the attribute, never its value, and
//! is never overwritten blindly. Attributes that are not listed are ignored when read.

use protocol::{Account, AccountName, Cooldown, CooldownReason, Permit, ApiVersion, Generation, Grant, Holder, Lease, LoginLimiter, Origin, Pair, Revocation, SecretVersion, TokenKind, Version, Timestamp, Secret};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;

/// An item, or a map within one.
pub type Item = HashMap<String, AttributeValue>;

/// The partition key of the ledger.
pub const LOGIN_LIMITER_KEY: &str = "ledger";
/// What the partition keys of accounts begin with.
pub const ACCOUNT_KEY_PREFIX: &str = "account#";

/// The partition key of an account.
pub fn account_key(name: &AccountName) -> String {
    format!("{ACCOUNT_KEY_PREFIX}{name}")
}

/// An account's record as an item.
pub fn from_account(name: &AccountName, account: &Account) -> Item {
    let mut item = Item::from([text("pk", account_key(name)), number("version", account.version.0)]);
    item.extend(account.garbage_collection_time().map(|at| number("ttl", at.as_millis() / 1000)));
    item.extend(account.pair.as_ref().map(|pair| map("pair", from_pair(pair))));
    item.extend(account.lease.map(|lease| {
        map("lease", Item::from([number("holder", lease.holder.0), instant("until_ms", lease.until)]))
    }));
    item.extend(account.cooldown.map(|cooldown| map("cooldown", from_cooldown(cooldown))));
    item.extend(account.rejected_secret.as_ref().map(|version| text("rejected_secret", version.0.clone())));
    item.extend(account.verified_at.map(|at| instant("verified_at_ms", at)));
    item.extend(account.no_probe_before.map(|at| instant("no_probe_before_ms", at)));
    if !account.pending.is_empty() {
        let pending = account.pending.iter().map(|revocation| AttributeValue::M(from_revocation(revocation)));
        item.insert("pending".to_owned(), AttributeValue::L(pending.collect()));
    }
    item
}

/// An item as an account's record.
///
/// # Errors
/// The name of the attribute that is missing or of another form.
pub fn to_account(item: &Item) -> Result<Account, String> {
    Ok(Account {
        version: Version(required(item, "version", get_number)?),
        pair: optional(item, "pair", get_map)?.map(to_pair).transpose()?,
        lease: optional(item, "lease", get_map)?.map(to_lease).transpose()?,
        cooldown: optional(item, "cooldown", get_map)?.map(to_cooldown).transpose()?,
        rejected_secret: optional(item, "rejected_secret", get_text)?.map(|version| SecretVersion(version.to_owned())),
        verified_at: optional(item, "verified_at_ms", get_instant)?,
        no_probe_before: optional(item, "no_probe_before_ms", get_instant)?,
        pending: optional(item, "pending", get_list)?
            .unwrap_or_default()
            .iter()
            .map(|value| to_revocation(get_map(value).ok_or_else(|| problem("pending"))?))
            .collect::<Result<_, _>>()?,
    })
}

/// The ledger as an item.
pub fn from_login_limiter(limiter: &LoginLimiter) -> Item {
    let permits = limiter
        .permits
        .iter()
        .map(|permit| {
            AttributeValue::M(Item::from([
                instant("at_ms", permit.at),
                instant("until_ms", permit.until),
                number("by", permit.by.0),
            ]))
        })
        .collect();
    let mut item = Item::from([
        text("pk", LOGIN_LIMITER_KEY.to_owned()),
        number("version", limiter.version.0),
        ("permits".to_owned(), AttributeValue::L(permits)),
    ]);
    item.extend(limiter.blocked_until.map(|until| instant("blocked_until_ms", until)));
    item
}

/// An item as the ledger.
///
/// # Errors
/// The name of the attribute that is missing or of another form.
pub fn to_login_limiter(item: &Item) -> Result<LoginLimiter, String> {
    let permits = required(item, "permits", get_list)?.iter().map(to_permit).collect::<Result<_, _>>()?;
    Ok(LoginLimiter {
        version: Version(required(item, "version", get_number)?),
        permits,
        blocked_until: optional(item, "blocked_until_ms", get_instant)?,
    })
}

/// The account that an item belongs to, or none where it is another kind of item.
pub fn account_of(item: &Item) -> Option<AccountName> {
    get_text(item.get("pk")?)?.strip_prefix(ACCOUNT_KEY_PREFIX).and_then(AccountName::parse)
}

fn from_pair(pair: &Pair) -> Item {
    let obtained_by = match pair.obtained_by {
        Grant::Login => "login",
        Grant::Refresh => "refresh",
    };
    let mut item = Item::from([
        number("generation", pair.generation.0),
        text("access_token", pair.access_token.expose().to_owned()),
        ("refresh_token_consumed".to_owned(), AttributeValue::Bool(pair.refresh_token_consumed)),
        instant("issued_at_ms", pair.issued_at),
        instant("expires_at_ms", pair.expires_at),
        text("obtained_by", obtained_by.to_owned()),
    ]);
    item.extend(pair.refresh_token.as_ref().map(|token| text("refresh_token", token.expose().to_owned())));
    item.extend(pair.refresh_expires_at.map(|at| instant("refresh_expires_at_ms", at)));
    item.extend(pair.replaces.map(|generation| number("replaces", generation.0)));
    if pair.dead {
        item.insert("dead".to_owned(), AttributeValue::Bool(true));
    }
    item.extend(from_origin(&pair.origin));
    item
}

fn to_pair(item: &Item) -> Result<Pair, String> {
    Ok(Pair {
        generation: Generation(required(item, "generation", get_number)?),
        access_token: required(item, "access_token", get_secret)?,
        refresh_token: optional(item, "refresh_token", get_secret)?,
        refresh_token_consumed: required(item, "refresh_token_consumed", |value| value.as_bool().ok().copied())?,
        issued_at: required(item, "issued_at_ms", get_instant)?,
        expires_at: required(item, "expires_at_ms", get_instant)?,
        refresh_expires_at: optional(item, "refresh_expires_at_ms", get_instant)?,
        obtained_by: required(item, "obtained_by", |value| match get_text(value)? {
            "login" => Some(Grant::Login),
            "refresh" => Some(Grant::Refresh),
            _ => None,
        })?,
        replaces: optional(item, "replaces", get_number)?.map(Generation),
        origin: to_origin(item)?,
        dead: optional(item, "dead", |value| value.as_bool().ok().copied())?.unwrap_or_default(),
    })
}

fn from_revocation(revocation: &Revocation) -> Item {
    let kind = match revocation.kind {
        TokenKind::Access => "access",
        TokenKind::Refresh => "refresh",
    };
    let mut item =
        Item::from([text("token", revocation.token.expose().to_owned()), text("kind", kind.to_owned())]);
    item.extend(from_origin(&revocation.origin));
    item
}

fn to_revocation(item: &Item) -> Result<Revocation, String> {
    Ok(Revocation {
        token: required(item, "token", get_secret)?,
        kind: required(item, "kind", |value| match get_text(value)? {
            "access" => Some(TokenKind::Access),
            "refresh" => Some(TokenKind::Refresh),
            _ => None,
        })?,
        origin: to_origin(item)?,
    })
}

fn from_origin(origin: &Origin) -> Option<(String, AttributeValue)> {
    let api_version = match origin.api_version {
        ApiVersion::V3 => None,
        ApiVersion::V2 => Some(text("api_version", "convirza-v2".to_owned())),
    };
    let urls = [("oauth_url", &origin.oauth_url), ("api_url", &origin.api_url)];
    let urls = urls.into_iter().filter_map(|(name, url)| Some(text(name, url.clone()?)));
    let fields: Item = api_version.into_iter().chain(urls).collect();
    (!fields.is_empty()).then(|| map("origin", fields))
}

fn to_origin(item: &Item) -> Result<Origin, String> {
    let Some(fields) = optional(item, "origin", get_map)? else { return Ok(Origin::default()) };
    Ok(Origin {
        api_version: optional(fields, "api_version", |value| match get_text(value)? {
            "convirza-v2" => Some(ApiVersion::V2),
            _ => None,
        })?
        .unwrap_or_default(),
        oauth_url: optional(fields, "oauth_url", get_text)?.map(str::to_owned),
        api_url: optional(fields, "api_url", get_text)?.map(str::to_owned),
    })
}

fn to_lease(item: &Item) -> Result<Lease, String> {
    let holder = Holder(required(item, "holder", get_number)?);
    Ok(Lease { holder, until: required(item, "until_ms", get_instant)? })
}

fn from_cooldown(cooldown: Cooldown) -> Item {
    let reason = match cooldown.reason {
        CooldownReason::RateLimited => "upstream_rate_limited",
        CooldownReason::Unavailable => "upstream_unavailable",
        CooldownReason::BudgetExhausted => "login_budget_exhausted",
    };
    Item::from([
        instant("until_ms", cooldown.until),
        text("reason", reason.to_owned()),
        number("failures", u64::from(cooldown.failures)),
    ])
}

fn to_cooldown(item: &Item) -> Result<Cooldown, String> {
    Ok(Cooldown {
        until: required(item, "until_ms", get_instant)?,
        reason: required(item, "reason", |value| match get_text(value)? {
            "upstream_rate_limited" => Some(CooldownReason::RateLimited),
            "upstream_unavailable" => Some(CooldownReason::Unavailable),
            "login_budget_exhausted" => Some(CooldownReason::BudgetExhausted),
            _ => None,
        })?,
        failures: required(item, "failures", |value| u32::try_from(get_number(value)?).ok())?,
    })
}

fn to_permit(value: &AttributeValue) -> Result<Permit, String> {
    let item = get_map(value).ok_or_else(|| problem("permits"))?;
    Ok(Permit {
        at: required(item, "at_ms", get_instant)?,
        until: required(item, "until_ms", get_instant)?,
        by: Holder(required(item, "by", get_number)?),
    })
}

fn text(name: &str, value: String) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::S(value))
}

fn number(name: &str, value: u64) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::N(value.to_string()))
}

fn instant(name: &str, at: Timestamp) -> (String, AttributeValue) {
    number(name, at.as_millis())
}

fn map(name: &str, item: Item) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::M(item))
}

fn get_text(value: &AttributeValue) -> Option<&str> {
    value.as_s().ok().map(String::as_str)
}

fn get_secret(value: &AttributeValue) -> Option<Secret> {
    get_text(value).filter(|text| !text.is_empty()).map(Secret::from)
}

fn get_number(value: &AttributeValue) -> Option<u64> {
    value.as_n().ok()?.parse().ok()
}

fn get_instant(value: &AttributeValue) -> Option<Timestamp> {
    get_number(value).map(Timestamp::from_millis)
}

fn get_map(value: &AttributeValue) -> Option<&Item> {
    value.as_m().ok()
}

fn get_list(value: &AttributeValue) -> Option<&[AttributeValue]> {
    value.as_l().ok().map(Vec::as_slice)
}

fn required<'a, T>(
    item: &'a Item,
    name: &str,
    get: impl Fn(&'a AttributeValue) -> Option<T>,
) -> Result<T, String> {
    optional(item, name, get)?.ok_or_else(|| problem(name))
}

fn optional<'a, T>(
    item: &'a Item,
    name: &str,
    get: impl Fn(&'a AttributeValue) -> Option<T>,
) -> Result<Option<T>, String> {
    item.get(name).map(|value| get(value).ok_or_else(|| problem(name))).transpose()
}

fn problem(name: &str) -> String {
    format!("attribute `{name}` is missing or of another form")
}
