//! The one type that holds a secret.
//!
//! Tokens, passwords and client secrets live in [`Secret`] from the moment they are read until the moment they are
//! sent. It has no `Display` and no `Serialize`, its `Debug` shows nothing, and its memory is wiped when the last copy
//! is dropped. Code that needs the text has to call [`Secret::expose`], which is easy to search for.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};
use zeroize::Zeroizing;

/// A text that must never be printed. Clones share one buffer, which is wiped when the last one is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes ownership of the text.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The text itself, to send or store it. Never use it in a log, an error or a metric.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;

    #[test]
    fn a_printed_secret_shows_nothing() {
        let secret = Secret::from("the text");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret Secret");
        assert_eq!(secret.expose(), "the text");
    }

    #[test]
    fn secrets_have_the_same_hash_if_they_are_equal() {
        let state = RandomState::new();
        let hash = |text| state.hash_one(Secret::from(text));
        assert_eq!(hash("the text"), hash("the text"));
        assert_ne!(hash("the text"), hash("another"));
    }
}
