//! The form of the stored items: one DynamoDB item per account, and one for the login rate limiter.
//!
//! | attribute | type | meaning |
//! | --- | --- | --- |
//! | `pk` | S | `account#NAME`, `login_limiter`, or `login_limiter#HOST` for an upstream of an account's own |
//! | `version` | N | every write is conditional on it |
//! | `ttl` | N | seconds since the epoch, for DynamoDB's garbage collection |
//! | `pair` | M | the current pair, see below |
//! | `lease` | M | `holder`, `until_ms` |
//! | `cooldown` | M | `until_ms`, `reason`, `failures` |
//! | `rejected_secret` | S | the version id of the secret that the upstream refused |
//! | `pending_revocations` | L of M | tokens that are to be revoked: `token`, `kind`, `origin`, `expires_at_ms` |
//! | `young_deaths` | N | generations in a row that were found dead soon after their issue; left out if none |
//! | `replaced_at_ms` | N | when an operator's refresh was last carried out |
//! | `early_refresh_after_ms` | N | no renewal ahead of time before |
//! | `permits` | L of M | of the limiter: `account`, `acquired_at_ms`, `counts_until_ms`, `holder` |
//! | `blocked_until_ms` | N | of the limiter: no login before, after a 429 |
//!
//! | attribute of a pair | type | meaning |
//! | --- | --- | --- |
//! | `generation` | N | |
//! | `access_token` | S | |
//! | `refresh_token` | S | left out if the upstream gave none |
//! | `refresh_token_state` | S | `available` or `consumed`; only with a refresh token |
//! | `refresh_expires_at_ms` | N | only with a refresh token, where the upstream stated it |
//! | `issued_at_ms`, `expires_at_ms` | N | |
//! | `obtained_by` | S | `login` or `refresh` |
//! | `replaces` | N | the generation before, if there was one |
//! | `secret_version` | S | the version id of the secret of the login that the pair descends from |
//! | `verdict` | M | `state` is `alive`, `inconclusive` or `dead`; left out before the first probe |
//! | `origin` | M | `api_version`, `oauth_url`, `api_url`; left out if all have their defaults |
//!
//! A verdict's `at_ms` is the instant of the probe (`alive`) or of the next one (`inconclusive`); `dead` has none.
//!
//! Parsing is strict. An item of another form, or of a contradictory one such as a state without its token, is an error
//! that names the attribute and never its value. The broker does not overwrite such an item. It ignores attributes
//! that are not listed.

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{
    Account, AccountName, ApiVersion, Cooldown, CooldownReason, Generation, Grant, Holder, Lease,
    LoginLimiter, Origin, Pair, Permit, RefreshToken, Revocation, Secret, SecretVersion, Timestamp,
    TokenKind, UpstreamUrl, Verdict, Version,
};
use std::collections::HashMap;

/// An item, or a map within one.
pub type Item = HashMap<String, AttributeValue>;

/// An attribute that keeps an item from being parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute `{attribute}` is missing or of another form")]
pub struct ItemError {
    /// The attribute's name.
    pub attribute: &'static str,
}

/// The partition key of the login rate limiter.
pub const LOGIN_LIMITER_KEY: &str = "login_limiter";
/// The prefix of the accounts' partition keys.
pub const ACCOUNT_KEY_PREFIX: &str = "account#";

/// The partition key of an account.
pub fn account_key(name: &AccountName) -> String {
    format!("{ACCOUNT_KEY_PREFIX}{name}")
}

/// The account that an item belongs to; none if it is another kind of item.
pub fn account_of(item: &Item) -> Option<AccountName> {
    get_text(item.get("pk")?)?.strip_prefix(ACCOUNT_KEY_PREFIX).and_then(AccountName::parse)
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
    if !account.pending_revocations.is_empty() {
        item.extend([list("pending_revocations", account.pending_revocations.iter().map(from_revocation))]);
    }
    if account.young_deaths > 0 {
        item.extend([number("young_deaths", u64::from(account.young_deaths))]);
    }
    item.extend(account.replaced_at.map(|at| instant("replaced_at_ms", at)));
    item.extend(account.early_refresh_after.map(|at| instant("early_refresh_after_ms", at)));
    item
}

