//! DynamoDB: one record per account and one login rate limiter per upstream, written conditionally.

use crate::Strategy;
use protocol::{Account, AccountName, Effect, Event, LimiterName, LoginLimiter, Version, WriteOutcome};
use std::collections::BTreeMap;
use token_broker::ports::Listed;

/// The version that an unconditional write of a baseline expects.
pub(crate) const ANY_VERSION: Version = Version(u64::MAX);

/// The stored items. Latency and loss are in `messages`.
pub(crate) struct Store {
    pub(crate) accounts: Vec<Account>,
    limiters: BTreeMap<LimiterName, LoginLimiter>,
    /// A write without a pair leaves the stored pair: baselines take and release their lock with such writes.
    keeps_pair: bool,
}

impl Store {
    pub(crate) fn new(accounts: usize, strategy: Strategy) -> Self {
        let keeps_pair = strategy != Strategy::Broker;
        Self { accounts: vec![Account::default(); accounts], limiters: BTreeMap::new(), keeps_pair }
    }

    /// Carries out one request atomically.
    pub(crate) fn carry_out(&mut self, account: usize, effect: &Effect) -> Event {
        match effect {
            Effect::ReadAccount => Event::Account(Ok(self.accounts[account].clone())),
            Effect::ReadLimiter(name) => {
                Event::Limiter(Ok(self.limiters.get(name).cloned().unwrap_or_default()))
            }
            Effect::WriteAccount { expected, next } => {
                let stored = &mut self.accounts[account];
                if *expected == ANY_VERSION {
                    return put_pair(stored, next);
                }
                let met = stored.version == *expected;
                if met {
                    let pair = stored.pair.take().filter(|_| self.keeps_pair);
                    stored.clone_from(next);
                    stored.pair = stored.pair.take().or(pair);
                }
                Event::Written(outcome(met))
            }
            Effect::WriteLimiter { name, expected, next } => {
                let stored = self.limiters.entry(name.clone()).or_default();
                let met = stored.version == *expected;
                if met {
                    stored.clone_from(next);
                }
                Event::Written(outcome(met))
            }
            other => panic!("the store cannot perform {other:?}"),
        }
    }

    /// The accounts with a record, as a scan finds them.
    pub(crate) fn list(&self, names: &[AccountName]) -> Vec<Listed> {
        let stored = names.iter().zip(&self.accounts).filter(|(_, record)| record.version != Version(0));
        stored.map(|(name, record)| (name.clone(), Ok(record.clone()))).collect()
    }
}

/// Replaces the stored pair. The lock and the version stay, but a first write sets the version.
fn put_pair(stored: &mut Account, next: &Account) -> Event {
    stored.pair.clone_from(&next.pair);
    if stored.version == Version(0) {
        stored.version = next.version;
    }
    Event::Written(WriteOutcome::Applied)
}

fn outcome(met: bool) -> WriteOutcome {
    if met { WriteOutcome::Applied } else { WriteOutcome::Conflict }
}
