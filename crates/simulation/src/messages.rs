//! What happens to an effect on its way: latency, loss, delay, and replies that never come.

use crate::{
    SECOND,
    faults::Fault,
    world::{InstanceId, Occurrence, World},
};
use protocol::{Call, Effect, Event, SecretError, StoreError, UpstreamReply, WriteOutcome, millis};

/// The longest time that the client of DynamoDB tries.
const STORE_TIMEOUT_MS: u64 = 2_500;
/// The longest time that the client of Secrets Manager tries.
const SECRETS_TIMEOUT_MS: u64 = 4_000;

/// An effect on its way, and the fate of its reply.
pub(crate) struct Message {
    id: InstanceId,
    account: usize,
    effect: Effect,
    reply: ReplyFate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyFate {
    /// It arrives this much later.
    After(u64),
    /// It is lost. The instance gets another event.
    Lost,
    /// It is lost, and the client sends the request once more. The reply to that arrives this much later.
    SentAgain(u64),
    /// The upstream answers 500.
    Error { after_ms: u64, carried_out: bool },
    /// The upstream answers 429, this much later.
    Limited(u64),
}

impl World {
    /// Performs an effect of an instance, as the function does.
    pub(crate) fn perform(&mut self, id: InstanceId, effect: Effect) {
        let instance = &self.instances[id.index];
        let invocation = instance.invocation.as_ref().filter(|_| instance.life == id.life);
        let Some(invocation) = invocation else { return };
        let (account, renews) = (invocation.account, invocation.renews);
        let deadline_ms = invocation.deadline_ms;
        match &effect {
            Effect::Pause { until } => {
                let at_ms = instance.true_ms(*until).max(self.now_ms);
                self.at(at_ms, Occurrence::Reply { id, event: Event::Resumed });
            }
            Effect::Send { call, not_after } if instance.clock(self.now_ms) <= *not_after => {
                self.checks.call_is_sent(&self.store.accounts[account], call);
                self.send(Message { id, account, effect, reply: ReplyFate::Lost });
            }
            Effect::Send { .. } => {
                let event = Event::Replied(UpstreamReply::TooLate);
                self.after(0, Occurrence::Reply { id, event });
            }
            Effect::ReadSecret => {
                let (event, after_ms) = if self.faults.lasts(Fault::SecretsDown, self.now_ms) {
                    self.checks.lost(renews, &effect);
                    (without_reply(&effect), self.rng.u64(50..=SECRETS_TIMEOUT_MS))
                } else {
                    (Event::Secret(Ok(self.secrets.read(account))), self.rng.u64(10..60))
                };
                self.after(after_ms, Occurrence::Reply { id, event });
            }
            Effect::ReadAccount
            | Effect::WriteAccount { .. }
            | Effect::ReadLimiter
            | Effect::WriteLimiter { .. } => {
                let message = Message { id, account, effect, reply: ReplyFate::Lost };
                self.send_to_store(message, renews, deadline_ms);
            }
        }
    }

    fn send_to_store(&mut self, message: Message, renews: bool, deadline_ms: u64) {
        match &message.effect {
            Effect::ReadAccount | Effect::ReadLimiter => self.checks.figures.reads += 1,
            _ => self.checks.figures.writes += 1,
        }
        let (id, now_ms) = (message.id, self.now_ms);
        let refused = self.faults.lasts(Fault::StoreDown, now_ms)
            || self.faults.strikes(Fault::StoreThrottles, 2, now_ms, &mut self.rng);
        let (there_ms, back_ms) = (self.latency_ms(), self.latency_ms());
        let time_left_ms = deadline_ms.saturating_sub(now_ms);
        let give_up_ms = STORE_TIMEOUT_MS.min(time_left_ms);
        if refused {
            self.checks.lost(renews, &message.effect);
            let after_ms = self.rng.u64(20..=STORE_TIMEOUT_MS).min(time_left_ms);
            let event = without_reply(&message.effect);
            return self.after(after_ms, Occurrence::Reply { id, event });
        }
        let (there_ms, reply) = match self.rng.u8(..20) {
            _ if !self.faults.lasts(Fault::StoreLosesReplies, now_ms) => {
                (there_ms, ReplyFate::After(back_ms))
            }
            0..=4 => (there_ms, ReplyFate::Lost),
            5..=6 => (self.rng.u64(STORE_TIMEOUT_MS..20 * SECOND), ReplyFate::Lost),
            7..=8 => (there_ms, ReplyFate::SentAgain(SECOND + back_ms)),
            _ => (there_ms, ReplyFate::After(back_ms)),
        };
        let returns_ms = match reply {
            ReplyFate::After(back_ms) | ReplyFate::SentAgain(back_ms) => there_ms + back_ms,
            _ => u64::MAX,
        };
        let reply = if returns_ms <= time_left_ms {
            reply
        } else {
            self.checks.lost(renews, &message.effect);
            let event = without_reply(&message.effect);
            self.after(give_up_ms, Occurrence::Reply { id, event });
            ReplyFate::Lost
        };
        self.after(there_ms, Occurrence::Delivery(Box::new(Message { reply, ..message })));
    }