/// An item as an account's record.
///
/// # Errors
/// The first attribute that is missing or of another form.
pub fn to_account(item: &Item) -> Result<Account, ItemError> {
    Ok(Account {
        version: Version(required(item, "version", get_number)?),
        pair: optional(item, "pair", get_map)?.map(to_pair).transpose()?,
        lease: optional(item, "lease", get_map)?.map(to_lease).transpose()?,
        cooldown: optional(item, "cooldown", get_map)?.map(to_cooldown).transpose()?,
        rejected_secret: optional(item, "rejected_secret", get_text)?
            .map(|version| SecretVersion(version.to_owned())),
        pending_revocations: optional(item, "pending_revocations", get_maps)?
            .unwrap_or_default()
            .into_iter()
            .map(to_revocation)
            .collect::<Result<_, _>>()?,
        young_deaths: optional(item, "young_deaths", get_small_number)?.unwrap_or_default(),
        replaced_at: optional(item, "replaced_at_ms", get_instant)?,
        early_refresh_after: optional(item, "early_refresh_after_ms", get_instant)?,
    })
}

/// The partition key of a limiter: of the configured upstream, or of another host.
pub fn limiter_key(host: Option<&str>) -> String {
    host.map_or_else(|| LOGIN_LIMITER_KEY.to_owned(), |host| format!("{LOGIN_LIMITER_KEY}#{host}"))
}

/// The limiter as an item.
pub fn from_login_limiter(host: Option<&str>, limiter: &LoginLimiter) -> Item {
    let permits = limiter.permits.iter().map(|permit| {
        Item::from([
            text("account", permit.account.as_str()),
            instant("acquired_at_ms", permit.acquired_at),
            instant("counts_until_ms", permit.counts_until),
            number("holder", permit.holder.0),
        ])
    });
    let mut item = Item::from([
        text("pk", limiter_key(host)),
        number("version", limiter.version.0),
        list("permits", permits),
    ]);
    item.extend(limiter.blocked_until.map(|until| instant("blocked_until_ms", until)));
    item
}

/// An item as the limiter.
///
/// # Errors
/// The first attribute that is missing or of another form.
pub fn to_login_limiter(item: &Item) -> Result<LoginLimiter, ItemError> {
    let permits = required(item, "permits", get_maps)?.into_iter().map(to_permit);
    Ok(LoginLimiter {
        permits: permits.collect::<Result<_, _>>()?,
        version: Version(required(item, "version", get_number)?),
        blocked_until: optional(item, "blocked_until_ms", get_instant)?,
    })
}

fn from_pair(pair: &Pair) -> Item {
    let mut item = Item::from([
        number("generation", pair.generation.0),
        text("access_token", pair.access_token.expose()),
        instant("issued_at_ms", pair.issued_at),
        instant("expires_at_ms", pair.expires_at),
        text(
            "obtained_by",
            match pair.obtained_by {
                Grant::Login => "login",
                Grant::Refresh => "refresh",
            },
        ),
    ]);
    item.extend(pair.refresh_token.iter().flat_map(from_refresh_token));
    item.extend(pair.replaces.map(|generation| number("replaces", generation.0)));
    item.extend(pair.secret_version.as_ref().map(|version| text("secret_version", version.0.clone())));
    item.extend(from_verdict(pair.verdict));
    item.extend(from_origin(&pair.origin));
    item
}

fn to_pair(item: &Item) -> Result<Pair, ItemError> {
    Ok(Pair {
        generation: Generation(required(item, "generation", get_number)?),
        access_token: required(item, "access_token", get_secret)?,
        refresh_token: to_refresh_token(item)?,
        issued_at: required(item, "issued_at_ms", get_instant)?,
        expires_at: required(item, "expires_at_ms", get_instant)?,
        obtained_by: required(item, "obtained_by", |value| match get_text(value)? {
            "login" => Some(Grant::Login),
            "refresh" => Some(Grant::Refresh),
            _ => None,
        })?,
        replaces: optional(item, "replaces", get_number)?.map(Generation),
        origin: to_origin(item)?,
        secret_version: optional(item, "secret_version", get_text)?
            .map(|version| SecretVersion(version.to_owned())),
        verdict: optional(item, "verdict", get_map)?.map_or(Ok(Verdict::Unverified), to_verdict)?,
    })
}

fn from_refresh_token(refresh_token: &RefreshToken) -> Item {
    let RefreshToken { token, expires_at, consumed } = refresh_token;
    let state = if *consumed { "consumed" } else { "available" };
    let mut item = Item::from([text("refresh_token", token.expose()), text("refresh_token_state", state)]);
    item.extend(expires_at.map(|at| instant("refresh_expires_at_ms", at)));
    item
}

