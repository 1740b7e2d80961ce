//! What happens to an effect on its way: latency, loss, delay, and replies that never come.

use super::{
    faults::Fault,
    plans::SECOND,
    world::{Address, What, World},
};
use protocol::{Effect, Event, SecretError, StoreError, WriteOutcome, Call, UpstreamReply, millis};

/// The longest that the clients of DynamoDB and Secrets Manager try.
const STORE_TIMEOUT_MS: u64 = 2_500;
const SECRETS_TIMEOUT_MS: u64 = 4_000;

/// An effect under way, and how its reply fares.
pub struct Message {
    who: Address,
    account: usize,
    effect: Effect,
    reply: ReplyFate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyFate {
    /// It arrives so much later.
    After(u64),
    /// It is lost; whoever waits for it is told something else.
    Lost,
    /// It is lost, and the client itself sends the same once more; so long later the reply to that arrives.
    SentAgain(u64),
    /// The upstream answers 500 instead, whether or not it has carried out what was asked.
    Error { after_ms: u64, carried_out: bool },
    /// The upstream answers 429.
    Limited(u64),
}

impl World {
    /// Performs an effect of an instance, as the shell does.
    pub fn perform(&mut self, who: Address, effect: Effect) {
        let instance = &self.instances[who.index];
        let Some(job) = instance.job.as_ref().filter(|_| instance.life == who.life) else { return };
        let (account, renews, deadline_ms) = (job.account, job.renews, job.deadline_ms);
        match &effect {
            Effect::Pause { until } => {
                let at_ms = instance.true_ms(*until).max(self.now_ms);
                self.at(at_ms, What::Returns { who, event: Event::Resumed });
            }
            Effect::Send { call, not_after } if instance.clock(self.now_ms) <= *not_after => {
                self.checks.call_leaves(&self.store.accounts[account], call);
                self.send(Message { who, account, effect, reply: ReplyFate::Lost });
            }
            Effect::Send { .. } => {
                self.after(0, What::Returns { who, event: Event::Replied(UpstreamReply::TooLate) });
            }
            Effect::ReadSecret => {
                let down = self.faults.is(Fault::SecretsDown, self.now_ms);
                let (event, after_ms) = if down {
                    self.checks.lost(renews, &effect);
                    (given_up(&effect), self.rng.u64(50..=SECRETS_TIMEOUT_MS))
                } else {
                    (Event::Secret(Ok(self.secrets.read(account))), self.rng.u64(10..60))
                };
                self.after(after_ms, What::Returns { who, event });
            }
            _ => self.ask_store(Message { who, account, effect, reply: ReplyFate::Lost }, renews, deadline_ms),
        }
    }

    fn ask_store(&mut self, message: Message, renews: bool, deadline_ms: u64) {
        match &message.effect {
            Effect::ReadAccount | Effect::ReadLimiter => self.checks.figures.reads += 1,
            _ => self.checks.figures.writes += 1,
        }
        let now_ms = self.now_ms;
        let refused = self.faults.is(Fault::StoreDown, now_ms)
            || self.faults.strikes(Fault::StoreThrottles, 2, now_ms, &mut self.rng);
        let (there_ms, back_ms) = (self.latency_ms(), self.latency_ms());
        let caller_left_ms = deadline_ms.saturating_sub(now_ms);
        let give_up_ms = STORE_TIMEOUT_MS.min(caller_left_ms);
        let who = message.who;
        if refused {
            self.checks.lost(renews, &message.effect);
            let after_ms = self.rng.u64(20..=STORE_TIMEOUT_MS).min(caller_left_ms);
            return self.after(after_ms, What::Returns { who, event: given_up(&message.effect) });
        }
        let (there_ms, reply) = match self.rng.u8(..20) {
            _ if !self.faults.is(Fault::StoreLosesReplies, now_ms) => (there_ms, ReplyFate::After(back_ms)),
            0..=4 => (there_ms, ReplyFate::Lost),
            5..=6 => (self.rng.u64(STORE_TIMEOUT_MS..20 * SECOND), ReplyFate::Lost),
            7..=8 => (there_ms, ReplyFate::SentAgain(SECOND + back_ms)),
            _ => (there_ms, ReplyFate::After(back_ms)),
        };
        let returns_ms = match reply {
            ReplyFate::After(back_ms) | ReplyFate::SentAgain(back_ms) => there_ms + back_ms,
            _ => u64::MAX,
        };
        let reply = if returns_ms <= caller_left_ms {
            reply
        } else {
            self.checks.lost(renews, &message.effect);
            self.after(give_up_ms, What::Returns { who, event: given_up(&message.effect) });
            ReplyFate::Lost
        };
        self.after(there_ms, What::Reaches(Box::new(Message { reply, ..message })));
    }

