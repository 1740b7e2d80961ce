//! Stored items. The input is a program that edits a well-formed item, so that no input is lost to a syntax.

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{
    Account, AccountName, ApiVersion, Cooldown, CooldownReason, Extra, Generation, Grant, Holder, Lease,
    LoginLimiter, Origin, Pair, Permit, RefreshToken, RejectedSecret, Revocation, Secret, SecretVersion,
    Timestamp, TokenKind, UpstreamUrl, Verdict, Version,
};
use token_broker::outbound::{
    UpstreamHosts,
    dynamodb::item::{Item, account_of, from_account, from_login_limiter, to_account, to_login_limiter},
};

const NAMES: [&str; 51] = [
    "pk",
    "version",
    "ttl",
    "pair",
    "lease",
    "cooldown",
    "rejected_secret",
    "rejected_secret_refusals",
    "rejected_secret_retry_at_ms",
    "pending_revocations",
    "young_deaths",
    "replaced_at_ms",
    "early_refresh_after_ms",
    "permits",
    "blocked_until_ms",
    "generation",
    "access_token",
    "refresh_token",
    "refresh_token_state",
    "refresh_expires_at_ms",
    "issued_at_ms",
    "expires_at_ms",
    "obtained_by",
    "replaces",
    "secret_version",
    "verdict",
    "origin",
    "state",
    "at_ms",
    "api_version",
    "oauth_url",
    "api_url",
    "token_url",
    "revoke_url",
    "probe_url",
    "extra",
    "refresh_ahead_seconds",
    "token",
    "kind",
    "holder",
    "until_ms",
    "reason",
    "failures",
    "account",
    "acquired_at_ms",
    "counts_until_ms",
    "unknown",
    "",
    "Version",
    "PAIR",
    "pair.generation",
];
const TEXTS: [&str; 22] = [
    "available",
    "consumed",
    "login",
    "refresh",
    "alive",
    "inconclusive",
    "dead",
    "convirza-v2",
    "convirza-v3",
    "access",
    "default",
    "account#default",
    "account#Default",
    "login_limiter",
    "https://oauth.example",
    "https://other.example/path/",
    "http://127.0.0.1:1",
    "https://user:word@oauth.example",
    "upstream_rate_limited",
    "upstream_unavailable",
    "login_budget_exhausted",
    "",
];
const NUMBERS: [&str; 9] = [
    "0",
    "1",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e3",
    "007",
];

