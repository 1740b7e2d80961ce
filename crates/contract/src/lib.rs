//! The contract: what callers of the broker see, in every language.
//!
//! Function, agent and clients share these types, so that every name, code and field is defined here only. The crate
//! does no I/O.
//!
//! | module | contents |
//! | --- | --- |
//! | `account` | account names and generations |
//! | [`agent`] | its port and route, and the headers of its guard token |
//! | `action` | the actions of a call |
//! | `answer` | the token answer |
//! | `call` | a call: its fields, their one parser and their one writer |
//! | `client` | the caller's own name |
//! | `error`, `error_answer` | error codes, each with its HTTP status; an error as callers read it |
//! | `extra` | fields of the upstream's answer that callers get |
//! | `secret` | the one type that holds a token or a password |
//! | `time`, [`rfc3339`] | instants and random numbers; instants as text |
//!
//! `contract.json` has the same for other languages. A test compares it with the code.

mod account;
mod action;
pub mod agent;
mod answer;
mod call;
mod client;
mod error;
mod error_answer;
mod extra;
mod named;
pub mod rfc3339;
mod secret;
mod time;

pub use account::{AccountName, Generation};
pub use action::Action;
pub use answer::{LONGEST_LIFETIME_SECONDS, ServedFrom, TokenAnswer};
pub use call::{Call, CallError, DEFAULT_MIN_TTL, Field, Unknown, parameters, unknown_field, whole_number};
pub use client::ClientName;
pub use error::{ClientErrorCode, ErrorCode};
pub use error_answer::ErrorAnswer;
pub use extra::Extra;
pub use secret::Secret;
pub use time::{Draw, Timestamp, millis, seconds_rounded_up};