    fn send(&mut self, message: Message) {
        let (now_ms, timeout_ms) = (self.now_ms, millis(self.policy.upstream_timeout));
        let (there_ms, back_ms) = (self.rng.u64(10..150), self.rng.u64(50..800));
        let who = message.who;
        let mut faulty = true;
        let (there_ms, reply) = if self.faults.is(Fault::UpstreamUnreachable, now_ms) {
            let after_ms = self.rng.u64(5..=2 * SECOND);
            self.checks.lost(true, &message.effect);
            return self.after(after_ms, What::Returns { who, event: Event::Replied(UpstreamReply::NeverLeft) });
        } else if self.faults.is(Fault::UpstreamHangs, now_ms) {
            // As late as the kernel may deliver it after the call was given up.
            (self.rng.u64(..2 * timeout_ms), ReplyFate::Lost)
        } else if self.faults.is(Fault::UpstreamLosesReplies, now_ms) {
            (there_ms, ReplyFate::Lost)
        } else if self.faults.is(Fault::UpstreamFails, now_ms) {
            (there_ms, ReplyFate::Error { after_ms: back_ms, carried_out: self.rng.u8(..4) == 0 })
        } else if self.faults.is(Fault::UpstreamLimits, now_ms) {
            (there_ms, ReplyFate::Limited(back_ms))
        } else {
            faulty = false;
            (there_ms, ReplyFate::After(back_ms))
        };
        if faulty {
            self.checks.lost(true, &message.effect);
        }
        if reply == ReplyFate::Lost {
            self.after(timeout_ms, What::Returns { who, event: Event::Replied(UpstreamReply::Unclear) });
        }
        self.after(there_ms, What::Reaches(Box::new(Message { reply, ..message })));
    }

    /// A message has arrived where it was sent to.
    pub fn deliver(&mut self, message: Message) {
        let Message { who, account, effect, reply } = message;
        if let Effect::Send { call, .. } = &effect {
            let answer = self.answer_call(account, call, reply);
            if let ReplyFate::After(back_ms)
            | ReplyFate::Error { after_ms: back_ms, .. }
            | ReplyFate::Limited(back_ms) = reply
            {
                self.after(back_ms, What::Returns { who, event: Event::Replied(answer) });
            }
            return;
        }
        let mut event = self.carry_out(account, &effect);
        if let ReplyFate::SentAgain(_) = reply {
            event = self.store.carry_out(account, &effect);
        }
        if let ReplyFate::After(back_ms) | ReplyFate::SentAgain(back_ms) = reply {
            self.after(back_ms, What::Returns { who, event });
        }
    }

    fn carry_out(&mut self, account: usize, effect: &Effect) -> Event {
        let event = self.store.carry_out(account, effect);
        match (effect, &event) {
            (_, Event::Written(WriteOutcome::Conflict)) => self.checks.write_conflicted(account),
            (Effect::WriteAccount { .. }, Event::Written(WriteOutcome::Applied))
                if self.checks.record_written(account, &self.store.accounts[account]) =>
            {
                self.pair_saved(account);
            }
            _ => {}
        }
        event
    }

    fn answer_call(&mut self, account: usize, call: &Call, fate: ReplyFate) -> UpstreamReply {
        let reply = self.reply_to(account, call, fate);
        self.checks.tally.limited += u64::from(matches!(reply, UpstreamReply::RateLimited(_)));
        self.checks.tally.needless_logins = self.upstream.needless_logins;
        reply
    }

    fn reply_to(&mut self, account: usize, call: &Call, fate: ReplyFate) -> UpstreamReply {
        let now_ms = self.now_ms;
        let again = self.upstream.arrives_again(call);
        self.checks.arrives_again(again, now_ms);
        self.checks.call_arrives(account, call, now_ms);
        let crowded = self.faults.is(Fault::Neighbour, now_ms) && matches!(call, Call::Login(_));
        if crowded || matches!(fate, ReplyFate::Limited(_)) {
            self.checks.tally.losses += u64::from(crowded);
            return self.upstream.limit(call, &mut self.rng);
        }
        let hangs = fate == ReplyFate::Lost && self.faults.is(Fault::UpstreamHangs, now_ms);
        let dropped = hangs && self.rng.bool();
        if dropped || matches!(fate, ReplyFate::Error { carried_out: false, .. }) {
            return UpstreamReply::Unclear;
        }
        let reply = self.upstream.carry_out(call, now_ms, &self.secrets, &mut self.rng);
        if let ReplyFate::Error { .. } = fate { UpstreamReply::Unclear } else { reply }
    }

    /// A few milliseconds each way, and now and then a few hundred.
    fn latency_ms(&mut self) -> u64 {
        if self.rng.u8(..200) == 0 { self.rng.u64(50..300) } else { self.rng.u64(1..=6) }
    }
}

/// What whoever waits is told when nothing comes.
fn given_up(effect: &Effect) -> Event {
    match effect {
        Effect::ReadAccount => Event::Account(Err(StoreError::Unreachable)),
        Effect::ReadLimiter => Event::Limiter(Err(StoreError::Unreachable)),
        Effect::ReadSecret => Event::Secret(Err(SecretError::Unreachable)),
        _ => Event::Written(WriteOutcome::Unknown),
    }
}
