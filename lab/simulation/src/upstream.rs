//! Convirza: sessions, single-use refresh tokens, and ten logins a minute from one address.

use crate::{Plan, SECOND, secrets::Secrets};
use fastrand::Rng;
use protocol::{
    Call, Expiry, Granted, IssuedToken, LoginLimit, NewRefreshToken, Revocation, Secret, Timestamp,
    TokenKind, UpstreamReply, millis,
};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

const LOGINS_PER_MINUTE: usize = 10;
const REFRESH_LIFE_MS: u64 = 180 * 86_400 * SECOND;

pub(crate) struct Upstream {
    token_life_ms: u64,
    sliding_expiry: bool,
    /// A refresh may return the same refresh token, or none. Expiries come in different forms, or are missing.
    varied_answers: bool,
    access: Vec<Access>,
    refresh: Vec<Refresh>,
    /// A limit other than Convirza's. It counts all token requests.
    limit: Option<LoginLimit>,
    accepted_logins_ms: VecDeque<u64>,
    /// The access token that was issued last, by account.
    newest: HashMap<usize, usize>,
    /// Logins that obtained a pair while an earlier token of the account was alive.
    pub(crate) needless_logins: u64,
}

struct Access {
    account: usize,
    issued_at_ms: u64,
    expires_at_ms: u64,
    revoked: bool,
}

struct Refresh {
    account: usize,
    consumed: bool,
    revoked: bool,
    /// Whether it has arrived since it was last issued, in a call that was not answered with 429.
    arrived: bool,
}

