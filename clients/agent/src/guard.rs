//! The agent's own guard token.

use contract::Secret;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use token_broker_client::{Environment, GuardTokenError};
use tokio::time::Instant;

/// Callers with a wrong token must not make the agent read a file for each request.
const PAUSE: Duration = Duration::from_secs(1);

/// The token that callers have to present. Its file is reread when a caller presents another token: callers read the
/// file for each request, so they know a new token first.
pub struct Guard {
    environment: Environment,
    known: Mutex<Known>,
}

struct Known {
    token: Secret,
    read_at: Option<Instant>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guard")
    }
}

impl Guard {
    /// The guard token of an environment.
    ///
    /// # Errors
    /// There is no guard token.
    pub(crate) fn of(environment: &Environment) -> Result<Self, GuardTokenError> {
        let known = Known { token: environment.guard_token()?, read_at: None };
        Ok(Self { environment: environment.clone(), known: Mutex::new(known) })
    }

    /// Whether a caller presents the token, as `is_presented` judges.
    pub(crate) fn admits(&self, is_presented: impl Fn(&Secret) -> bool) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if is_presented(&known.token) {
            return true;
        }
        if known.read_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        known.read_at = Some(Instant::now());
        // While the file is being replaced, its previous token counts.
        let Ok(token) = self.environment.guard_token() else { return false };
        known.token = token;
        is_presented(&known.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_at_most_once_a_second() {
        let path = std::env::temp_dir().join(format!("token-broker-guard-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("one\n");
        let value = format!("file://{}", path.display());
        let guard = Guard::of(&[("TOKEN_BROKER_TOKEN", value)].into_iter().collect()).unwrap();
        let admits = |presented: &str| guard.admits(|token| token.expose() == presented);
        assert!(admits("one") && !admits("wrong"));
        write("two\n");
        assert!(admits("one") && !admits("two"), "it was read a moment ago");
        tokio::time::advance(PAUSE).await;
        assert!(admits("two") && !admits("one"));
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(PAUSE).await;
        assert!(!admits("three") && admits("two"), "without the file, its last token counts");
    }
}
