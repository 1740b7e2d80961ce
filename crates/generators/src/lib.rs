//! Any record, any request, any event.

use aws_sdk_dynamodb::types::AttributeValue;
use proptest::{
    collection::{hash_map, vec},
    option,
    prelude::*,
};
use serde_json::Value;
use std::time::Duration;
use token_broker::{outbound::dynamodb::Item};
use protocol::{Request, Intent, Target, Effect, Event, SecretError, StoreError, WriteOutcome, Credentials, Expiry, Granted, UpstreamReply, Policy, Account, AccountName, Cooldown, CooldownReason, Permit, ApiVersion, Generation, Grant, Holder, Lease, LoginLimiter, Origin, Pair, Revocation, SecretVersion, TokenKind, Version, Timestamp, Secret};

/// Mostly instants near each other, sometimes any at all: clocks go back, and some are wrong.
pub fn instant() -> impl Strategy<Value = Timestamp> {
    let near = 1_000_000_000_000..1_000_700_000_000_u64;
    prop_oneof![9 => near, 1 => any::<u64>()].prop_map(Timestamp::from_millis)
}

/// Mostly one of a few, so that two of them are the same now and then.
fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![3 => 0..4_u64, 1 => any::<u64>()].prop_map(Generation)
}

fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(Duration::from_secs)
}

/// Within the ranges of the configuration.
pub fn policy() -> impl Strategy<Value = Policy> {
    let millis = |least: u64, most: u64| (least..=most).prop_map(Duration::from_millis);
    (
        1..=10_usize,
        seconds(180 * 86_400),
        1..=604_800_u64,
        seconds(3600),
        millis(100, 25_000),
        millis(0, 60_000),
    )
        .prop_map(
            |(login_budget, refresh_ahead, max_ttl, memory_ttl, upstream_timeout, clock_margin)| Policy {
                login_budget,
                refresh_ahead,
                max_ttl: Duration::from_secs(max_ttl),
                memory_ttl,
                upstream_timeout,
                lease: upstream_timeout * 3,
                clock_margin,
            },
        )
}

fn secret() -> impl Strategy<Value = Secret> {
    "[a-z]{1,8}".prop_map(Secret::new)
}

fn origin() -> impl Strategy<Value = Origin> {
    let api_version = prop_oneof![Just(ApiVersion::V3), Just(ApiVersion::V2)];
    (api_version, option::of("https://[a-z]{1,8}"), option::of("https://[a-z]{1,8}"))
        .prop_map(|(api_version, oauth_url, api_url)| Origin { api_version, oauth_url, api_url })
}

pub fn pair() -> impl Strategy<Value = Pair> {
    let grant = prop_oneof![Just(Grant::Login), Just(Grant::Refresh)];
    (
        (generation(), secret(), option::of(secret()), any::<bool>(), instant(), instant()),
        (option::of(instant()), grant, option::of(generation()), origin(), any::<bool>()),
    )
        .prop_map(|(first, second)| Pair {
            generation: first.0,
            access_token: first.1,
            refresh_token: first.2,
            refresh_token_consumed: first.3,
            issued_at: first.4,
            expires_at: first.5,
            refresh_expires_at: second.0,
            obtained_by: second.1,
            replaces: second.2,
            origin: second.3,
            dead: second.4,
        })
}

fn cooldown() -> impl Strategy<Value = Cooldown> {
    let reason = prop_oneof![
        Just(CooldownReason::RateLimited),
        Just(CooldownReason::Unavailable),
        Just(CooldownReason::BudgetExhausted)
    ];
    (instant(), reason, any::<u32>()).prop_map(|(until, reason, failures)| Cooldown {
        until,
        reason,
        failures,
    })
}

fn revocation() -> impl Strategy<Value = Revocation> {
    let kind = prop_oneof![Just(TokenKind::Access), Just(TokenKind::Refresh)];
    (secret(), kind, origin()).prop_map(|(token, kind, origin)| Revocation { token, kind, origin })
}

