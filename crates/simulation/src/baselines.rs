//! What people do without a broker, written as one writes it in earnest: three clients that live in the same
//! world, on the same calls.
//!
//! All three keep the pair in memory until a minute before it expires, trade in its refresh token then, and log
//! in where there is none or it was refused. A 429 is waited out for as long as `Retry-After` says, or for 1 s,
//! doubled each time, where it says nothing; so is any other failure of the upstream. Then they start over, with
//! a look at the table where they share one. After three tries, or when the caller would be gone by then, they
//! give up. An instance keeps to a `Retry-After` in its later requests as well. A token that was rejected is
//! renewed.
//!
//! | | shares | before it renews | saves |
//! | --- | --- | --- | --- |
//! | each for itself | nothing | | |
//! | a shared cache | the pair | reads the table; if that fails, logs in all the same, as a cache must not be missed | always |
//! | a lock without a fence | the pair and a lock for as long as the broker's lease | takes the lock by a conditional write; while another one has it, looks again | always |

use super::{store::ANY_VERSION, strategy::Strategy};
use std::time::Duration;
use protocol::{Request, Done, Intent, ServedFrom, Failure, Effect, Event, WriteOutcome, Call, Credentials, Granted, UpstreamReply, grant_for, pair_from, CachedRecord, Memory, Lookup, policy, Policy, Account, Generation, Grant, Holder, Lease, Pair, Version, Draw, Timestamp};

/// A token with less left is not handed out any more.
pub const LEAST_LEFT: Duration = Duration::from_secs(60);
const TRIES: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Between two looks at a lock that somebody else has.
const LOCK_POLL: Duration = Duration::from_millis(500);

/// One request.
pub struct Today {
    strategy: Strategy,
    ask: Request,
    memory: Cache,
    /// The pair and the lock as they were read last; an own pair for whoever shares nothing.
    record: Account,
    state: State,
    tries: u32,
    /// The pair whose refresh token was refused.
    refused: Option<Generation>,
    /// The version of the own write that took the lock.
    locked: Option<Version>,
    /// Until when the last 429 wants nothing sent. Of the process: it outlives the request.
    pub retry_until: Option<Timestamp>,
}

/// What is waited for. A login was asked for with a secret, a refresh without.
enum State {
    Looking,
    Locking { version: Version },
    ReadingSecret,
    Asked { left_at: Timestamp, secret: Option<Credentials> },
    Saving { pair: Pair },
    Unlocking { then: Effect },
    Pausing,
}

