//! Account names, and the numbers of token pairs.

use std::fmt;

/// The name of an account: `[a-z0-9][a-z0-9-]{0,62}`. It names the secret and the stored record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(String);

impl AccountName {
    /// The account of a request that names none.
    pub const DEFAULT: &str = "default";
    /// The form of a name, as a regular expression.
    pub const PATTERN: &str = "^[a-z0-9][a-z0-9-]{0,62}$";
    /// The rule for a name, for error texts.
    pub const RULE: &str = "a name of 1 to 63 lower-case letters, digits and hyphens";

    /// Accepts only a well-formed name.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut bytes = text.bytes();
        let well_formed = text.len() <= 63
            && bytes.next().is_some_and(lower_or_digit)
            && bytes.all(|byte| lower_or_digit(byte) || byte == b'-');
        well_formed.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AccountName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Numbers the token pairs of an account. It grows by at least one whenever the pair changes, and never names two
/// pairs. Callers report it when the API refuses the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

#[cfg(test)]
mod tests {
    use super::AccountName;

    #[test]
    fn account_names_are_checked_byte_by_byte() {
        let pattern = regex_lite::Regex::new(AccountName::PATTERN).expect("a pattern");
        for good in ["default", "a", "0", "a-b-", &"x".repeat(63)] {
            let name = AccountName::parse(good).expect(good);
            assert!(pattern.is_match(good), "{good}");
            assert_eq!((name.as_str(), name.to_string()), (good, good.to_owned()));
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "ä", "a b", &"x".repeat(64)] {
            assert!(AccountName::parse(bad).is_none() && !pattern.is_match(bad), "{bad}");
        }
    }
}