pub fn account() -> impl Strategy<Value = Account> {
    let lease = (any::<u64>(), instant()).prop_map(|(holder, until)| Lease { holder: Holder(holder), until });
    (
        (0..=u64::MAX / 2, option::of(pair()), option::of(lease), option::of(cooldown())),
        (option::of("[a-z]{1,8}"), option::of(instant()), option::of(instant()), vec(revocation(), 0..3)),
    )
        .prop_map(|(first, second)| Account {
            version: Version(first.0),
            pair: first.1,
            lease: first.2,
            cooldown: first.3,
            rejected_secret: second.0.map(SecretVersion),
            verified_at: second.1,
            no_probe_before: second.2,
            pending: second.3,
        })
}

pub fn ledger() -> impl Strategy<Value = LoginLimiter> {
    let permit =
        (instant(), instant(), any::<u64>()).prop_map(|(at, until, by)| Permit { at, until, by: Holder(by) });
    (0..=u64::MAX / 2, vec(permit, 0..12), option::of(instant())).prop_map(
        |(version, permits, blocked_until)| LoginLimiter { version: Version(version), permits, blocked_until },
    )
}

pub fn ask() -> impl Strategy<Value = Request> {
    let target = || prop_oneof![Just(Target::NotSeen), option::of(generation()).prop_map(Target::Pair)];
    let goal = prop_oneof![
        4 => (seconds(900), option::of(generation()))
            .prop_map(|(min_ttl, rejected)| Intent::Token { min_ttl, rejected }),
        1 => target().prop_map(Intent::Replace),
        1 => target().prop_map(Intent::Revoke),
        1 => any::<bool>().prop_map(|revoked| Intent::Maintain { revoked }),
        1 => Just(Intent::Report),
    ];
    (goal, instant(), seconds(60)).prop_map(|(goal, arrived_at, left)| Request {
        account: AccountName::default(),
        goal,
        arrived_at,
        deadline: arrived_at.plus(left),
    })
}

/// One event of each kind, of which [`fitting`] takes the one that was asked for.
#[derive(Clone, Debug)]
pub struct Events {
    account: Result<Account, StoreError>,
    limiter: Result<LoginLimiter, StoreError>,
    written: WriteOutcome,
    secret: Result<Credentials, SecretError>,
    reply: UpstreamReply,
    unasked: bool,
}

pub fn event() -> impl Strategy<Value = Events> {
    let written =
        prop_oneof![3 => Just(WriteOutcome::Applied), 1 => Just(WriteOutcome::Conflict), 1 => Just(WriteOutcome::Unknown)];
    let credentials = ("[ab]", secret(), origin()).prop_map(|(version, password, origin)| Credentials {
        version: SecretVersion(version),
        email: Secret::from("email"),
        password,
        client: None,
        origin,
    });
    let expiry = || {
        prop_oneof![
            instant().prop_map(Expiry::At),
            seconds(u64::MAX / 1000).prop_map(Expiry::In),
            Just(Expiry::Unknown)
        ]
    };
    let granted = (secret(), option::of(secret()), expiry(), expiry()).prop_map(
        |(access_token, refresh_token, access_expiry, refresh_expiry)| {
            UpstreamReply::Granted(Granted { access_token, refresh_token, access_expiry, refresh_expiry })
        },
    );
    let reply = prop_oneof![
        4 => granted,
        1 => Just(UpstreamReply::Revoked),
        1 => Just(UpstreamReply::Alive),
        2 => Just(UpstreamReply::Refused),
        1 => option::of(seconds(u64::MAX / 1000)).prop_map(UpstreamReply::RateLimited),
        1 => Just(UpstreamReply::Unclear),
        1 => Just(UpstreamReply::NeverLeft),
        1 => Just(UpstreamReply::TooLate),
    ];
    let store_problem = || {
        prop_oneof![Just(StoreError::Unreachable), Just(StoreError::Unreadable("attribute".to_owned()))]
    };
    let secret_problem = prop_oneof![
        Just(SecretError::Missing),
        Just(SecretError::Unreachable),
        Just(SecretError::Bad("b".to_owned()))
    ];
    (
        prop_oneof![5 => account().prop_map(Ok), 1 => store_problem().prop_map(Err)],
        prop_oneof![5 => ledger().prop_map(Ok), 1 => store_problem().prop_map(Err)],
        written,
        prop_oneof![5 => credentials.prop_map(Ok), 1 => secret_problem.prop_map(Err)],
        reply,
        prop::bool::weighted(0.01),
    )
        .prop_map(|(account, limiter, written, secret, reply, unasked)| Events {
            account,
            limiter,
            written,
            secret,
            reply,
            unasked,
        })
}

