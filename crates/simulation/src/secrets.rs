//! Secrets Manager, and which passwords the upstream would take.

use protocol::{Credentials, Origin, SecretVersion, Secret};

/// The secrets of all accounts: for each version, whether its password is right.
pub struct Secrets {
    versions: Vec<Vec<bool>>,
}

impl Secrets {
    pub fn new(accounts: usize) -> Self {
        Self { versions: vec![vec![true]; accounts] }
    }

    /// Puts a new version of every secret.
    pub fn rotate(&mut self, is_right: bool) {
        self.versions.iter_mut().for_each(|versions| versions.push(is_right));
    }

    pub fn read(&self, account: usize) -> Credentials {
        Credentials {
            version: SecretVersion((self.versions[account].len() - 1).to_string()),
            email: Secret::new(account.to_string()),
            password: Secret::from("password"),
            client: None,
            origin: Origin::default(),
        }
    }

    pub fn are_right(&self, credentials: &Credentials) -> bool {
        let account: usize = credentials.email.expose().parse().unwrap();
        let version: usize = credentials.version.0.parse().unwrap();
        self.versions[account][version]
    }
}
