//! Secrets Manager, and the credentials that the upstream accepts.

use protocol::{
    Client, ClientAuth, Credentials, Endpoints, GrantType, Login, Origin, Secret, SecretVersion, UpstreamUrl,
};
use std::time::Duration;

/// What a version of a secret holds.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    /// A password, and whether it is right.
    Password(bool),
    /// The number of a refresh token that a person obtained, and the provider's grace period in milliseconds.
    Grant(usize, u64),
}

/// By account and version.
pub(crate) struct Secrets(Vec<Vec<Value>>);

impl Secrets {
    pub(crate) fn new(first: impl Iterator<Item = Value>) -> Self {
        Self(first.map(|value| vec![value]).collect())
    }

    /// Puts a new version of every secret.
    pub(crate) fn rotate(&mut self, is_right: bool) {
        self.0.iter_mut().for_each(|versions| versions.push(Value::Password(is_right)));
    }

    /// Puts a new version of one secret.
    pub(crate) fn put(&mut self, account: usize, value: Value) {
        self.0[account].push(value);
    }

    /// The current version.
    pub(crate) fn version(&self, account: usize) -> usize {
        self.0[account].len() - 1
    }

    pub(crate) fn read(&self, account: usize) -> Credentials {
        let version = self.version(account);
        let (login, origin) = match self.0[account][version] {
            Value::Password(_) => {
                let (email, password) = (Secret::new(account.to_string()), Secret::from("password"));
                (Login::Convirza { email, password }, Origin::default())
            }
            Value::Grant(bootstrap, grace_ms) => grant(bootstrap, Duration::from_millis(grace_ms)),
        };
        Credentials { version: SecretVersion(version.to_string()), login, origin }
    }

    pub(crate) fn are_right(&self, credentials: &Credentials) -> bool {
        let version: usize = credentials.version.0.parse().unwrap();
        matches!(self.0[account_of(credentials)][version], Value::Password(true))
    }
}

fn grant(bootstrap: usize, resend_within: Duration) -> (Login, Origin) {
    let client = Client {
        id: Secret::from("client"),
        secret: None,
        auth: ClientAuth::Basic,
        scope: None,
        parameters: Vec::new(),
        answer_fields: Vec::new(),
        refresh_ahead: None,
        resend_within,
    };
    let grant = GrantType::RefreshToken { bootstrap: Secret::new(bootstrap.to_string()) };
    let token_url = UpstreamUrl::parse_endpoint("https://as.example/token").unwrap();
    let endpoints = Endpoints { token_url, revoke_url: None, probe_url: None };
    (Login::OAuth2 { client, grant }, Origin::OAuth2(endpoints))
}

/// The simulated users are named after their account.
pub(crate) fn account_of(credentials: &Credentials) -> usize {
    match &credentials.login {
        Login::Convirza { email, .. } => email.expose().parse().unwrap(),
        Login::OAuth2 { .. } => unreachable!("a grant is not logged in to"),
    }
}
