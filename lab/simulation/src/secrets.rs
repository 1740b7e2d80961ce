//! Secrets Manager, and the passwords that the upstream accepts.

use protocol::{Credentials, Login, Origin, Secret, SecretVersion};

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
            login: Login::Convirza {
                email: Secret::new(account.to_string()),
                password: Secret::from("password"),
            },
            origin: Origin::default(),
        }
    }

    pub(crate) fn are_right(&self, credentials: &Credentials) -> bool {
        let account = account_of(credentials);
        let version: usize = credentials.version.0.parse().unwrap();
        self.versions[account][version]
    }
}

/// The simulated secrets name their account.
pub(crate) fn account_of(credentials: &Credentials) -> usize {
    match &credentials.login {
        Login::Convirza { email, .. } => email.expose().parse().unwrap(),
        Login::OAuth2 { .. } => unreachable!("the simulated accounts are Convirza's"),
    }
}
