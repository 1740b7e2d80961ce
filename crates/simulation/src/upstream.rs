//! Convirza: sessions, single-use refresh tokens, and ten logins a minute for each address.

use super::{plans::SECOND, secrets::Secrets};
use fastrand::Rng;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use protocol::{Call, Expiry, Granted, UpstreamReply, TokenKind, Timestamp, Secret};

const LOGINS_A_MINUTE: usize = 10;
const REFRESH_LIFE_MS: u64 = 180 * 86_400 * SECOND;

pub struct Upstream {
    pub token_life_ms: u64,
    /// Whether each use of an access token renews it.
    pub slides: bool,
    /// Whether answers vary as far as the documentation lets them: the same refresh token again, or none, and
    /// expiries in other forms or missing.
    pub varies: bool,
    access: Vec<Access>,
    refresh: Vec<Refresh>,
    logins_let_in: VecDeque<u64>,
    /// By account: the token given last.
    newest: HashMap<usize, usize>,
    /// Logins that brought a pair while an earlier token of the account was alive.
    pub needless_logins: u64,
}

struct Access {
    issued_at_ms: u64,
    expires_at_ms: u64,
    revoked: bool,
    refresh: usize,
}

struct Refresh {
    account: usize,
    spent: bool,
    revoked: bool,
    /// It has arrived since it was last given, and was not turned away unread.
    seen: bool,
}

impl Upstream {
    pub fn new(token_life_ms: u64, slides: bool, varies: bool) -> Self {
        Self {
            token_life_ms,
            slides,
            varies,
            access: Vec::new(),
            refresh: Vec::new(),
            logins_let_in: VecDeque::new(),
            newest: HashMap::new(),
            needless_logins: 0,
        }
    }

    /// Whether the refresh token of this call arrives although it may have been used (I2). Notes the arrival.
    pub fn arrives_again(&mut self, call: &Call) -> bool {
        let Call::Refresh { refresh_token, .. } = call else { return false };
        std::mem::replace(&mut self.refresh[number(refresh_token)].seen, true)
    }

    /// A 429: the request was not carried out, so its refresh token may come again.
    pub fn limit(&mut self, call: &Call, rng: &mut Rng) -> UpstreamReply {
        if let Call::Refresh { refresh_token, .. } = call {
            self.refresh[number(refresh_token)].seen = false;
        }
        let asked = [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(rng.u64(30..=60)))];
        UpstreamReply::RateLimited(asked[rng.usize(..asked.len())])
    }

    /// Carries out a call that arrives at `now_ms`.
    pub fn carry_out(&mut self, call: &Call, now_ms: u64, secrets: &Secrets, rng: &mut Rng) -> UpstreamReply {
        match call {
            Call::Login(credentials) => {
                self.logins_let_in.retain(|at_ms| at_ms + 60 * SECOND > now_ms);
                if self.logins_let_in.len() >= LOGINS_A_MINUTE {
                    return self.limit(call, rng);
                }
                self.logins_let_in.push_back(now_ms);
                if !secrets.are_right(credentials) {
                    return UpstreamReply::Refused;
                }
                let account = credentials.email.expose().parse().unwrap();
                let alive = |token: &usize| self.access[*token].is_alive(now_ms);
                self.needless_logins += u64::from(self.newest.get(&account).is_some_and(alive));
                let refresh = self.new_refresh_token(account);
                self.grant(refresh, true, now_ms, rng)
            }
            Call::Refresh { refresh_token, .. } => {
                let old = number(refresh_token);
                if self.refresh[old].spent || self.refresh[old].revoked {
                    return UpstreamReply::Refused;
                }
                // Some upstreams give the same token again, or none in its stead; then it may come again.
                if self.varies && rng.u8(..4) == 0 {
                    self.refresh[old].seen = false;
                    let shown = rng.bool();
                    return self.grant(old, shown, now_ms, rng);
                }
                self.refresh[old].spent = true;
                let new = self.new_refresh_token(self.refresh[old].account);
                self.grant(new, true, now_ms, rng)
            }
            Call::Revoke(revocation) => {
                let token = number(&revocation.token);
                match revocation.kind {
                    TokenKind::Access => self.access[token].revoked = true,
                    TokenKind::Refresh => self.refresh[token].revoked = true,
                }
                UpstreamReply::Revoked
            }
            Call::Probe { access_token, .. } => {
                if self.is_alive(access_token, now_ms) {
                    UpstreamReply::Alive
                } else {
                    UpstreamReply::Refused
                }
            }
        }
    }

    /// Somebody ends all sessions. Nobody is told.
    pub fn revoke_all(&mut self) {
        self.access.iter_mut().for_each(|token| token.revoked = true);
        self.refresh.iter_mut().for_each(|token| token.revoked = true);
    }

    pub fn is_alive(&self, token: &Secret, now_ms: u64) -> bool {
        self.access[number(token)].is_alive(now_ms)
    }

    pub fn issued_at_ms(&self, token: &Secret) -> u64 {
        self.access[number(token)].issued_at_ms
    }

    pub fn expires_at_ms(&self, token: &Secret) -> u64 {
        self.access[number(token)].expires_at_ms
    }

    /// A caller uses its token.
    pub fn use_token(&mut self, token: &Secret, now_ms: u64) {
        if self.slides && self.is_alive(token, now_ms) {
            self.access[number(token)].expires_at_ms = now_ms + self.token_life_ms;
        }
    }

    fn new_refresh_token(&mut self, account: usize) -> usize {
        self.refresh.push(Refresh { account, spent: false, revoked: false, seen: false });
        self.refresh.len() - 1
    }

    fn grant(&mut self, refresh: usize, shows_refresh_token: bool, now_ms: u64, rng: &mut Rng) -> UpstreamReply {
        let expires_at_ms = now_ms + self.token_life_ms;
        self.newest.insert(self.refresh[refresh].account, self.access.len());
        self.access.push(Access { issued_at_ms: now_ms, expires_at_ms, revoked: false, refresh });
        let forms = [
            Expiry::At(Timestamp::from_millis(expires_at_ms)),
            Expiry::In(Duration::from_millis(self.token_life_ms)),
            Expiry::Unknown,
        ];
        let form = if self.varies { rng.usize(..forms.len()) } else { 0 };
        UpstreamReply::Granted(Granted {
            access_token: Secret::new((self.access.len() - 1).to_string()),
            refresh_token: shows_refresh_token
                .then(|| Secret::new(self.access[self.access.len() - 1].refresh.to_string())),
            access_expiry: forms[form],
            refresh_expiry: Expiry::At(Timestamp::from_millis(now_ms + REFRESH_LIFE_MS)),
        })
    }
}

impl Access {
    fn is_alive(&self, now_ms: u64) -> bool {
        !self.revoked && now_ms < self.expires_at_ms
    }
}

/// Tokens are numbers here, in the order in which they were given.
fn number(token: &Secret) -> usize {
    token.expose().parse().unwrap()
}
