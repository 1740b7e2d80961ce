//! Three common designs without the broker, each written with care. They run in the same world and make the same calls.
//!
//! All three keep the pair in memory until a minute before it expires, then send its refresh token. They log in if
//! there is no refresh token, or if it was refused. After a 429 they wait as long as `Retry-After` says. Without
//! `Retry-After`, and after any other failure of the upstream, they wait 1 s, doubled each time. Then they start over,
//! and reread the table if they share one. They give up after three tries, or at the caller's deadline. An instance
//! obeys a `Retry-After` in later requests too. A rejected token is renewed.
//!
//! | name | shared state | before a renewal | save |
//! | --- | --- | --- | --- |
//! | no sharing | none | | |
//! | a shared cache | the pair | reads the table; logs in even if that fails, since a cache may be down | unconditional |
//! | a lock without a fence | the pair, and a lock for as long as the broker's lease | takes the lock by a conditional write; waits and rereads while another instance holds it | unconditional |

pub(crate) mod requests;

use crate::{Strategy, store::ANY_VERSION};
use protocol::{
    Account, Answer, Cache, CachedRecord, Call, Context, Credentials, Effect, Event, Failure, Generation,
    Holder, Intent, IssuedToken, Lease, Lookup, Outcome, Pair, RefreshToken, Renewal, Request, ServedFrom,
    Step, Timestamp, TokenResponse, UpstreamReply, Version, WriteOutcome,
};
use std::time::Duration;

/// A token with less time left is not handed out.
pub(crate) const SHORTEST_TTL: Duration = Duration::from_secs(60);
const TRIES: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The pause between two reads while another instance holds the lock.
const LOCK_POLL: Duration = Duration::from_millis(500);

/// One request.
pub(crate) struct Baseline {
    strategy: Strategy,
    request: Request,
    cache: Cache,
    /// Pair and lock as last read. Without sharing, the instance's own pair.
    record: Account,
    state: State,
    tries: u32,
    /// The pair whose refresh token was refused.
    refused: Option<Generation>,
    /// The version of the write that took the lock, while this request holds it.
    locked: Option<Version>,
    /// Nothing is sent before this instant, because of the last 429. The instance keeps it for later requests.
    retry_until: Option<Timestamp>,
}

/// What a request waits for.
enum State {
    ReadingRecord,
    TakingLock {
        version: Version,
    },
    ReadingSecret,
    /// A call with a secret is a login, one without is a refresh.
    Calling {
        sent_at: Timestamp,
        secret: Option<Credentials>,
    },
    Saving {
        pair: Pair,
    },
    ReleasingLock {
        then: Step,
    },
    Pausing,
}

