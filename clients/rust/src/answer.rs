//! The broker's answers.

use crate::Error;
use contract::{
    AccountName, Extra, Generation, Secret, ServedFrom, Timestamp, TokenAnswer, seconds_rounded_up,
};
use http::HeaderValue;
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// A bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text for the header `Authorization`, after `Bearer `.
    pub access_token: Secret,
    /// Names the pair. Report it if the API refuses the token.
    pub generation: Generation,
    /// The account.
    pub account: AccountName,
    /// Use it no longer than this, by the clock of this machine.
    pub expires_at: Timestamp,
    /// Where the broker got it. `memory` if it comes from the client's cache.
    pub served_from: ServedFrom,
    /// Fields of the upstream's answer that the broker passes on, such as the host of the account's API.
    pub extra: Option<Extra>,
    /// The lifetime that the broker granted when it answered.
    pub(crate) granted: Duration,
}

impl Token {
    /// How long the token may still be used.
    pub fn time_left(&self, now: Timestamp) -> Duration {
        self.expires_at.since(now)
    }

    /// [`Token::time_left`] in whole seconds. The broker keeps a margin of seconds, so rounding up is safe, and a
    /// caller who asks for the longest lifetime gets that number.
    pub fn expires_in(&self, now: Timestamp) -> u64 {
        seconds_rounded_up(self.time_left(now))
    }

    /// The header `Authorization`, or `None` if the token has a character that headers may not have.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.access_token.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The JSON of an answer. It may hold a token: its memory is wiped, and it is never printed.
#[derive(Clone)]
pub struct Reply(Zeroizing<Vec<u8>>);

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reply")
    }
}

impl Reply {
    /// Takes ownership of the body of an answer.
    pub fn new(body: Vec<u8>) -> Self {
        Self(Zeroizing::new(body))
    }

    /// The answer as the broker wrote it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Reads a token answer to a call that left at `requested_at`.
    ///
    /// The token's time counts from when the call left, so that neither a slow network nor a frozen process makes the
    /// token seem to live longer than it does.
    pub(crate) fn token(&self, account: &AccountName, requested_at: Timestamp) -> Result<Token, Error> {
        let answer = TokenAnswer::read(&self.0, account).map_err(Error::Unreadable)?;
        let access_token = answer.access_token.ok_or(Error::Unreadable("it has no token"))?;
        let granted = Duration::from_secs(answer.expires_in);
        Ok(Token {
            access_token,
            generation: answer.generation,
            account: answer.account,
            expires_at: requested_at.plus(granted),
            served_from: answer.served_from,
            extra: answer.extra,
            granted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000_000);

    fn read(text: &str) -> Result<Token, Error> {
        Reply::new(text.as_bytes().to_vec()).token(&AccountName::default(), AT)
    }

    #[test]
    fn time_counts_from_when_the_call_left() {
        let token =
            read(r#"{"access_token":"t","expires_in":900,"generation":7,"served_from":"table"}"#).unwrap();
        assert_eq!(token.expires_at, AT.plus(Duration::from_secs(900)));
        assert_eq!(token.expires_in(AT.plus(Duration::from_millis(300))), 900);
        assert_eq!(token.expires_in(AT.plus(Duration::from_secs(901))), 0);
        assert_eq!((token.generation, token.served_from), (Generation(7), ServedFrom::Table));
        assert!(read(r#"{"access_token":"t","expires_in":604800,"generation":7}"#).is_ok());
    }

    #[test]
    fn an_answer_without_a_token_is_unreadable() {
        for text in [
            "",
            r#"{"access_token":"","expires_in":900,"generation":7}"#,
            r#"{"expires_in":900,"generation":7}"#,
        ] {
            assert!(matches!(read(text), Err(Error::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn a_token_with_a_line_break_is_not_sent() {
        let header = |token: &str| {
            let answer = format!(r#"{{"access_token":"{token}","expires_in":900,"generation":7}}"#);
            read(&answer).unwrap().authorization()
        };
        assert_eq!(header(r"a\r\nHost: x"), None);
        let header = header("abc").unwrap();
        assert!(header == "Bearer abc" && header.is_sensitive());
    }

    #[test]
    fn nothing_prints_the_token() {
        let text = r#"{"access_token":"tell-tale","expires_in":900,"generation":7}"#;
        assert!(!format!("{:?}", read(text).unwrap()).contains("tell-tale"));
        assert_eq!(format!("{:?}", Reply::new(text.into())), "Reply");
        let broken = read(r#"{"access_token":"tell-tale","expires_in":"tell-tale"}"#).unwrap_err();
        assert!(!format!("{broken} {broken:?}").contains("tell-tale"));
    }
}