    fn send(&mut self, message: Message) {
        let (id, now_ms, timeout_ms) = (message.id, self.now_ms, millis(self.policy.upstream_timeout));
        let (there_ms, back_ms) = (self.rng.u64(10..150), self.rng.u64(50..800));
        let mut faulty = true;
        let (there_ms, reply) = if self.faults.lasts(Fault::UpstreamUnreachable, now_ms) {
            let after_ms = self.rng.u64(5..=2 * SECOND);
            self.checks.lost(true, &message.effect);
            let event = Event::Replied(UpstreamReply::NeverLeft);
            return self.after(after_ms, Occurrence::Reply { id, event });
        } else if self.faults.lasts(Fault::UpstreamHangs, now_ms) {
            // The kernel may deliver it as long again after the call was given up.
            (self.rng.u64(..2 * timeout_ms), ReplyFate::Lost)
        } else if self.faults.lasts(Fault::UpstreamLosesReplies, now_ms) {
            (there_ms, ReplyFate::Lost)
        } else if self.faults.lasts(Fault::UpstreamFails, now_ms) {
            (there_ms, ReplyFate::Error { after_ms: back_ms, carried_out: self.rng.u8(..4) == 0 })
        } else if self.faults.lasts(Fault::UpstreamLimits, now_ms) {
            (there_ms, ReplyFate::Limited(back_ms))
        } else {
            faulty = false;
            (there_ms, ReplyFate::After(back_ms))
        };
        if faulty {
            self.checks.lost(true, &message.effect);
        }
        if reply == ReplyFate::Lost {
            let event = Event::Replied(UpstreamReply::Unclear);
            self.after(timeout_ms, Occurrence::Reply { id, event });
        }
        self.after(there_ms, Occurrence::Delivery(Box::new(Message { reply, ..message })));
    }

    /// A message arrives at the store or the upstream.
    pub(crate) fn deliver(&mut self, message: Message) {
        let Message { id, account, effect, reply } = message;
        if let Effect::Send { call, .. } = &effect {
            let answer = self.answer_call(account, call, reply);
            if let ReplyFate::After(back_ms)
            | ReplyFate::Error { after_ms: back_ms, .. }
            | ReplyFate::Limited(back_ms) = reply
            {
                self.after(back_ms, Occurrence::Reply { id, event: Event::Replied(answer) });
            }
            return;
        }
        let mut event = self.carry_out(account, &effect);
        if let ReplyFate::SentAgain(_) = reply {
            event = self.store.carry_out(account, &effect);
        }
        if let ReplyFate::After(back_ms) | ReplyFate::SentAgain(back_ms) = reply {
            self.after(back_ms, Occurrence::Reply { id, event });
        }
    }

    fn carry_out(&mut self, account: usize, effect: &Effect) -> Event {
        let event = self.store.carry_out(account, effect);
        match (effect, &event) {
            (_, Event::Written(WriteOutcome::Conflict)) => self.checks.write_conflicts(account),
            (Effect::WriteAccount { .. }, Event::Written(WriteOutcome::Applied))
                if self.checks.record_is_written(account, &self.store.accounts[account]) =>
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
        let again = self.upstream.receive_refresh_token(call);
        self.checks.refresh_token_arrives(again, now_ms);
        self.checks.call_arrives(account, call, now_ms);
        let used_up = self.faults.lasts(Fault::Neighbour, now_ms) && matches!(call, Call::Login(_));
        if used_up || matches!(fate, ReplyFate::Limited(_)) {
            self.checks.tally.losses += u64::from(used_up);
            return self.upstream.limit(call, &mut self.rng);
        }
        let hangs = fate == ReplyFate::Lost && self.faults.lasts(Fault::UpstreamHangs, now_ms);
        let dropped = hangs && self.rng.bool();
        if dropped || matches!(fate, ReplyFate::Error { carried_out: false, .. }) {
            return UpstreamReply::Unclear;
        }
        let reply = self.upstream.carry_out(call, now_ms, &self.secrets, &mut self.rng);
        if let ReplyFate::Error { .. } = fate { UpstreamReply::Unclear } else { reply }
    }

    /// A few milliseconds one way, in rare cases a few hundred.
    fn latency_ms(&mut self) -> u64 {
        if self.rng.u8(..200) == 0 { self.rng.u64(50..300) } else { self.rng.u64(1..=6) }
    }
}

/// The event of an effect whose reply does not come.
fn without_reply(effect: &Effect) -> Event {
    match effect {
        Effect::ReadAccount => Event::Account(Err(StoreError::Unreachable)),
        Effect::ReadLimiter => Event::Limiter(Err(StoreError::Unreachable)),
        Effect::ReadSecret => Event::Secret(Err(SecretError::Unreachable)),
        _ => Event::Written(WriteOutcome::Unknown),
    }
}