/// A program.
struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn text(&mut self) -> String {
        let length = self.next().min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn name(&mut self) -> String {
        match self.next() {
            other if other >= 250 => self.text(),
            known => NAMES[known % NAMES.len()].to_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> AttributeValue {
        match self.next() % 12 {
            0..=2 => AttributeValue::S(TEXTS[self.next() % TEXTS.len()].to_owned()),
            3 => AttributeValue::S(self.text()),
            4..=5 => AttributeValue::N(NUMBERS[self.next() % NUMBERS.len()].to_owned()),
            6 => AttributeValue::N(self.text()),
            7 => AttributeValue::Bool(true),
            8 => AttributeValue::Null(true),
            9 => AttributeValue::Ss(vec![self.text()]),
            10 if depth > 0 => {
                let length = self.next() % 8;
                AttributeValue::M((0..length).map(|_| (self.name(), self.value(depth - 1))).collect())
            }
            _ if depth > 0 => {
                let length = self.next() % 4;
                AttributeValue::L((0..length).map(|_| self.value(depth - 1)).collect())
            }
            _ => AttributeValue::L(vec![]),
        }
    }

    /// Sets, removes or edits one attribute.
    fn edit(&mut self, item: &mut Item) {
        let operation = self.next();
        let name = self.name();
        match (operation % 4, item.get_mut(&name)) {
            (0, _) => drop(item.remove(&name)),
            (1 | 2, Some(AttributeValue::M(inner))) => self.edit(inner),
            (1 | 2, Some(AttributeValue::L(list))) if !list.is_empty() => {
                let index = self.next() % list.len();
                match list.get_mut(index) {
                    Some(AttributeValue::M(inner)) => self.edit(inner),
                    _ => drop(list.remove(index)),
                }
            }
            _ => {
                let value = self.value(3);
                item.insert(name, value);
            }
        }
    }
}

/// Checks the item that a program makes.
pub(crate) fn check(bytes: &[u8]) {
    let mut program = Program(bytes);
    let mut item = match program.next() % 4 {
        0 | 1 => from_account(&AccountName::default(), &account()),
        2 => from_login_limiter(None, &limiter()),
        _ => Item::new(),
    };
    while !program.0.is_empty() {
        program.edit(&mut item);
    }
    check_item(&item);
}

fn check_item(item: &Item) {
    let name = account_of(item);
    if let Some(name) = &name {
        assert_eq!(item.get("pk"), Some(&AttributeValue::S(format!("account#{name}"))));
    }
    match to_account(item) {
        Ok(account) => {
            let again = from_account(&name.unwrap_or_default(), &account);
            assert_eq!(to_account(&again), Ok(account.clone()), "what is read is written the same");
            check_hosts(&account);
        }
        Err(error) => check_error(&error.to_string()),
    }
    match to_login_limiter(item) {
        Ok(limiter) => {
            assert_eq!(to_login_limiter(&from_login_limiter(None, &limiter)), Ok(limiter));
        }
        Err(error) => check_error(&error.to_string()),
    }
}

/// An error is the name of an attribute, and nothing of the item.
fn check_error(text: &str) {
    let name =
        text.strip_prefix("attribute `").and_then(|rest| rest.strip_suffix("` is missing or malformed"));
    assert!(name.is_some_and(|name| NAMES.contains(&name)), "{text}");
}

/// A record is usable only if all its tokens stay with known hosts.
fn check_hosts(account: &Account) {
    let url = |text| UpstreamUrl::parse(text).expect("a URL");
    let hosts = UpstreamHosts::new(&url("https://oauth.example"), &url("https://api.example"), vec![]);
    let pair = account.pair.iter().map(|pair| &pair.origin);
    let origins = pair.chain(account.pending_revocations.iter().map(|revocation| &revocation.origin));
    let mut urls = origins.flat_map(Origin::urls);
    let is_known = |url: &UpstreamUrl| {
        let url = url::Url::parse(url.as_str()).expect("a URL");
        let known = ["oauth.example", "api.example", "apicfa.convirza.com"];
        url.scheme() == "https" && url.port().is_none() && known.contains(&url.host_str().unwrap_or_default())
    };
    assert_eq!(hosts.allow_all_of(account), urls.all(is_known));
}

fn instant(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_775_478_896_000 + seconds * 1000)
}

fn origin() -> Origin {
    Origin::Convirza {
        api_version: ApiVersion::V2,
        oauth_url: UpstreamUrl::parse("https://oauth.example").ok(),
        api_url: UpstreamUrl::parse("https://api.example/v3").ok(),
    }
}

/// A record with every attribute.
fn account() -> Account {
    Account {
        version: Version(9),
        pair: Some(Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token: Some(RefreshToken {
                token: Secret::from("refresh"),
                expires_at: Some(instant(4)),
                consumed: true,
            }),
            issued_at: instant(0),
            expires_at: instant(3),
            obtained_by: Grant::Refresh,
            replaces: Some(Generation(6)),
            origin: origin(),
            secret_version: Some(SecretVersion("v1".to_owned())),
            verdict: Verdict::Alive { at: instant(1) },
            extra: Extra::parse(r#"{"instance_url":"https://x.example"}"#),
            refresh_ahead: Some(std::time::Duration::from_secs(60)),
        }),
        lease: Some(Lease { holder: Holder(1), until: instant(2) }),
        cooldown: Some(Cooldown { until: instant(2), reason: CooldownReason::RateLimited, failures: 2 }),
        rejected_secret: Some(RejectedSecret {
            version: SecretVersion("v0".to_owned()),
            refusals: 1,
            retry_at: Some(Timestamp::from_millis(1)),
        }),
        pending_revocations: vec![Revocation {
            token: Secret::from("old"),
            kind: TokenKind::Access,
            origin: origin(),
            expires_at: instant(5),
        }],
        young_deaths: 1,
        replaced_at: Some(instant(0)),
        early_refresh_after: Some(instant(1)),
    }
}

fn limiter() -> LoginLimiter {
    let permit = Permit {
        account: AccountName::default(),
        acquired_at: instant(0),
        counts_until: instant(60),
        holder: Holder(1),
    };
    LoginLimiter { version: Version(3), permits: vec![permit], blocked_until: Some(instant(9)) }
}
