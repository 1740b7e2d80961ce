//! An authorization server: rotation, reuse detection, grace periods.

use crate::setting::{Behaviour, GRACE, Grace, Setting};
use token_broker_protocol::{Expiry, NewRefreshToken, Secret, Timestamp, TokenResponse, UpstreamReply};

/// What the server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// Whether each family of tokens lives. A family descends from one grant.
    pub(crate) families: Vec<bool>,
    pub(crate) refresh_tokens: Vec<RefreshToken>,
    pub(crate) access_tokens: Vec<AccessToken>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RefreshToken {
    pub(crate) family: usize,
    pub(crate) used_at: Option<Timestamp>,
    /// The numbers of the refresh and access tokens that its last use returned.
    pub(crate) successor: Option<(usize, usize)>,
    /// The token whose use returned it.
    pub(crate) predecessor: Option<usize>,
    /// No other successor of its predecessor was issued since.
    pub(crate) is_newest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AccessToken {
    pub(crate) family: usize,
    pub(crate) expires_at: Timestamp,
    pub(crate) alive: bool,
}

impl Server {
    /// A person gives a grant. The numbers of its family and of its first refresh token are equal.
    pub(crate) fn grant(&mut self) {
        self.families.push(true);
        self.add_refresh_token(self.families.len() - 1);
    }

    pub(crate) fn add_refresh_token(&mut self, family: usize) -> usize {
        let (used_at, successor, predecessor) = (None, None, None);
        self.refresh_tokens.push(RefreshToken { family, used_at, successor, predecessor, is_newest: true });
        self.refresh_tokens.len() - 1
    }

    pub(crate) fn add_access_token(&mut self, family: usize, expires_at: Timestamp) -> usize {
        self.access_tokens.push(AccessToken { family, expires_at, alive: true });
        self.access_tokens.len() - 1
    }

    /// A refresh token arrives, with the right client.
    pub(crate) fn refresh(&mut self, behaviour: Behaviour, number: usize, now: Timestamp) -> UpstreamReply {
        let token = self.refresh_tokens[number].clone();
        if !self.families[token.family] {
            return UpstreamReply::Unauthorized;
        }
        let used_at = token.used_at.filter(|_| behaviour.rotates);
        let in_grace = used_at.is_none_or(|at| behaviour.grace != Grace::None && now <= at.plus(GRACE));
        let successor_is_unused =
            token.successor.is_none_or(|(next, _)| self.refresh_tokens[next].used_at.is_none());
        if !token.is_newest || !in_grace || !successor_is_unused && behaviour.grace == Grace::SamePair {
            if behaviour.reuse_kills {
                self.kill(token.family);
            }
            return UpstreamReply::Unauthorized;
        }
        if let (Some(_), Some((refresh, access)), Grace::SamePair) =
            (used_at, token.successor, behaviour.grace)
        {
            return self.reply(Some(refresh), access, now);
        }
        if behaviour.kills_access {
            self.access_tokens
                .iter_mut()
                .filter(|it| it.family == token.family)
                .for_each(|it| it.alive = false);
        }
        let access = self.add_access_token(token.family, now.plus(Setting::LIFETIME));
        if !behaviour.rotates {
            return self.reply(None, access, now);
        }
        if let Some((other, _)) = token.successor {
            self.refresh_tokens[other].is_newest = false;
        }
        let refresh = self.add_refresh_token(token.family);
        self.refresh_tokens[refresh].predecessor = Some(number);
        let used = &mut self.refresh_tokens[number];
        used.used_at.get_or_insert(now);
        used.successor = Some((refresh, access));
        self.reply(Some(refresh), access, now)
    }

    fn reply(&self, refresh: Option<usize>, access: usize, now: Timestamp) -> UpstreamReply {
        let left = self.access_tokens[access].expires_at.since(now);
        UpstreamReply::Granted(TokenResponse {
            access_token: access_token(access),
            refresh_token: refresh
                .map_or(NewRefreshToken::Absent, |number| NewRefreshToken::Token(refresh_token(number))),
            access_expiry: Expiry::In(left),
            refresh_expiry: Expiry::Unknown,
            extra: None,
        })
    }

    pub(crate) fn kill(&mut self, family: usize) {
        self.families[family] = false;
        self.access_tokens.iter_mut().filter(|it| it.family == family).for_each(|it| it.alive = false);
    }
}

pub(crate) fn refresh_token(number: usize) -> Secret {
    Secret::new(format!("refresh {number}"))
}

pub(crate) fn access_token(number: usize) -> Secret {
    Secret::new(format!("access {number}"))
}

pub(crate) fn number_of(token: &Secret) -> usize {
    token.expose().rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a token of this server")
}
