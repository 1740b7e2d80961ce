//! Proptest strategies for the protocol's types: policies, records, requests and events.
//!
//! Values are drawn from few enough that two are sometimes equal, and include those that only a wrong clock writes.

use crate::{
    Account, AccountName, ApiVersion, ClientAuth, Cooldown, CooldownReason, Credentials, Effect, Endpoints,
    Event, Expiry, Extra, Fingerprint, Generation, GrantState, GrantType, Holder, Intent, Lease, Login,
    LoginLimiter, Mark, Moment, NewRefreshToken, ObtainedBy, OperatorTarget, Origin, Pair, Permit, Policy,
    Predecessor, Progress, Read, RefreshToken, RejectedSecret, Request, Revocation, RevocationRetry, Secret,
    SecretError, SecretVersion, StoreError, Task, Timestamp, TokenKind, TokenResponse, Trial, UpstreamFault,
    UpstreamReply, UpstreamUrl, Usage, Verdict, Version, WriteOutcome, testing,
};
use proptest::{collection::vec, option, prelude::*};
use std::time::Duration;

/// The longest span that fits into milliseconds.
const LONGEST_SECONDS: u64 = u64::MAX / 1000;

/// Mostly instants within days of each other, sometimes any at all.
pub fn instant() -> impl Strategy<Value = Timestamp> {
    let near = 1_000_000_000_000..1_000_700_000_000_u64;
    prop_oneof![9 => near, 1 => any::<u64>()].prop_map(Timestamp::from_millis)
}