fn to_refresh_token(pair: &Item) -> Result<Option<RefreshToken>, ItemError> {
    let token = optional(pair, "refresh_token", get_secret)?;
    let consumed = optional(pair, "refresh_token_state", |value| match get_text(value)? {
        "available" => Some(false),
        "consumed" => Some(true),
        _ => None,
    })?;
    let expires_at = optional(pair, "refresh_expires_at_ms", get_instant)?;
    match (token, consumed, expires_at) {
        (Some(token), Some(consumed), expires_at) => Ok(Some(RefreshToken { token, expires_at, consumed })),
        (None, None, None) => Ok(None),
        (Some(_), None, _) => Err(ItemError { attribute: "refresh_token_state" }),
        (None, _, _) => Err(ItemError { attribute: "refresh_token" }),
    }
}

fn from_verdict(verdict: Verdict) -> Option<(String, AttributeValue)> {
    let fields = match verdict {
        Verdict::Unverified => return None,
        Verdict::Alive { at } => Item::from([text("state", "alive"), instant("at_ms", at)]),
        Verdict::Inconclusive { probe_after } => {
            Item::from([text("state", "inconclusive"), instant("at_ms", probe_after)])
        }
        Verdict::Dead => Item::from([text("state", "dead")]),
    };
    Some(map("verdict", fields))
}

fn to_verdict(item: &Item) -> Result<Verdict, ItemError> {
    let state = required(item, "state", get_text)?;
    let at = optional(item, "at_ms", get_instant)?;
    match (state, at) {
        ("alive", Some(at)) => Ok(Verdict::Alive { at }),
        ("inconclusive", Some(probe_after)) => Ok(Verdict::Inconclusive { probe_after }),
        ("dead", None) => Ok(Verdict::Dead),
        ("alive" | "inconclusive" | "dead", _) => Err(ItemError { attribute: "at_ms" }),
        _ => Err(ItemError { attribute: "state" }),
    }
}

fn from_revocation(revocation: &Revocation) -> Item {
    let kind = match revocation.kind {
        TokenKind::Access => "access",
        TokenKind::Refresh => "refresh",
    };
    let mut item = Item::from([
        text("token", revocation.token.expose()),
        text("kind", kind),
        instant("expires_at_ms", revocation.expires_at),
    ]);
    item.extend(from_origin(&revocation.origin));
    item
}

fn to_revocation(item: &Item) -> Result<Revocation, ItemError> {
    Ok(Revocation {
        token: required(item, "token", get_secret)?,
        kind: required(item, "kind", |value| match get_text(value)? {
            "access" => Some(TokenKind::Access),
            "refresh" => Some(TokenKind::Refresh),
            _ => None,
        })?,
        origin: to_origin(item)?,
        expires_at: required(item, "expires_at_ms", get_instant)?,
    })
}

fn from_origin(origin: &Origin) -> Option<(String, AttributeValue)> {
    let api_version = match origin.api_version {
        ApiVersion::V3 => None,
        ApiVersion::V2 => Some(text("api_version", "convirza-v2")),
    };
    let urls = [("oauth_url", &origin.oauth_url), ("api_url", &origin.api_url)];
    let urls = urls.into_iter().filter_map(|(name, url)| Some(text(name, url.as_ref()?.as_str())));
    let fields: Item = api_version.into_iter().chain(urls).collect();
    (!fields.is_empty()).then(|| map("origin", fields))
}

fn to_origin(item: &Item) -> Result<Origin, ItemError> {
    let Some(fields) = optional(item, "origin", get_map)? else { return Ok(Origin::default()) };
    let api_version = optional(fields, "api_version", |value| match get_text(value)? {
        "convirza-v2" => Some(ApiVersion::V2),
        _ => None,
    })?;
    Ok(Origin {
        api_version: api_version.unwrap_or_default(),
        oauth_url: optional(fields, "oauth_url", get_url)?,
        api_url: optional(fields, "api_url", get_url)?,
    })
}

fn to_lease(item: &Item) -> Result<Lease, ItemError> {
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
        text("reason", reason),
        number("failures", u64::from(cooldown.failures)),
    ])
}

fn to_cooldown(item: &Item) -> Result<Cooldown, ItemError> {
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

fn to_permit(item: &Item) -> Result<Permit, ItemError> {
    Ok(Permit {
        account: required(item, "account", |value| AccountName::parse(get_text(value)?))?,
        acquired_at: required(item, "acquired_at_ms", get_instant)?,
        counts_until: required(item, "counts_until_ms", get_instant)?,
        holder: Holder(required(item, "holder", get_number)?),
    })
}

fn text(name: &str, value: impl Into<String>) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::S(value.into()))
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

