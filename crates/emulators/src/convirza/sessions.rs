//! Sessions and tokens. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

/// The users' passwords, by email.
pub(super) type Passwords = HashMap<String, String>;

/// Convirza's users, sessions and tokens.
#[derive(Debug)]
pub(super) struct Sessions {
    access_lifetime: Duration,
    refresh_lifetime: Duration,
    passwords: Passwords,
    access_tokens: HashMap<String, AccessToken>,
    refresh_tokens: HashMap<String, RefreshToken>,
    last_session: u64,
}

#[derive(Debug)]
struct AccessToken {
    session: u64,
    expires_at: OffsetDateTime,
}

#[derive(Debug, Clone)]
struct RefreshToken {
    session: u64,
    email: String,
    expires_at: OffsetDateTime,
    alive: bool,
    /// Whether it has arrived since the client last had a reason to send it.
    sent: bool,
}

/// The result of a login or a refresh.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) email: String,
    pub(super) access_token: String,
    /// For Convirza's web application. The emulator does not accept it.
    pub(super) frontend_token: String,
    pub(super) access_expires_at: OffsetDateTime,
    pub(super) refresh_token: String,
    pub(super) refresh_expires_at: OffsetDateTime,
}

/// How a refresh treats earlier tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    /// The refresh token stays usable and is returned again, instead of a new one.
    pub(super) keeps_refresh_token: bool,
    /// The session's earlier access tokens die at once.
    pub(super) kills_access_token: bool,
}

impl Sessions {
    pub(super) fn new(access_lifetime: Duration, refresh_lifetime: Duration, passwords: Passwords) -> Self {
        Self {
            access_lifetime,
            refresh_lifetime,
            passwords,
            access_tokens: HashMap::new(),
            refresh_tokens: HashMap::new(),
            last_session: 0,
        }
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    pub(super) fn set_password(&mut self, email: &str, password: &str) {
        self.passwords.insert(email.to_owned(), password.to_owned());
    }

    /// Opens a session, if the password is right.
    pub(super) fn log_in(&mut self, email: &str, password: &str, now: OffsetDateTime) -> Option<Pair> {
        if self.passwords.get(email)? != password {
            return None;
        }
        self.last_session += 1;
        let session = self.last_session;
        Some(self.issue(session, email.to_owned(), now))
    }

    /// Records that a refresh token arrived. Returns whether it had arrived before.
    pub(super) fn refresh_token_sent(&mut self, token: &str) -> bool {
        self.refresh_tokens.get_mut(token).is_some_and(|known| std::mem::replace(&mut known.sent, true))
    }

    /// Allows the client to send this refresh token again, because it was returned again or the client was told to
    /// retry.
    pub(super) fn allow_refresh_token(&mut self, token: &str) {
        if let Some(known) = self.refresh_tokens.get_mut(token) {
            known.sent = false;
        }
    }

    /// Issues a new pair, if the refresh token is alive, and consumes it.
    pub(super) fn refresh(&mut self, token: &str, rotation: Rotation, now: OffsetDateTime) -> Option<Pair> {
        let known = self.refresh_tokens.get_mut(token)?;
        if !known.alive || known.expires_at <= now {
            return None;
        }
        known.alive = rotation.keeps_refresh_token;
        let known = known.clone();
        if rotation.kills_access_token {
            self.access_tokens.retain(|_, access| access.session != known.session);
        }
        if !rotation.keeps_refresh_token {
            return Some(self.issue(known.session, known.email, now));
        }
        let (access_token, access_expires_at) = self.issue_access_token(known.session, now);
        Some(Pair {
            email: known.email,
            access_token,
            frontend_token: random_token(),
            access_expires_at,
            refresh_token: token.to_owned(),
            refresh_expires_at: known.expires_at,
        })
    }

    /// Revokes one token. An access token's refresh token stays usable.
    pub(super) fn revoke_access_token(&mut self, token: &str) {
        self.access_tokens.remove(token);
    }

    pub(super) fn revoke_refresh_token(&mut self, token: &str) {
        if let Some(known) = self.refresh_tokens.get_mut(token) {
            known.alive = false;
        }
    }

    pub(super) fn revoke_all_access_tokens(&mut self) {
        self.access_tokens.clear();
    }

    pub(super) fn revoke_all_refresh_tokens(&mut self) {
        for known in self.refresh_tokens.values_mut() {
            known.alive = false;
        }
    }

    /// Whether an access token is alive. Use restores its full lifetime.
    pub(super) fn use_access_token(&mut self, token: &str, now: OffsetDateTime) -> bool {
        match self.access_tokens.get_mut(token) {
            Some(access) if access.expires_at > now => {
                access.expires_at = now + self.access_lifetime;
                true
            }
            _ => false,
        }
    }

    fn issue(&mut self, session: u64, email: String, now: OffsetDateTime) -> Pair {
        let (access_token, access_expires_at) = self.issue_access_token(session, now);
        let refresh_token = random_token();
        let refresh_expires_at = now + self.refresh_lifetime;
        self.refresh_tokens.insert(
            refresh_token.clone(),
            RefreshToken {
                session,
                email: email.clone(),
                expires_at: refresh_expires_at,
                alive: true,
                sent: false,
            },
        );
        Pair {
            email,
            access_token,
            frontend_token: random_token(),
            access_expires_at,
            refresh_token,
            refresh_expires_at,
        }
    }

    fn issue_access_token(&mut self, session: u64, now: OffsetDateTime) -> (String, OffsetDateTime) {
        let token = random_token();
        let expires_at = now + self.access_lifetime;
        self.access_tokens.insert(token.clone(), AccessToken { session, expires_at });
        (token, expires_at)
    }
}

/// An opaque token as long as an encrypted session id, in standard base64. It may contain `+`, `/` and `=`, which a
/// client must not alter.
fn random_token() -> String {
    let mut bytes = [0_u8; 64];
    fastrand::fill(&mut bytes);
    STANDARD.encode(bytes)
}
