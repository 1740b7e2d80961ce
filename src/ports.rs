//! What the broker needs of the world, in the core's own types. The adapters implement these traits; tests
//! and the local fleet wrap them to count and to fail.

use protocol::{SecretError, StoreError, WriteOutcome, Call, Credentials, UpstreamReply, Account, AccountName, LoginLimiter, Version, Draw, Timestamp};
use async_trait::async_trait;
use std::sync::Arc;

/// An account's record, or what is wrong with the stored item.
pub type Listed = (AccountName, Result<Account, String>);

/// The shared records: strongly consistent reads and conditional writes, nothing else.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads an account's record; the empty one where there is none.
    async fn read_account(&self, name: &AccountName) -> Result<Account, StoreError>;
    /// Writes it if `expected` still stands. [`Version`] zero: if there is none.
    async fn write_account(&self, name: &AccountName, expected: Version, next: &Account) -> WriteOutcome;
    /// Reads the ledger; the empty one where there is none.
    async fn read_login_limiter(&self) -> Result<LoginLimiter, StoreError>;
    /// Writes it if `expected` still stands.
    async fn write_login_limiter(&self, expected: Version, next: &LoginLimiter) -> WriteOutcome;
    /// All records. One that cannot be read does not hide the others.
    async fn list_accounts(&self) -> Result<Vec<Listed>, StoreError>;
}

/// The accounts' credentials.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Reads the current version of an account's secret.
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError>;
}

/// The API whose tokens these are.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Sends one request, once, and says what became of it.
    async fn send(&self, call: &Call) -> UpstreamReply;
}

/// Time and chance.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
    /// A random number.
    fn draw(&self) -> Draw;
    /// Waits until an instant.
    async fn sleep_until(&self, until: Timestamp);
}

/// The whole world, as a broker sees it.
#[derive(Clone)]
pub struct Ports {
    /// The shared records.
    pub store: Arc<dyn Store>,
    /// The accounts' credentials.
    pub secrets: Arc<dyn Secrets>,
    /// The API whose tokens these are.
    pub upstream: Arc<dyn Upstream>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
}