/// The event that answers an effect; now and then one that nobody has asked for.
pub fn fitting(effect: &Effect, events: Events) -> Event {
    if events.unasked {
        return Event::Begin;
    }
    match effect {
        Effect::ReadAccount => Event::Account(events.account),
        Effect::ReadLimiter => Event::Limiter(events.limiter),
        Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => Event::Written(events.written),
        Effect::ReadSecret => Event::Secret(events.secret),
        Effect::Send { .. } => Event::Replied(events.reply),
        Effect::Pause { .. } | Effect::Done(_) => Event::Resumed,
    }
}

/// What may stand for a token or an expiry in somebody's JSON.
pub fn json() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => "[!-~]{0,12}".prop_map(Value::from),
        1 => ".{0,12}".prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        2 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => vec(any::<u8>(), 0..3).prop_map(Value::from),
        1 => "[a-z]{1,8}".prop_map(|name| serde_json::json!({ name: true })),
    ]
}

/// An attribute's value, in any form.
fn value(names: BoxedStrategy<String>) -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::S("tell-tale".to_owned())),
        any::<u64>().prop_map(|number| AttributeValue::N(number.to_string())),
        Just(AttributeValue::N("-1e400".to_owned())),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
    ];
    leaf.prop_recursive(3, 16, 4, move |value| {
        prop_oneof![
            vec(value.clone(), 0..3).prop_map(AttributeValue::L),
            hash_map(names.clone(), value, 0..6).prop_map(AttributeValue::M),
        ]
    })
}

/// An item of the right attributes in wrong forms, and of others.
pub fn wild_item() -> impl Strategy<Value = Item> {
    let name = prop_oneof![
        Just("pk".to_owned()),
        Just("version".to_owned()),
        Just("pair".to_owned()),
        Just("lease".to_owned()),
        Just("cooldown".to_owned()),
        Just("rejected_secret".to_owned()),
        Just("pending".to_owned()),
        Just("permits".to_owned()),
        Just("blocked_until_ms".to_owned()),
        Just("until_ms".to_owned()),
        Just("holder".to_owned()),
        Just("generation".to_owned()),
        "[a-z_]{1,8}"
    ];
    let names = name.boxed();
    hash_map(names.clone(), value(names), 0..8)
}

/// An item that was written, one of whose attributes, at any depth, was lost or got another value.
pub fn damaged(stored: Item) -> impl Strategy<Value = Item> {
    let anything = option::of(value("[a-z_]{1,8}".boxed()));
    (vec(any::<prop::sample::Index>(), 1..=3), anything).prop_map(move |(steps, value)| {
        let mut item = stored.clone();
        damage(&mut item, &steps, value);
        item
    })
}

fn damage(item: &mut Item, steps: &[prop::sample::Index], value: Option<AttributeValue>) {
    let mut names: Vec<_> = item.keys().cloned().collect();
    let Some((step, deeper)) = steps.split_first().filter(|_| !names.is_empty()) else { return };
    names.sort_unstable();
    let name = step.get(&names).clone();
    match item.get_mut(&name) {
        Some(AttributeValue::M(inner)) if !deeper.is_empty() => damage(inner, deeper, value),
        Some(AttributeValue::L(list)) if !deeper.is_empty() && !list.is_empty() => {
            let index = step.index(list.len());
            match list.get_mut(index) {
                Some(AttributeValue::M(inner)) => damage(inner, deeper, value),
                _ => drop(list.remove(index)),
            }
        }
        _ => {
            item.remove(&name);
            item.extend(value.map(|value| (name, value)));
        }
    }
}
