//! The contract: what callers of the broker see, in every language.
//!
//! Function, agent and clients share these types, so that each name, code and field is spelled here and nowhere else.
//! The crate does no I/O.
//!
//! | module | contents |
//! | --- | --- |
//! | `account` | account names and generations |
//! | `action` | what a request can ask for |
//! | `answer` | the token answer |
//! | `error` | error codes, each with its HTTP status |
//! | `secret` | the one type that holds a token or a password |
//! | `time`, [`rfc3339`] | instants and random numbers; instants as text |

mod account;
mod action;
mod answer;
mod error;
pub mod rfc3339;
mod secret;
mod time;

pub use account::{AccountName, Generation};
pub use action::Action;
pub use answer::ServedFrom;
pub use error::ErrorCode;
pub use secret::Secret;
pub use time::{Draw, Timestamp, millis, seconds_rounded_up};