/// Policies within the ranges of the configuration.
pub fn policy() -> impl Strategy<Value = Policy> {
    let millis = |least: u64, most: u64| (least..=most).prop_map(Duration::from_millis);
    let budget_and_times = (1..=10_usize, seconds(180 * 86_400), 1..=604_800_u64, seconds(3600));
    (budget_and_times, millis(100, 25_000), millis(0, 60_000)).prop_map(
        |((login_budget, refresh_ahead, max_ttl, memory_ttl), upstream_timeout, clock_margin)| Policy {
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

/// Pairs in every state, whose instants are in any order.
pub fn pair() -> impl Strategy<Value = Pair> {
    let grant = prop_oneof![Just(ObtainedBy::Login), Just(ObtainedBy::Refresh)];
    let tokens = (generation(), secret(), refresh_token(), verdict());
    let secret_version = option::of("[a-z]{1,8}".prop_map(SecretVersion));
    let history = (instant(), instant(), grant, option::of(generation()), origin(), secret_version);
    let settings = (extra(), option::of(seconds(86_400)));
    (tokens, history, settings).prop_map(|(tokens, history, (extra, refresh_ahead))| {
        let (generation, access_token, refresh_token, verdict) = tokens;
        let (issued_at, expires_at, obtained_by, replaces, origin, secret_version) = history;
        Pair {
            generation,
            access_token,
            refresh_token,
            issued_at,
            expires_at,
            obtained_by,
            replaces,
            origin,
            secret_version,
            verdict,
            extra,
            refresh_ahead,
        }
    })
}

fn extra() -> impl Strategy<Value = Option<Extra>> {
    option::of(
        "[a-z]{1,8}".prop_filter_map("not an object", |text| Extra::parse(&format!("{{\"{text}\":7}}"))),
    )
}

/// Records of one account, whose parts do not have to fit together.
pub fn account() -> impl Strategy<Value = Account> {
    // Boxed: a test thread's stack is too small for the whole tree of strategies in a debug build.
    let lease = (any::<u64>(), instant()).prop_map(|(holder, until)| Lease { holder: Holder(holder), until });
    let rejected_secret = ("[a-z]{1,8}".prop_map(SecretVersion), 1..9_u32, option::of(instant()))
        .prop_map(|(version, refusals, retry_at)| RejectedSecret { version, refusals, retry_at });
    let rejected_secret = option::of(rejected_secret);
    (
        (version(), option::of(pair()).boxed(), option::of(lease)),
        (option::of(cooldown()), rejected_secret, vec(revocation(), 0..3).boxed()),
        (
            0..20_u32,
            option::of(instant()),
            option::of(instant()),
            option::of(grant().prop_map(Box::new)).boxed(),
        ),
    )
        .prop_map(|(first, second, third)| {
            let (version, pair, lease) = first;
            let (cooldown, rejected_secret, mut pending_revocations) = second;
            // In the order in which they are stored.
            pending_revocations.sort_by_key(|revocation| revocation.origin.needs_client());
            let (young_deaths, replaced_at, early_refresh_after, grant) = third;
            Account {
                version,
                pair,
                lease,
                cooldown,
                rejected_secret,
                pending_revocations,
                young_deaths,
                replaced_at,
                early_refresh_after,
                grant,
            }
        })
}

/// The states of grants that only a person can renew.
pub fn grant() -> impl Strategy<Value = GrantState> {
    let trial =
        (secret(), origin(), usage()).prop_map(|(token, origin, usage)| Trial { token, origin, usage });
    let fingerprint = || any::<u64>().prop_map(Fingerprint);
    let predecessor =
        (fingerprint(), any::<u64>()).prop_map(|(token, by)| Predecessor { token, by: Holder(by) });
    let history = (vec(fingerprint(), 0..4), option::of(predecessor), option::of(instant()), seconds(86_400));
    (usage(), option::of(trial), history).prop_map(|(held, trial, history)| {
        let (sent, predecessor, send_after, resend_within) = history;
        GrantState { held, trial, sent, predecessor, send_after, resend_within }
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    let mark = (instant(), instant(), any::<u64>());
    let mark = mark.prop_map(|(at, settled_at, by)| Mark { at, settled_at, by: Holder(by) });
    let versions = vec("[a-z]{1,8}".prop_map(SecretVersion), 0..3);
    (option::of(mark), any::<bool>(), versions).prop_map(|(mark, lost, lost_under)| Usage {
        mark,
        lost,
        lost_under,
    })
}

/// Login rate limiters, also with more permits than the budget allows.
pub fn limiter() -> impl Strategy<Value = LoginLimiter> {
    let account = "[ab]".prop_map(|name| AccountName::parse(&name).unwrap_or_default());
    let permit = (account, instant(), instant(), any::<u64>()).prop_map(
        |(account, acquired_at, counts_until, holder)| Permit {
            account,
            acquired_at,
            counts_until,
            holder: Holder(holder),
        },
    );
    (version(), vec(permit, 0..12), option::of(instant()), 1..=3_600_u64).prop_map(
        |(version, permits, blocked_until, window)| LoginLimiter {
            version,
            permits,
            blocked_until,
            window: Duration::from_secs(window),
        },
    )
}

/// Requests of every intent, for the default account.
pub fn request() -> impl Strategy<Value = Request> {
    let token = (seconds(900), option::of(generation()))
        .prop_map(|(min_ttl, rejected)| Intent::Token { min_ttl, rejected });
    let intent = prop_oneof![
        4 => token,
        1 => Just(Intent::Replace),
        1 => Just(Intent::Revoke),
        1 => Just(Intent::RevokeConfirmed),
        1 => Just(Intent::Unblock),
        1 => Just(Intent::Maintain(Task::Renew)),
        1 => Just(Intent::Maintain(Task::Revoke)),
    ];
    (intent, instant(), seconds(60)).prop_map(|(intent, arrived_at, left)| Request {
        account: AccountName::default(),
        intent,
        arrived: Moment::of_agreeing_clocks(arrived_at),
        deadline: arrived_at.plus(left),
    })
}

/// What a flow may have found out when it decides.
pub fn progress() -> impl Strategy<Value = Progress> {
    let target = prop_oneof![
        Just(OperatorTarget::NotSeen),
        (option::of(generation()), option::of(any::<u64>().prop_map(Fingerprint)))
            .prop_map(|(generation, grant)| OperatorTarget::Seen { generation, grant }),
    ];
    (target, any::<bool>(), any::<bool>()).prop_map(|(target, tried_revocations, unblocked)| Progress {
        target,
        tried_revocations,
        unblocked,
    })
}

/// Events of every kind. [`Events::after`] takes the one that answers an effect.
#[derive(Clone, Debug)]
pub struct Events {
    account: Read<Account>,
    limiter: Read<LoginLimiter>,
    written: WriteOutcome,
    secret: Result<Credentials, SecretError>,
    reply: UpstreamReply,
    out_of_order: bool,
}

impl Events {
    /// The event that answers `effect`. Once in a hundred times, an event that does not.
    pub fn after(self, effect: &Effect) -> Event {
        match effect {
            Effect::Pause { .. } if self.out_of_order => Event::Written(self.written),
            _ if self.out_of_order => Event::Resumed,
            Effect::ReadAccount => Event::Account(self.account),
            Effect::ReadLimiter(_) => Event::Limiter(self.limiter),
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => Event::Written(self.written),
            Effect::ReadSecret => Event::Secret(self.secret),
            Effect::Send { .. } => Event::Replied(self.reply),
            Effect::Pause { .. } => Event::Resumed,
        }
    }
}

/// Events, most of which let a flow go on.
pub fn events() -> impl Strategy<Value = Events> {
    let written = prop_oneof![
        3 => Just(WriteOutcome::Applied),
        1 => Just(WriteOutcome::Conflict),
        1 => Just(WriteOutcome::Unknown),
    ];
    let secret_error = prop_oneof![
        Just(SecretError::Missing),
        Just(SecretError::Unreachable),
        Just(SecretError::Bad("password".to_owned())),
    ];
    (
        prop_oneof![5 => account().prop_map(Ok), 1 => store_error().prop_map(Err)],
        prop_oneof![5 => limiter().prop_map(Ok), 1 => store_error().prop_map(Err)],
        written,
        prop_oneof![5 => credentials().prop_map(Ok), 1 => secret_error.prop_map(Err)],
        reply(),
        prop::bool::weighted(0.01),
    )
        .prop_map(|(account, limiter, written, secret, reply, out_of_order)| Events {
            account,
            limiter,
            written,
            secret,
            reply,
            out_of_order,
        })
}

fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(Duration::from_secs)
}

/// Half of the range, so that the next version is larger.
fn version() -> impl Strategy<Value = Version> {
    (0..=u64::MAX / 2).prop_map(Version)
}

/// Mostly one of four, so that two are sometimes equal.
fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![3 => 0..4_u64, 1 => any::<u64>()].prop_map(Generation)
}

fn secret() -> impl Strategy<Value = Secret> {
    "[a-z]{1,8}".prop_map(Secret::new)
}

fn origin() -> impl Strategy<Value = Origin> {
    let url = || "https://[a-z]{1,8}".prop_filter_map("not a URL", |text| UpstreamUrl::parse(&text).ok());
    let api_version = prop_oneof![Just(ApiVersion::V3), Just(ApiVersion::V2)];
    let convirza = (api_version, option::of(url()), option::of(url()))
        .prop_map(|(api_version, oauth_url, api_url)| Origin::Convirza { api_version, oauth_url, api_url });
    let endpoint = || {
        "https://[a-z]{1,8}/[a-z]{0,4}/?"
            .prop_filter_map("not a URL", |text| UpstreamUrl::parse_endpoint(&text).ok())
    };
    let oauth2 = (endpoint(), option::of(endpoint()), option::of(endpoint())).prop_map(
        |(token_url, revoke_url, probe_url)| Origin::OAuth2(Endpoints { token_url, revoke_url, probe_url }),
    );
    prop_oneof![2 => convirza, 1 => oauth2]
}

fn refresh_token() -> impl Strategy<Value = Option<RefreshToken>> {
    let life = any::<u32>().prop_map(u64::from).prop_map(Duration::from_millis);
    let parts = (secret(), option::of(instant()), any::<bool>(), option::of(life));
    let token = parts.prop_map(|(token, expires_at, consumed, earlier_life)| RefreshToken {
        token,
        expires_at,
        consumed,
        earlier_life,
    });
    option::weighted(2.0 / 3.0, token)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Unverified),
        instant().prop_map(|at| Verdict::Alive { at }),
        instant().prop_map(|probe_after| Verdict::Inconclusive { probe_after }),
        Just(Verdict::Dead),
    ]
}

fn cooldown() -> impl Strategy<Value = Cooldown> {
    let reason = prop_oneof![
        Just(CooldownReason::RateLimited),
        Just(CooldownReason::Unavailable(UpstreamFault::NoResponse)),
        Just(CooldownReason::Unavailable(UpstreamFault::Refused)),
        Just(CooldownReason::Unavailable(UpstreamFault::Unexpected)),
        Just(CooldownReason::BudgetExhausted),
    ];
    (instant(), reason, any::<u32>()).prop_map(|(until, reason, failures)| Cooldown {
        until,
        reason,
        failures,
    })
}

fn revocation() -> impl Strategy<Value = Revocation> {
    let kind = prop_oneof![Just(TokenKind::Access), Just(TokenKind::Refresh)];
    let retry = option::of((instant(), any::<u32>()));
    (secret(), kind, origin(), instant(), retry).prop_map(|(token, kind, origin, expires_at, retry)| {
        let retry = retry.map(|(at, failures)| RevocationRetry { at, failures });
        Revocation { token, kind, origin, expires_at, retry }
    })
}

/// One of two versions, so that a version that was rejected comes again.
fn credentials() -> impl Strategy<Value = Credentials> {
    ("[ab]", secret(), origin(), any::<bool>()).prop_map(|(version, password, origin, is_given)| {
        let login = match &origin {
            Origin::Convirza { .. } => Login::Convirza { email: Secret::from("email"), password },
            Origin::OAuth2(_) => Login::OAuth2 {
                client: testing::client("id", password.expose(), ClientAuth::Basic),
                grant: if is_given {
                    GrantType::RefreshToken { bootstrap: password }
                } else {
                    GrantType::ClientCredentials
                },
            },
        };
        Credentials { version: SecretVersion(version), origin, login }
    })
}

fn new_refresh_token() -> impl Strategy<Value = NewRefreshToken> {
    prop_oneof![
        2 => secret().prop_map(NewRefreshToken::Token),
        1 => Just(NewRefreshToken::Absent),
        1 => Just(NewRefreshToken::Unusable),
    ]
}

fn reply() -> impl Strategy<Value = UpstreamReply> {
    let expiry = || {
        prop_oneof![
            instant().prop_map(Expiry::At),
            seconds(LONGEST_SECONDS).prop_map(Expiry::In),
            Just(Expiry::Unknown),
        ]
    };
    let granted = (secret(), new_refresh_token(), expiry(), expiry(), extra()).prop_map(
        |(access_token, refresh_token, access_expiry, refresh_expiry, extra)| {
            UpstreamReply::Granted(TokenResponse {
                access_token,
                refresh_token,
                access_expiry,
                refresh_expiry,
                extra,
            })
        },
    );
    prop_oneof![
        4 => granted,
        1 => Just(UpstreamReply::Revoked),
        1 => Just(UpstreamReply::Alive),
        2 => Just(UpstreamReply::Refused),
        2 => Just(UpstreamReply::Unauthorized),
        1 => Just(UpstreamReply::ClientRefused),
        1 => option::of(seconds(LONGEST_SECONDS)).prop_map(UpstreamReply::RateLimited),
        1 => Just(UpstreamReply::UNEXPECTED),
        1 => Just(UpstreamReply::NeverLeft),
        1 => Just(UpstreamReply::TooLate),
    ]
}

fn store_error() -> impl Strategy<Value = StoreError> {
    prop_oneof![Just(StoreError::Unreachable), Just(StoreError::Unreadable("attribute".to_owned()))]
}
