//! Translations between the core's types and the world's. Nothing here decides whether or when.
//!
//! | module | is about |
//! | --- | --- |
//! | [`clock`] | the wall clock and random numbers |
//! | [`convirza`] | the upstream: requests, answers, expiries |
//! | [`dynamodb`] | conditional reads and writes; [`item`] is the form of the stored items |
//! | [`secrets_manager`] | the accounts' credentials |
//! | [`lambda`] | events in, answers and errors out |
//! | [`rfc3339`] | instants as text |
//! | [`sdk`] | the AWS SDK's settings |

pub mod clock;
pub mod convirza;
pub mod dynamodb;
pub mod item;
pub mod lambda;
pub mod rfc3339;
pub mod sdk;
pub mod secrets_manager;
