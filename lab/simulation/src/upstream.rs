//! Convirza: sessions, single-use refresh tokens, and ten logins a minute from one address. Or an OAuth 2.0 server whose
//! users consented to grants, which detects the second use of a refresh token.

use crate::{Plan, SECOND, secrets::Secrets};
use fastrand::Rng;
use protocol::{
    Call, Expiry, IssuedToken, LoginLimit, NewRefreshToken, Revocation, Secret, Timestamp, TokenKind,
    TokenResponse, UpstreamReply, millis,
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
    /// Its users consented to grants. The second use of a refresh token ends one, unless it comes within this time.
    grace_ms: Option<u64>,
    /// The refresh token whose second use has just ended a grant, and its successor.
    pub(crate) ended_by: Option<(usize, usize)>,
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
    session: usize,
}

struct Refresh {
    account: usize,
    consumed: bool,
    revoked: bool,
    /// The refresh token that it descends from.
    session: usize,
    /// When it was first used, and the access and refresh tokens that this brought. Only of a grant.
    used: Option<(u64, usize, usize)>,
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
            grace_ms: plan.grace_ms,
            ended_by: None,
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
                self.issue(refresh, true, now_ms, rng)
            }
            Call::Refresh(IssuedToken { token, .. }, _) => {
                let old = number(token);
                if let Some(grace_ms) = self.grace_ms {
                    return self.refresh_grant(old, grace_ms, now_ms);
                }
                if self.refresh[old].consumed || self.refresh[old].revoked {
                    return UpstreamReply::Unauthorized;
                }
                // An upstream may return the same token, or none. Then the token may arrive again.
                if self.varied_answers && rng.u8(..4) == 0 {
                    self.refresh[old].arrived = false;
                    let returns_it = rng.bool();
                    return self.issue(old, returns_it, now_ms, rng);
                }
                self.refresh[old].consumed = true;
                let new = self.new_refresh_token(self.refresh[old].account);
                self.issue(new, true, now_ms, rng)
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

    /// A person consents to a grant. Returns its first refresh token.
    pub(crate) fn consent(&mut self, account: usize) -> usize {
        self.new_refresh_token(account)
    }

    /// A refresh of a grant. Within the grace period, a used token brings the same pair again while its successor is
    /// unused. Otherwise its second use ends the grant.
    fn refresh_grant(&mut self, number: usize, grace_ms: u64, now_ms: u64) -> UpstreamReply {
        let Refresh { account, revoked, session, used, .. } = self.refresh[number];
        if revoked {
            return UpstreamReply::Unauthorized;
        }
        if let Some((used_ms, access, successor)) = used {
            if now_ms <= used_ms + grace_ms && self.refresh[successor].used.is_none() {
                return self.reply(access, Some(successor), now_ms, 0);
            }
            self.refresh.iter_mut().filter(|it| it.session == session).for_each(|it| it.revoked = true);
            self.access.iter_mut().filter(|it| it.session == session).for_each(|it| it.revoked = true);
            self.ended_by = Some((number, successor));
            return UpstreamReply::Unauthorized;
        }
        let successor = self.new_refresh_token(account);
        self.refresh[successor].session = session;
        let access = self.new_access_token(successor, now_ms);
        self.refresh[number].used = Some((now_ms, access, successor));
        self.reply(access, Some(successor), now_ms, 0)
    }

    /// Whether the session of a refresh token has ended.
    pub(crate) fn has_ended(&self, number: usize) -> bool {
        self.refresh[number].revoked
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

    /// The first refresh token of a session.
    fn new_refresh_token(&mut self, account: usize) -> usize {
        let number = self.refresh.len();
        self.refresh.push(Refresh {
            account,
            consumed: false,
            revoked: false,
            session: number,
            used: None,
            arrived: false,
        });
        number
    }

    fn new_access_token(&mut self, refresh: usize, now_ms: u64) -> usize {
        let Refresh { account, session, .. } = self.refresh[refresh];
        let (number, expires_at_ms) = (self.access.len(), now_ms + self.token_life_ms);
        self.newest.insert(account, number);
        self.access.push(Access { account, issued_at_ms: now_ms, expires_at_ms, revoked: false, session });
        number
    }

    fn issue(&mut self, refresh: usize, returns_it: bool, now_ms: u64, rng: &mut Rng) -> UpstreamReply {
        let access = self.new_access_token(refresh, now_ms);
        let form = if self.varied_answers { rng.usize(..3) } else { 0 };
        self.reply(access, returns_it.then_some(refresh), now_ms, form)
    }

    /// The answer with these tokens, and with the expiry in one of three forms.
    fn reply(&self, access: usize, refresh: Option<usize>, now_ms: u64, form: usize) -> UpstreamReply {
        let forms = [
            Expiry::At(Timestamp::from_millis(self.access[access].expires_at_ms)),
            Expiry::In(Duration::from_millis(self.token_life_ms)),
            Expiry::Unknown,
        ];
        UpstreamReply::Granted(TokenResponse {
            access_token: Secret::new(access.to_string()),
            refresh_token: refresh.map_or(NewRefreshToken::Absent, |number| {
                NewRefreshToken::Token(Secret::new(number.to_string()))
            }),
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
pub(crate) fn number(token: &Secret) -> usize {
    token.expose().parse().unwrap()
}
