//! The caller's own name.

/// The caller's own name: logged, never trusted. 1 to 64 of `A-Za-z0-9._:/@-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// The form of a name, as a regular expression.
    pub const PATTERN: &str = "^[A-Za-z0-9._:/@-]{1,64}$";
    /// The rule for a name, for error texts.
    pub const RULE: &str = "a name of 1 to 64 letters, digits and characters of ._:/@-";

    /// Accepts only a well-formed name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
        let is_well_formed = (1..=64).contains(&text.len()) && text.bytes().all(is_allowed);
        is_well_formed.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_form_of_the_pattern() {
        let pattern = regex_lite::Regex::new(ClientName::PATTERN).unwrap();
        let (longest, too_long) = ("a".repeat(64), "a".repeat(65));
        for (text, is_name) in [
            ("team/billing:3@eu-west_1.X", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            ("a b", false),
            ("a\n", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(
                (ClientName::parse(text).is_some(), pattern.is_match(text)),
                (is_name, is_name),
                "{text:?}"
            );
        }
    }
}
