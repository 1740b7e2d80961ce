//! What went over the wire and what the callers saw. Tokens are kept as fingerprints only.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt,
    ops::{Range, RangeInclusive},
    time::{Duration, Instant},
};

/// The first 8 bytes of a token's SHA-256, as in the broker's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(token: &str) -> Self {
        let digest = Sha256::digest(token);
        Self(digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The fault of a token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// 503; the server sees nothing.
    Unavailable,
    /// 503 after the server carried it out.
    UnavailableAfter,
    /// The connection is reset; the server sees nothing.
    Reset,
    /// The server carries it out, and the connection is closed without a response.
    LostReply,
    /// It reaches the server late, perhaps after the broker has given up.
    Late,
    /// The reply arrives late, perhaps after the broker has given up.
    Slow,
    /// The sender is killed; the server sees nothing.
    KillBefore,
    /// The server carries it out, and the sender is killed before the reply.
    KillAfter,
    /// The sender gets the reply, and is killed within 32 ms.
    KillSaving,
}

impl Fault {
    pub(super) const ALL: [Self; 9] = [
        Self::Unavailable,
        Self::UnavailableAfter,
        Self::Reset,
        Self::LostReply,
        Self::Late,
        Self::Slow,
        Self::KillBefore,
        Self::KillAfter,
        Self::KillSaving,
    ];
}

/// A token request.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) account: String,
    pub(super) grant: String,
    /// The refresh token that was sent.
    pub(super) token: Option<Fingerprint>,
    pub(super) arrived_at: Instant,
    pub(super) fault: Option<Fault>,
    /// What the server answered.
    pub(super) carried_out: Option<CarriedOut>,
    /// The status that was sent to the broker, which may be gone, and when. `None` if nothing was sent.
    pub(super) reply: Option<(Instant, u16)>,
}

/// What the server answered to a token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CarriedOut {
    pub(super) at: Instant,
    pub(super) status: u16,
    pub(super) error: Option<String>,
    pub(super) access: Option<Fingerprint>,
    pub(super) refresh: Option<Fingerprint>,
    pub(super) expires_in: Duration,
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Exchange {
    pub(super) fn new(account: String, form: &[u8], fault: Option<Fault>) -> Self {
        let field = |name| {
            form_urlencoded::parse(form).find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
        };
        Self {
            account,
            grant: field("grant_type").unwrap_or_default(),
            token: field("refresh_token").map(|token| Fingerprint::of(&token)),
            arrived_at: Instant::now(),
            fault,
            carried_out: None,
            reply: None,
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.fault.map_or("no fault".to_owned(), |fault| format!("{fault:?}"));
        let answer =
            self.carried_out.as_ref().map(|answer| (answer.status, answer.error.as_deref().unwrap_or("ok")));
        let reply = self.reply.map(|(at, status)| (status, at - self.arrived_at));
        let token = self.token.map(|token| token.to_string()).unwrap_or_default();
        write!(formatter, "({token} {name}; server: {answer:?}; broker: {reply:?})")
    }
}

impl CarriedOut {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let token = |name: &str| body[name].as_str().map(Fingerprint::of);
        Self {
            at: Instant::now(),
            status,
            error: body["error"].as_str().map(str::to_owned),
            access: token("access_token"),
            refresh: token("refresh_token"),
            expires_in: Duration::from_secs(body["expires_in"].as_u64().unwrap_or_default()),
        }
    }
}

/// What a caller saw.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The process that was asked.
    pub(super) process: usize,
    pub(super) account: String,
    pub(super) sent_at: Instant,
    pub(super) at: Instant,
    /// The token with its generation and the time for which it may be kept, or the error's code.
    pub(super) answer: Result<Answer, String>,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) token: Fingerprint,
    pub(super) generation: u64,
    pub(super) expires_in: Duration,
    /// It came from the table.
    pub(super) from_table: bool,
}

/// Everything, in the order of time.
#[derive(Default)]
pub(super) struct Record {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) observations: Vec<Observation>,
    /// When the requests for an account ran, answered or not.
    pub(super) requests: Vec<(String, Range<Instant>)>,
    /// While this lasted, an account's process was killed or frozen, or all connections were cut: a reply may be lost.
    pub(super) disturbances: Vec<(Option<String>, RangeInclusive<Instant>)>,
    /// When the table failed to write.
    pub(super) table_failures: Vec<Instant>,
    /// When the server first refused an access token.
    pub(super) dead: HashMap<Fingerprint, Instant>,
    /// When a secret got a refresh token.
    pub(super) grants: Vec<(String, Instant)>,
}

impl Record {
    pub(super) fn begin(&mut self, exchange: Exchange) -> usize {
        self.exchanges.push(exchange);
        self.exchanges.len() - 1
    }

    pub(super) fn exchange(&mut self, number: usize) -> &mut Exchange {
        &mut self.exchanges[number]
    }

    pub(super) fn found_dead(&mut self, token: Fingerprint) {
        self.dead.entry(token).or_insert_with(Instant::now);
    }

    /// When the server first refused a token of the account since then.
    pub(super) fn refused_since(&self, account: &str, since: Instant) -> Option<Instant> {
        let answers = self.exchanges.iter().filter(|exchange| exchange.account == account);
        let answers = answers.filter_map(|exchange| exchange.carried_out.as_ref());
        let refusals = answers.filter(|answer| answer.error.as_deref() == Some("invalid_grant"));
        refusals.map(|answer| answer.at).find(|at| *at > since)
    }
}
