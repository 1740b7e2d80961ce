//! Production implementations of the [`ports`](crate::ports). They translate, and decide nothing.
//!
//! | module | contents |
//! | --- | --- |
//! | `clock` | the wall clock and random numbers |
//! | [`convirza`] | the upstream: requests, responses, expiries |
//! | [`dynamodb`] | conditional reads and writes; [`dynamodb::item`] is the form of the stored items |
//! | [`sdk`] | the AWS SDK's settings |
//! | `secrets_manager` | the accounts' credentials |

mod clock;
pub mod convirza;
pub mod dynamodb;
pub mod sdk;
mod secrets_manager;

pub use clock::SystemClock;
pub use convirza::Convirza;
pub use dynamodb::Table;
pub use secrets_manager::SecretsManager;