impl Upstream {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            token_life_ms: plan.token_life_ms,
            sliding_expiry: plan.sliding_expiry,
            varied_answers: plan.varied_answers,
            access: Vec::new(),
            refresh: Vec::new(),
            limit: plan.limit,
            accepted_logins_ms: VecDeque::new(),
            newest: HashMap::new(),
            needless_logins: 0,
        }
    }

    /// Records the arrival of a refresh token. Returns whether it has arrived before (I2).
    pub(crate) fn receive_refresh_token(&mut self, call: &Call) -> bool {
        let Call::Refresh(IssuedToken { token, .. }, _) = call else { return false };
        std::mem::replace(&mut self.refresh[number(token)].arrived, true)
    }

    /// Answers 429. The call is not carried out, so its refresh token may arrive again.
    pub(crate) fn limit(&mut self, call: &Call, rng: &mut Rng) -> UpstreamReply {
        if let Call::Refresh(IssuedToken { token, .. }, _) = call {
            self.refresh[number(token)].arrived = false;
        }
        let retry_after = [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(rng.u64(30..=60)))];
        UpstreamReply::RateLimited(retry_after[rng.usize(..retry_after.len())])
    }

    /// Carries out a call that arrives at `now_ms`.
    pub(crate) fn carry_out(
        &mut self,
        call: &Call,
        now_ms: u64,
        secrets: &Secrets,
        rng: &mut Rng,
    ) -> UpstreamReply {
        let counts =
            matches!(call, Call::Login(_)) || self.limit.is_some() && matches!(call, Call::Refresh(..));
        if counts {
            let (window_ms, requests) = self
                .limit
                .map_or((60 * SECOND, LOGINS_PER_MINUTE), |limit| (millis(limit.window), limit.requests));
            self.accepted_logins_ms.retain(|at_ms| at_ms + window_ms > now_ms);
            if self.accepted_logins_ms.len() >= requests {
                return self.limit(call, rng);
            }
            self.accepted_logins_ms.push_back(now_ms);
        }
        match call {
            Call::Login(credentials) => {
                if !secrets.are_right(credentials) {
                    return UpstreamReply::Unauthorized;
                }
                let account = crate::secrets::account_of(credentials);
                let alive = |token: &usize| self.access[*token].is_alive(now_ms);
                self.needless_logins += u64::from(self.newest.get(&account).is_some_and(alive));
                let refresh = self.new_refresh_token(account);
                self.grant(refresh, true, now_ms, rng)
            }
            Call::Refresh(IssuedToken { token, .. }, _) => {
                let old = number(token);
                if self.refresh[old].consumed || self.refresh[old].revoked {
                    return UpstreamReply::Unauthorized;
                }
                // An upstream may return the same token, or none. Then the token may arrive again.
                if self.varied_answers && rng.u8(..4) == 0 {
                    self.refresh[old].arrived = false;
                    let returns_it = rng.bool();
                    return self.grant(old, returns_it, now_ms, rng);
                }
                self.refresh[old].consumed = true;
                let new = self.new_refresh_token(self.refresh[old].account);
                self.grant(new, true, now_ms, rng)
            }
            Call::Revoke(revocation, _) => {
                let token = number(&revocation.token);
                match revocation.kind {
                    TokenKind::Access => self.access[token].revoked = true,
                    TokenKind::Refresh => self.refresh[token].revoked = true,
                }
                UpstreamReply::Revoked
            }
            Call::Probe(IssuedToken { token, .. }) => {
                if self.is_alive(token, now_ms) {
                    UpstreamReply::Alive
                } else {
                    UpstreamReply::Unauthorized
                }
            }
        }
    }

    /// Ends all sessions, without a message to any client.
    pub(crate) fn revoke_all(&mut self) {
        self.access.iter_mut().for_each(|token| token.revoked = true);
        self.refresh.iter_mut().for_each(|token| token.revoked = true);
    }

    /// Ends the sessions of one account, because its user logs in elsewhere.
    pub(crate) fn end_sessions(&mut self, account: usize) {
        let own = |token: &&mut Access| token.account == account;
        self.access.iter_mut().filter(own).for_each(|token| token.revoked = true);
        let own = |token: &&mut Refresh| token.account == account;
        self.refresh.iter_mut().filter(own).for_each(|token| token.revoked = true);
    }

    /// The account that a call is for.
    pub(crate) fn account_of(&self, call: &Call) -> usize {
        match call {
            Call::Login(credentials) => crate::secrets::account_of(credentials),
            Call::Refresh(IssuedToken { token, .. }, _) => self.refresh[number(token)].account,
            Call::Revoke(Revocation { token, kind: TokenKind::Refresh, .. }, _) => {
                self.refresh[number(token)].account
            }
            Call::Revoke(Revocation { token, .. }, _) | Call::Probe(IssuedToken { token, .. }) => {
                self.access[number(token)].account
            }
        }
    }

    pub(crate) fn is_alive(&self, token: &Secret, now_ms: u64) -> bool {
        self.access[number(token)].is_alive(now_ms)
    }

    pub(crate) fn issued_at_ms(&self, token: &Secret) -> u64 {
        self.access[number(token)].issued_at_ms
    }

    pub(crate) fn expires_at_ms(&self, token: &Secret) -> u64 {
        self.access[number(token)].expires_at_ms
    }

    /// A caller uses its access token.
    pub(crate) fn use_token(&mut self, token: &Secret, now_ms: u64) {
        if self.sliding_expiry && self.is_alive(token, now_ms) {
            self.access[number(token)].expires_at_ms = now_ms + self.token_life_ms;
        }
    }

    fn new_refresh_token(&mut self, account: usize) -> usize {
        self.refresh.push(Refresh { account, consumed: false, revoked: false, arrived: false });
        self.refresh.len() - 1
    }

    fn grant(&mut self, refresh: usize, returns_it: bool, now_ms: u64, rng: &mut Rng) -> UpstreamReply {
        let access = self.access.len();
        let expires_at_ms = now_ms + self.token_life_ms;
        self.newest.insert(self.refresh[refresh].account, access);
        let account = self.refresh[refresh].account;
        self.access.push(Access { account, issued_at_ms: now_ms, expires_at_ms, revoked: false });
        let forms = [
            Expiry::At(Timestamp::from_millis(expires_at_ms)),
            Expiry::In(Duration::from_millis(self.token_life_ms)),
            Expiry::Unknown,
        ];
        let form = if self.varied_answers { rng.usize(..forms.len()) } else { 0 };
        UpstreamReply::Granted(Granted {
            access_token: Secret::new(access.to_string()),
            refresh_token: if returns_it {
                NewRefreshToken::Token(Secret::new(refresh.to_string()))
            } else {
                NewRefreshToken::Absent
            },
            access_expiry: forms[form],
            refresh_expiry: Expiry::At(Timestamp::from_millis(now_ms + REFRESH_LIFE_MS)),
            extra: None,
        })
    }
}

impl Access {
    fn is_alive(&self, now_ms: u64) -> bool {
        !self.revoked && now_ms < self.expires_at_ms
    }
}

/// The text of a token is its index, in the order of issue.
fn number(token: &Secret) -> usize {
    token.expose().parse().unwrap()
}
