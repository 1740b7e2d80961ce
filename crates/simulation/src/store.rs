//! DynamoDB as the protocol knows it: one record per account and one ledger, written on a condition.

use super::strategy::Strategy;
use protocol::{Effect, Event, WriteOutcome, Account, LoginLimiter, Version};

/// What the saving of a pair expects that nobody has set a condition on: whatever stands.
pub const ANY_VERSION: Version = Version(u64::MAX);

/// What is stored. Latencies and losses are on the way here, not in here.
pub struct Store {
    pub accounts: Vec<Account>,
    pub limiter: LoginLimiter,
    /// Whether a write that has no pair leaves the one that is there: so a lock is taken and given back.
    pair_stays: bool,
}

impl Store {
    pub fn new(accounts: usize, strategy: Strategy) -> Self {
        let pair_stays = strategy != Strategy::Broker;
        Self { accounts: vec![Account::default(); accounts], limiter: LoginLimiter::default(), pair_stays }
    }

    /// Carries out what has arrived, at once and as a whole.
    pub fn carry_out(&mut self, account: usize, effect: &Effect) -> Event {
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.accounts[account].clone())),
            Effect::ReadLimiter => Event::Limiter(Ok(self.limiter.clone())),
            Effect::WriteAccount { expected, next } => {
                let stored = &mut self.accounts[account];
                if *expected == ANY_VERSION {
                    return save(stored, next);
                }
                let met = stored.version == *expected;
                if met {
                    let pair = stored.pair.take().filter(|_| self.pair_stays);
                    stored.clone_from(next);
                    stored.pair = stored.pair.take().or(pair);
                }
                Event::Written(outcome(met))
            }
            Effect::WriteLimiter { expected, next } => {
                let met = self.limiter.version == *expected;
                if met {
                    self.limiter.clone_from(next);
                }
                Event::Written(outcome(met))
            }
            other => panic!("the store is asked for {other:?}"),
        }
    }

    /// The accounts that have a record, as a scan would find them.
    pub fn known_accounts(&self) -> Vec<usize> {
        (0..self.accounts.len()).filter(|index| self.accounts[*index].version != Version(0)).collect()
    }
}

/// Puts a pair in the place of whatever pair there is. A lock stays, and so does its version; where nobody has
/// written yet, a version says that there is a record.
fn save(stored: &mut Account, next: &Account) -> Event {
    stored.pair.clone_from(&next.pair);
    if stored.version == Version(0) {
        stored.version = next.version;
    }
    Event::Written(WriteOutcome::Applied)
}

fn outcome(met: bool) -> WriteOutcome {
    if met { WriteOutcome::Applied } else { WriteOutcome::Conflict }
}