impl Today {
    pub fn new(strategy: Strategy, ask: Request, memory: Memory, retry_until: Option<Timestamp>) -> Self {
        let record = memory.copy.as_ref().map(|copy| copy.account.clone()).unwrap_or_default();
        let (state, tries, refused, locked) = (State::Looking, 0, None, None);
        Self { strategy, ask, memory, record, state, tries, refused, locked, retry_until }
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn recall(memory: &Memory, ask: &Request, policy: &Policy, now: Timestamp) -> Lookup {
        let pair = memory.copy.as_ref().and_then(|copy| copy.account.pair.as_ref());
        let pair = pair.filter(|pair| serves(pair, ask, policy, now));
        let answer = pair.and_then(|pair| ask.answer(pair, policy, now, ServedFrom::Cache));
        answer.map_or(Lookup::Look { early_refresh: false }, Lookup::Answer)
    }

    pub fn step(&mut self, policy: &Policy, event: Event, now: Timestamp, draw: Draw) -> Effect {
        match (std::mem::replace(&mut self.state, State::Looking), event) {
            (_, Event::Begin) | (State::Pausing, Event::Resumed) => self.look(policy, now, draw),
            (State::Looking, Event::Account(Ok(record))) => {
                self.record = record;
                self.decide(policy, now, draw)
            }
            (State::Looking, Event::Account(Err(_))) if self.strategy == Strategy::SharedCache => {
                self.record.pair = None;
                self.in_turn(policy, now, draw)
            }
            (State::Looking, Event::Account(Err(_))) => fail(Failure::StoreUnavailable),
            (State::Locking { version }, Event::Written(WriteOutcome::Applied)) => {
                self.locked = Some(version);
                self.renew(policy, now)
            }
            (State::Locking { .. }, Event::Written(_)) => self.look_later(now, draw),
            (State::ReadingSecret, Event::Secret(Ok(secret))) => {
                self.send(Call::Login(secret.clone()), Some(secret), policy, now)
            }
            (State::ReadingSecret, Event::Secret(Err(_))) => {
                self.unlock(fail(Failure::SecretUnavailable), now)
            }
            (State::Asked { left_at, secret }, Event::Replied(reply)) => match reply {
                UpstreamReply::Granted(granted) => self.save(granted, left_at, secret, policy, now),
                UpstreamReply::Refused => self.was_refused(secret, policy, now, draw),
                UpstreamReply::RateLimited(asked) => {
                    let retry_after = asked.unwrap_or_default();
                    self.retry_until = asked.map(|span| now.plus(span)).max(self.retry_until);
                    self.try_again(Failure::UpstreamRateLimited { retry_after }, asked, policy, now, draw)
                }
                _ => {
                    let retry_after = Duration::ZERO;
                    self.try_again(Failure::UpstreamUnavailable { retry_after }, None, policy, now, draw)
                }
            },
            // The lock is somebody else's by now, and stays so.
            (State::Saving { pair }, Event::Written(WriteOutcome::Conflict)) => self.put(pair, ANY_VERSION),
            (State::Saving { pair }, Event::Written(_)) => self.answer(&pair, policy, now),
            (State::Unlocking { then }, Event::Written(_)) => self.go_on(then),
            _ => fail(Failure::Defect("an event that nobody asked for")),
        }
    }

    fn look(&mut self, policy: &Policy, now: Timestamp, draw: Draw) -> Effect {
        if self.strategy == Strategy::EachForItself {
            return self.in_turn(policy, now, draw);
        }
        self.state = State::Looking;
        Effect::ReadAccount
    }

    fn decide(&mut self, policy: &Policy, now: Timestamp, draw: Draw) -> Effect {
        if let Some(pair) = self.record.pair.clone().filter(|pair| serves(pair, &self.ask, policy, now)) {
            self.remember(now);
            return self.answer(&pair, policy, now);
        }
        self.in_turn(policy, now, draw)
    }

    /// Renews, under the lock where there is one, once no 429 forbids it any more.
    fn in_turn(&mut self, policy: &Policy, now: Timestamp, draw: Draw) -> Effect {
        if let Some(until) = self.retry_until.filter(|until| *until > now) {
            let limited = Failure::UpstreamRateLimited { retry_after: until.since(now) };
            let then = self.wait_to_send(until, limited, policy);
            return self.go_on(then);
        }
        if self.strategy != Strategy::LockWithoutFence {
            return self.renew(policy, now);
        }
        if policy::held(self.record.lease.as_ref(), now).is_some() {
            return self.look_later(now, draw);
        }
        let expected = self.record.version;
        let lease = Lease { holder: Holder(draw.0), until: now.plus(policy.lease) };
        let version = expected.next(now);
        self.state = State::Locking { version };
        Effect::WriteAccount { expected, next: Account { version, lease: Some(lease), ..Account::default() } }
    }

    fn look_later(&mut self, now: Timestamp, draw: Draw) -> Effect {
        let until = now.plus(draw.jittered(LOCK_POLL));
        if until > self.ask.deadline {
            return fail(Failure::in_progress(until, now));
        }
        self.go_on(Effect::Pause { until })
    }

    fn renew(&mut self, policy: &Policy, now: Timestamp) -> Effect {
        let pair = self.record.pair.as_ref().filter(|pair| self.refused != Some(pair.generation));
        let refresh_token = pair.and_then(|pair| pair.refresh_token.clone());
        match (grant_for(pair, policy.clock_margin, now), refresh_token) {
            (Grant::Refresh, Some(refresh_token)) => {
                let origin = pair.map(|pair| pair.origin.clone()).unwrap_or_default();
                self.send(Call::Refresh { refresh_token, origin }, None, policy, now)
            }
            _ => {
                self.state = State::ReadingSecret;
                Effect::ReadSecret
            }
        }
    }

    fn send(&mut self, call: Call, secret: Option<Credentials>, policy: &Policy, now: Timestamp) -> Effect {
        if now.plus(policy.upstream_timeout) > self.ask.deadline {
            return self.unlock(fail(Failure::TooLittleTime), now);
        }
        self.state = State::Asked { left_at: now, secret };
        Effect::Send { call, not_after: self.ask.deadline }
    }

    /// Whoever shares a pair looks whether somebody else has renewed it. Under a lock, nobody can have.
    fn was_refused(
        &mut self,
        secret: Option<Credentials>,
        policy: &Policy,
        now: Timestamp,
        draw: Draw,
    ) -> Effect {
        if let Some(Credentials { version, .. }) = secret {
            return self.unlock(fail(Failure::CredentialsRejected(version)), now);
        }
        self.refused = self.record.generation();
        if self.strategy == Strategy::SharedCache {
            return self.look(policy, now, draw);
        }
        self.memory.copy = None;
        self.renew(policy, now)
    }

    fn try_again(
        &mut self,
        failure: Failure,
        asked: Option<Duration>,
        policy: &Policy,
        now: Timestamp,
        draw: Draw,
    ) -> Effect {
        let backoff = draw.jittered(FIRST_BACKOFF * 2_u32.pow(self.tries));
        let until = now.plus(asked.unwrap_or(backoff));
        self.tries += 1;
        let gives_up = self.tries >= TRIES;
        let then = if gives_up { fail(failure) } else { self.wait_to_send(until, failure, policy) };
        self.unlock(then, now)
    }

    /// A wait that leaves time for a call, or the failure.
    fn wait_to_send(&self, until: Timestamp, failure: Failure, policy: &Policy) -> Effect {
        let too_late = until.plus(policy.upstream_timeout) > self.ask.deadline;
        if too_late { fail(failure) } else { Effect::Pause { until } }
    }

    /// Gives the lock back if it is still the own one, and goes on.
    fn unlock(&mut self, then: Effect, now: Timestamp) -> Effect {
        let Some(expected) = self.locked.take() else { return self.go_on(then) };
        let next = Account { version: expected.next(now), ..Account::default() };
        self.state = State::Unlocking { then };
        Effect::WriteAccount { expected, next }
    }

    fn go_on(&mut self, then: Effect) -> Effect {
        if let Effect::Pause { .. } = then {
            self.state = State::Pausing;
        }
        then
    }

    /// A pair that was not saved would be lost, so it is saved in any case; the lock goes with it if it is still
    /// the own one.
    fn save(
        &mut self,
        granted: Granted,
        left_at: Timestamp,
        secret: Option<Credentials>,
        policy: &Policy,
        now: Timestamp,
    ) -> Effect {
        // Tokens are numbers here, in the order in which they were given.
        let generation = Generation(granted.access_token.expose().parse().unwrap_or_default());
        let grant = if secret.is_some() { Grant::Login } else { Grant::Refresh };
        let origin = secret.map(|secret| secret.origin).unwrap_or_default();
        let pair = pair_from(granted, generation, left_at, grant, self.record.pair.as_ref(), origin);
        let locked = self.locked.take();
        self.record = Account {
            version: locked.unwrap_or(self.record.version).next(now),
            pair: Some(pair.clone()),
            ..Account::default()
        };
        self.remember(now);
        if self.strategy == Strategy::EachForItself {
            return self.answer(&pair, policy, now);
        }
        self.put(pair, locked.unwrap_or(ANY_VERSION))
    }

    fn put(&mut self, pair: Pair, expected: Version) -> Effect {
        self.state = State::Saving { pair };
        Effect::WriteAccount { expected, next: self.record.clone() }
    }

    fn remember(&mut self, now: Timestamp) {
        self.memory.copy = Some(CachedRecord { account: self.record.clone(), read_at: now });
    }

    /// What a renewal has brought is handed out with whatever life it has.
    fn answer(&self, pair: &Pair, policy: &Policy, now: Timestamp) -> Effect {
        let answer = self.ask.answer(pair, policy, now, ServedFrom::Table);
        let nothing_left = Failure::UpstreamUnavailable { retry_after: Duration::ZERO };
        Effect::Done(answer.map(Outcome::Token).ok_or(nothing_left))
    }
}

/// Whether a pair can be handed out: a minute is left, or half of a shorter life, and nobody has said that the
/// API refuses it.
fn serves(pair: &Pair, ask: &Request, policy: &Policy, now: Timestamp) -> bool {
    let Intent::Token { rejected, .. } = ask.goal else { return false };
    policy.usable(pair, LEAST_LEFT, now) && rejected != Some(pair.generation)
}

fn fail(failure: Failure) -> Effect {
    Effect::Done(Err(failure))
}