impl Baseline {
    pub(crate) fn new(
        strategy: Strategy,
        request: Request,
        cache: Cache,
        retry_until: Option<Timestamp>,
    ) -> Self {
        let record = cache.record.as_ref().map(|cached| cached.account.clone()).unwrap_or_default();
        let (state, tries, refused, locked) = (State::Pausing, 0, None, None);
        Self { strategy, request, cache, record, state, tries, refused, locked, retry_until }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn retry_until(&self) -> Option<Timestamp> {
        self.retry_until
    }

    pub(crate) fn look_up(cache: &Cache, request: &Request, cx: Context<'_>) -> Lookup {
        let pair = cache.record.as_ref().and_then(|cached| cached.account.pair.as_ref());
        let answer = pair
            .filter(|pair| is_usable(pair, request, cx))
            .and_then(|pair| Answer::from_pair(pair, cx.policy, cx.now, ServedFrom::Memory));
        answer.map_or(Lookup::Miss { early_refresh: false }, Lookup::Answer)
    }

    /// Begins the request, or starts over.
    pub(crate) fn begin(&mut self, cx: Context<'_>) -> Step {
        if self.strategy == Strategy::NoSharing {
            return self.try_to_renew(cx);
        }
        self.state = State::ReadingRecord;
        Step::Perform(Effect::ReadAccount)
    }

    pub(crate) fn step(&mut self, cx: Context<'_>, event: Event) -> Step {
        match (std::mem::replace(&mut self.state, State::Pausing), event) {
            (State::Pausing, Event::Resumed) => self.begin(cx),
            (State::ReadingRecord, Event::Account(Ok(record))) => {
                self.record = record;
                self.decide(cx)
            }
            (State::ReadingRecord, Event::Account(Err(_))) if self.strategy == Strategy::SharedCache => {
                self.record.pair = None;
                self.try_to_renew(cx)
            }
            (State::ReadingRecord, Event::Account(Err(_))) => {
                fail(Failure::StoreUnavailable { retry_after: protocol::STORE_RETRY })
            }
            (State::TakingLock { version }, Event::Written(WriteOutcome::Applied)) => {
                self.locked = Some(version);
                self.renew(cx)
            }
            (State::TakingLock { .. }, Event::Written(_)) => self.wait_for_lock(cx),
            (State::ReadingSecret, Event::Secret(Ok(secret))) => {
                self.send(cx, Call::Login(secret.clone()), Some(secret))
            }
            (State::ReadingSecret, Event::Secret(Err(_))) => {
                self.release_lock(cx, fail(Failure::SecretUnavailable))
            }
            (State::Calling { sent_at, secret }, Event::Replied(reply)) => match reply {
                UpstreamReply::Granted(granted) => self.save(cx, granted, sent_at, secret),
                UpstreamReply::Unauthorized | UpstreamReply::Refused => self.was_refused(cx, secret),
                UpstreamReply::RateLimited(retry_after) => {
                    let pause = retry_after.unwrap_or_default();
                    self.retry_until = retry_after.map(|span| cx.now.plus(span)).max(self.retry_until);
                    self.try_again(cx, Failure::UpstreamRateLimited { retry_after: pause }, retry_after)
                }
                _ => {
                    let retry_after = Duration::ZERO;
                    self.try_again(
                        cx,
                        Failure::UpstreamUnavailable {
                            fault: protocol::UpstreamFault::Unexpected,
                            retry_after,
                        },
                        None,
                    )
                }
            },
            // Another instance holds the lock by now, and keeps it.
            (State::Saving { pair }, Event::Written(WriteOutcome::Conflict)) => self.put(pair, ANY_VERSION),
            (State::Saving { pair }, Event::Written(_)) => answer(cx, &pair),
            (State::ReleasingLock { then }, Event::Written(_)) => self.go_on(then),
            _ => fail(Failure::Defect("an event does not answer the last effect")),
        }
    }

    fn decide(&mut self, cx: Context<'_>) -> Step {
        match self.record.pair.clone().filter(|pair| is_usable(pair, &self.request, cx)) {
            Some(pair) => {
                self.remember(cx);
                answer(cx, &pair)
            }
            None => self.try_to_renew(cx),
        }
    }

    /// Renews unless a 429 forbids it, under the lock if the strategy has one.
    fn try_to_renew(&mut self, cx: Context<'_>) -> Step {
        if let Some(until) = self.retry_until.filter(|until| *until > cx.now) {
            let limited = Failure::UpstreamRateLimited { retry_after: until.since(cx.now) };
            let then = self.pause_before_call(cx, until, limited);
            return self.go_on(then);
        }
        if self.strategy != Strategy::LockWithoutFence {
            return self.renew(cx);
        }
        if self.record.active_lease(cx.now).is_some() {
            return self.wait_for_lock(cx);
        }
        let expected = self.record.version;
        let lease = Lease { holder: Holder(cx.draw.0), until: cx.now.plus(cx.policy.lease) };
        let version = expected.next(cx.now);
        self.state = State::TakingLock { version };
        let next = Account { version, lease: Some(lease), ..Account::default() };
        Step::Perform(Effect::WriteAccount { expected, next })
    }

    fn wait_for_lock(&mut self, cx: Context<'_>) -> Step {
        let until = cx.now.plus(cx.draw.jittered(LOCK_POLL));
        if until > self.request.deadline {
            return fail(Failure::in_progress(until, cx.now));
        }
        self.go_on(Step::Perform(Effect::Pause { until }))
    }

    fn renew(&mut self, cx: Context<'_>) -> Step {
        let pair = self.record.pair.as_ref().filter(|pair| self.refused != Some(pair.generation));
        if let Some(Pair {
            refresh_token: Some(RefreshToken { token, expires_at, consumed: false, .. }),
            origin,
            ..
        }) = pair
            && expires_at.is_none_or(|at| at.minus(cx.policy.clock_margin) > cx.now)
        {
            let token = IssuedToken { token: token.clone(), origin: origin.clone() };
            let call = Call::Refresh(token, None);
            return self.send(cx, call, None);
        }
        self.state = State::ReadingSecret;
        Step::Perform(Effect::ReadSecret)
    }

    fn send(&mut self, cx: Context<'_>, call: Call, secret: Option<Credentials>) -> Step {
        if cx.now.plus(cx.policy.upstream_timeout) > self.request.deadline {
            return self.release_lock(cx, fail(Failure::TooLittleTime));
        }
        self.state = State::Calling { sent_at: cx.now, secret };
        Step::Perform(Effect::Send { call, not_after: self.request.deadline })
    }

    /// With a shared cache, another instance may have renewed the pair: reread it. With a lock, none can have.
    fn was_refused(&mut self, cx: Context<'_>, secret: Option<Credentials>) -> Step {
        if let Some(Credentials { version, .. }) = secret {
            return self.release_lock(cx, fail(Failure::CredentialsRejected(version)));
        }
        self.refused = self.record.generation();
        if self.strategy == Strategy::SharedCache {
            return self.begin(cx);
        }
        self.cache.record = None;
        self.renew(cx)
    }

    fn try_again(&mut self, cx: Context<'_>, failure: Failure, retry_after: Option<Duration>) -> Step {
        let backoff = cx.draw.jittered(FIRST_BACKOFF * 2_u32.pow(self.tries));
        let until = cx.now.plus(retry_after.unwrap_or(backoff));
        self.tries += 1;
        let gives_up = self.tries >= TRIES;
        let then = if gives_up { fail(failure) } else { self.pause_before_call(cx, until, failure) };
        self.release_lock(cx, then)
    }

    /// A pause that leaves time for a call, or the failure.
    fn pause_before_call(&self, cx: Context<'_>, until: Timestamp, failure: Failure) -> Step {
        let too_late = until.plus(cx.policy.upstream_timeout) > self.request.deadline;
        if too_late { fail(failure) } else { Step::Perform(Effect::Pause { until }) }
    }

    /// Releases the lock if this request holds it, and continues. The write is conditional on this request's version.
    fn release_lock(&mut self, cx: Context<'_>, then: Step) -> Step {
        let Some(expected) = self.locked.take() else { return self.go_on(then) };
        let next = Account { version: expected.next(cx.now), ..Account::default() };
        self.state = State::ReleasingLock { then };
        Step::Perform(Effect::WriteAccount { expected, next })
    }

    fn go_on(&mut self, then: Step) -> Step {
        self.state = State::Pausing;
        then
    }

    /// Saves the pair in any case, because it would be lost otherwise. The same write releases the lock if this request
    /// still holds it.
    fn save(
        &mut self,
        cx: Context<'_>,
        granted: TokenResponse,
        sent_at: Timestamp,
        secret: Option<Credentials>,
    ) -> Step {
        // The simulated upstream numbers its tokens.
        let generation = Generation(granted.access_token.expose().parse().unwrap_or_default());
        let renewal = secret.map_or(Renewal::Refresh(None), Renewal::Login);
        let pair = granted.into_pair(generation, sent_at, self.record.pair.as_ref(), renewal);
        let locked = self.locked.take();
        self.record = Account {
            version: locked.unwrap_or(self.record.version).next(cx.now),
            pair: Some(pair.clone()),
            ..Account::default()
        };
        self.remember(cx);
        if self.strategy == Strategy::NoSharing {
            return answer(cx, &pair);
        }
        self.put(pair, locked.unwrap_or(ANY_VERSION))
    }

    fn put(&mut self, pair: Pair, expected: Version) -> Step {
        self.state = State::Saving { pair };
        Step::Perform(Effect::WriteAccount { expected, next: self.record.clone() })
    }

    fn remember(&mut self, cx: Context<'_>) {
        self.cache.record = Some(CachedRecord {
            account: self.record.clone(),
            read_at: protocol::Moment::of_agreeing_clocks(cx.now),
            impossible_lease_seen: None,
        });
    }
}

/// A pair is usable with a minute left, or with half of a shorter lifetime, unless the API rejected it.
fn is_usable(pair: &Pair, request: &Request, cx: Context<'_>) -> bool {
    let Intent::Token { rejected, .. } = request.intent else { return false };
    cx.policy.usable(pair, SHORTEST_TTL, cx.now) && rejected != Some(pair.generation)
}

/// Hands out a pair, even if its life is shorter than requested.
fn answer(cx: Context<'_>, pair: &Pair) -> Step {
    let answer = Answer::from_pair(pair, cx.policy, cx.now, ServedFrom::Table);
    let nothing_left = Failure::UpstreamUnavailable {
        fault: protocol::UpstreamFault::Unexpected,
        retry_after: Duration::ZERO,
    };
    Step::Done(answer.map(Outcome::Token).ok_or(nothing_left))
}

fn fail(failure: Failure) -> Step {
    Step::Done(Err(failure))
}
