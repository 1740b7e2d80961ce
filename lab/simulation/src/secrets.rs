//! Secrets Manager, and the passwords that the upstream accepts.

use protocol::{Credentials, Origin, Secret, SecretVersion};

/// By account and version: whether the password is right.
pub(crate) struct Secrets {
    versions: Vec<Vec<bool>>,
}

impl Secrets {
    pub(crate) fn new(accounts: usize) -> Self {
        Self { versions: vec![vec![true]; accounts] }
    }

    /// Puts a new version of every secret.
    pub(crate) fn rotate(&mut self, is_right: bool) {
        self.versions.iter_mut().for_each(|versions| versions.push(is_right));
    }

    pub(crate) fn read(&self, account: usize) -> Credentials {
        Credentials {
            version: SecretVersion((self.versions[account].len() - 1).to_string()),
            email: Secret::new(account.to_string()),
            password: Secret::from("password"),
            client: None,
            origin: Origin::default(),
        }
    }

    pub(crate) fn are_right(&self, credentials: &Credentials) -> bool {
        let account: usize = credentials.email.expose().parse().unwrap();
        let version: usize = credentials.version.0.parse().unwrap();
        self.versions[account][version]
    }
}