fn list(name: &str, items: impl Iterator<Item = Item>) -> (String, AttributeValue) {
    (name.to_owned(), AttributeValue::L(items.map(AttributeValue::M).collect()))
}

fn get_text(value: &AttributeValue) -> Option<&str> {
    value.as_s().ok().map(String::as_str)
}

fn get_secret(value: &AttributeValue) -> Option<Secret> {
    get_text(value).filter(|text| !text.is_empty()).map(Secret::from)
}

fn get_url(value: &AttributeValue) -> Option<UpstreamUrl> {
    UpstreamUrl::parse(get_text(value)?).ok()
}

fn get_small_number(value: &AttributeValue) -> Option<u32> {
    u32::try_from(get_number(value)?).ok()
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

fn get_maps(value: &AttributeValue) -> Option<Vec<&Item>> {
    value.as_l().ok()?.iter().map(get_map).collect()
}

fn required<'a, T>(
    item: &'a Item,
    attribute: &'static str,
    get: impl Fn(&'a AttributeValue) -> Option<T>,
) -> Result<T, ItemError> {
    optional(item, attribute, get)?.ok_or(ItemError { attribute })
}

fn optional<'a, T>(
    item: &'a Item,
    attribute: &'static str,
    get: impl Fn(&'a AttributeValue) -> Option<T>,
) -> Result<Option<T>, ItemError> {
    item.get(attribute).map(|value| get(value).ok_or(ItemError { attribute })).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000_000);

    fn pair(refresh_token: Option<RefreshToken>, verdict: Verdict) -> Item {
        from_pair(&Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token,
            issued_at: AT,
            expires_at: AT,
            obtained_by: Grant::Login,
            replaces: None,
            origin: Origin {
                api_version: ApiVersion::V2,
                oauth_url: UpstreamUrl::parse("https://oauth.example").ok(),
                api_url: None,
            },
            secret_version: None,
            verdict,
        })
    }

    fn full() -> Item {
        let token = Secret::from("refresh");
        pair(Some(RefreshToken { token, expires_at: Some(AT), consumed: true }), Verdict::Alive { at: AT })
    }

    fn nested<'a>(item: &'a mut Item, name: &str) -> &'a mut Item {
        match item.get_mut(name) {
            Some(AttributeValue::M(nested)) => nested,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn refused(item: &Item) -> &'static str {
        to_pair(item).unwrap_err().attribute
    }

    #[test]
    fn the_state_of_a_refresh_token_needs_its_token() {
        let mut item = full();
        item.remove("refresh_token");
        assert_eq!(refused(&item), "refresh_token");
        item.remove("refresh_token_state");
        assert_eq!(refused(&item), "refresh_token", "an expiry without its token");
        item.remove("refresh_expires_at_ms");
        assert_eq!(to_pair(&item).unwrap().refresh_token, None);
    }

    #[test]
    fn a_refresh_token_needs_a_known_state() {
        let mut item = full();
        item.extend([text("refresh_token_state", "spent")]);
        assert_eq!(refused(&item), "refresh_token_state");
        item.remove("refresh_token_state");
        assert_eq!(refused(&item), "refresh_token_state");
    }

    #[test]
    fn a_verdict_has_an_instant_unless_the_token_is_dead() {
        for (state, dated) in [("alive", false), ("inconclusive", false), ("dead", true)] {
            let mut item = full();
            let verdict = nested(&mut item, "verdict");
            verdict.extend([text("state", state)]);
            if !dated {
                verdict.remove("at_ms");
            }
            assert_eq!(refused(&item), "at_ms", "{state}");
        }
        let mut item = full();
        nested(&mut item, "verdict").extend([text("state", "unverified")]);
        assert_eq!(refused(&item), "state");
    }

    #[test]
    fn a_bad_url_makes_an_item_unreadable() {
        for bad in ["http://oauth.example", "https://user:word@oauth.example", ""] {
            let mut item = full();
            nested(&mut item, "origin").extend([text("oauth_url", bad)]);
            assert_eq!(refused(&item), "oauth_url", "{bad}");
        }
    }

    #[test]
    fn an_error_names_the_attribute_and_not_its_value() {
        let error = ItemError { attribute: "pair" };
        assert_eq!(error.to_string(), "attribute `pair` is missing or of another form");
    }
}
