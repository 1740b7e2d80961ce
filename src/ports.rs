//! What the broker needs from the outside world, in the protocol's types. `outbound` implements these traits for
//! production; tests and `cargo local fleet` wrap the implementations to count calls and inject faults.

use async_trait::async_trait;
use protocol::{
    Account, AccountName, Call, Credentials, Draw, LimiterName, LoginLimiter, Moment, Present, Read,
    SecretError, StoreError, Timestamp, UpstreamReply, Version, WriteOutcome,
};
use std::sync::Arc;

/// An account with its record, or with the reason why its stored item cannot be read.
pub type Listed = (AccountName, Read<Account>);

/// The shared records: strongly consistent reads and conditional writes, nothing else.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads an account's record, or the empty record if there is none.
    async fn read_account(&self, name: &AccountName) -> Result<Account, StoreError>;
    /// Writes the record if its version is still `expected`. [`Version`] zero means that there is no record.
    async fn write_account(&self, name: &AccountName, expected: Version, next: &Account) -> WriteOutcome;
    /// Reads the login rate limiter of an upstream, or the empty limiter if there is none.
    async fn read_login_limiter(&self, name: &LimiterName) -> Result<LoginLimiter, StoreError>;
    /// Writes the limiter if its version is still `expected`. [`Version`] zero means that there is no limiter.
    async fn write_login_limiter(
        &self,
        name: &LimiterName,
        expected: Version,
        next: &LoginLimiter,
    ) -> WriteOutcome;
    /// Reads all records, sorted by name. An unreadable item does not hide the others.
    async fn list_accounts(&self) -> Result<Vec<Listed>, StoreError>;
}

/// The accounts' credentials.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Reads the current version of an account's secret.
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError>;
}

/// The API that issues the tokens.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Sends the call once, without retries, and classifies the reply.
    async fn send(&self, call: &Call) -> UpstreamReply;
}

/// Time and randomness.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present, in the store's time.
    fn now(&self) -> Timestamp;
    /// The present by both clocks of the process. They agree by default, as in tests.
    fn present(&self) -> Present {
        Present::of_agreeing_clocks(self.now())
    }
    /// The present by the process's own clocks, for [`store_replied`](Self::store_replied).
    fn reading(&self) -> Moment {
        self.present().moment()
    }
    /// Reports the `date` of a response that is proven to be the store's. Its request left at `sent` and ended at
    /// `received`.
    fn store_replied(&self, _sent: Moment, _received: Moment, _date: Timestamp) {}
    /// A random number.
    fn draw(&self) -> Draw;
    /// Waits until an instant.
    async fn sleep_until(&self, until: Timestamp);
}

/// All ports of a broker.
#[derive(Clone)]
pub struct Ports {
    /// The shared records.
    pub store: Arc<dyn Store>,
    /// The accounts' credentials.
    pub secrets: Arc<dyn Secrets>,
    /// The API that issues the tokens.
    pub upstream: Arc<dyn Upstream>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}
