//! The login rate limiter.

use super::{
    Item, ItemError, LOGIN_LIMITER_KEY,
    attributes::{
        get_instant, get_maps, get_number, get_text, instant, list, number, optional, required, text,
    },
};
use protocol::{AccountName, Holder, LOGIN_WINDOW, LimiterName, LoginLimiter, Permit, Version};
use std::time::Duration;

/// The partition key of a limiter: of the configured host, or of another host or account.
pub fn limiter_key(name: &LimiterName) -> String {
    name.key().map_or_else(|| LOGIN_LIMITER_KEY.to_owned(), |key| format!("{LOGIN_LIMITER_KEY}#{key}"))
}

/// The limiter as an item.
pub fn from_login_limiter(name: &LimiterName, limiter: &LoginLimiter) -> Item {
    let permits = limiter.permits.iter().map(|permit| {
        Item::from([
            text("account", permit.account.as_str()),
            instant("acquired_at_ms", permit.acquired_at),
            instant("counts_until_ms", permit.counts_until),
            number("holder", permit.holder.0),
        ])
    });
    let mut item = Item::from([
        text("pk", limiter_key(name)),
        number("version", limiter.version.0),
        list("permits", permits),
    ]);
    item.extend(limiter.blocked_until.map(|until| instant("blocked_until_ms", until)));
    // Earlier releases know only this one.
    let other = (limiter.window != LOGIN_WINDOW).then_some(limiter.window.as_secs());
    item.extend(other.map(|seconds| number("window_seconds", seconds)));
    item
}

/// An item as the limiter.
///
/// # Errors
/// The first attribute that is missing or malformed.
pub fn to_login_limiter(item: &Item) -> Result<LoginLimiter, ItemError> {
    let permits = required(item, "permits", get_maps)?.into_iter().map(to_permit);
    Ok(LoginLimiter {
        permits: permits.collect::<Result<_, _>>()?,
        version: Version(required(item, "version", get_number)?),
        blocked_until: optional(item, "blocked_until_ms", get_instant)?,
        window: optional(item, "window_seconds", get_number)?.map_or(LOGIN_WINDOW, Duration::from_secs),
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
