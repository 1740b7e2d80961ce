//! What happens to an effect in transit: latency, loss, delay, and replies that never arrive.

use crate::{
    SECOND,
    faults::Fault,
    plans::Incident,
    ports::Reply,
    process::TaskId,
    world::{InstanceId, Occurrence, World},
};
use protocol::{Call, Effect, Event, Unclear, UpstreamReply, WriteOutcome, millis};

/// The longest time that the client of DynamoDB tries.
const STORE_TIMEOUT_MS: u64 = 2_500;
/// The longest time that the client of Secrets Manager tries.
const SECRETS_TIMEOUT_MS: u64 = 4_000;

/// An effect in transit.
pub(crate) struct Message {
    pub(crate) account: usize,
    pub(crate) effect: Effect,
    /// Receives the reply. `None` after another event, or if the reply is lost.
    pub(crate) to: Option<ReplyTo>,
    /// If the reply is lost, that may cost a login.
    pub(crate) renews: bool,
}

/// The caller of an effect.
pub(crate) enum ReplyTo {
    Port { task: TaskId, reply: Reply },
    Baseline(InstanceId),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyFate {
    /// It arrives this much later.
    After(u64),
    /// It is lost. The instance gets another event.
    Lost,
    /// It is lost, and the client sends the request again. The reply to that arrives this much later.
    SentAgain(u64),
    /// The upstream answers 500.
    Error { after_ms: u64, carried_out: bool },
    /// The upstream answers 429, this much later.
    Limited(u64),
}

impl World {
    /// Sends an effect. Its reply is useless after `time_left_ms`.
    pub(crate) fn transmit(&mut self, mut message: Message, time_left_ms: u64) {
        match &message.effect {
            Effect::Send { call, .. } => {
                self.checks.call_is_sent(&self.store.accounts[message.account], call);
                self.refresh_token_leaves(message.account, call);
                self.send(message);
            }
            Effect::ReadSecret => {
                let (event, after_ms) = if self.faults.lasts(Fault::SecretsDown, self.now_ms) {
                    self.checks.lost(message.renews, &message.effect);
                    (without_reply(&message.effect), self.rng.u64(50..=SECRETS_TIMEOUT_MS))
                } else {
                    (Event::Secret(Ok(self.secrets.read(message.account))), self.rng.u64(10..60))
                };
                self.reply_after(after_ms, &mut message, event);
            }
            _ => self.send_to_store(message, time_left_ms),
        }
    }

    /// Replies to the caller. Only the first reply arrives.
    fn reply_after(&mut self, span_ms: u64, message: &mut Message, event: Event) {
        if let Some(to) = message.to.take() {
            self.after(span_ms, Occurrence::Reply { to, event });
        }
    }

    fn send_to_store(&mut self, mut message: Message, time_left_ms: u64) {
        match &message.effect {
            Effect::ReadAccount | Effect::ReadLimiter(_) => self.checks.figures.reads += 1,
            _ => self.checks.figures.writes += 1,
        }
        let (renews, now_ms) = (message.renews, self.now_ms);
        let writes = matches!(message.effect, Effect::WriteAccount { .. } | Effect::WriteLimiter { .. });
        let forbidden = writes && self.faults.lasts(Fault::StoreWritesDown, now_ms);
        let refused = forbidden
            || self.faults.lasts(Fault::StoreDown, now_ms)
            || self.faults.strikes(Fault::StoreThrottles, 2, now_ms, &mut self.rng);
        let (there_ms, back_ms) = (self.latency_ms(), self.latency_ms());
        let slow = self.faults.lasts(Fault::LimiterSlow, now_ms)
            && matches!(message.effect, Effect::WriteLimiter { .. });
        let there_ms = if slow { self.rng.u64(2_100..3_000) } else { there_ms };
        let give_up_ms = STORE_TIMEOUT_MS.min(time_left_ms);
        if refused {
            // A missing permission is refused at once, and a lease that was not taken costs nothing. Otherwise the
            // client retries for a while.
            let takes_lease =
                matches!(&message.effect, Effect::WriteAccount { next, .. } if next.lease.is_some());
            if !(forbidden && takes_lease) {
                self.checks.lost(renews, &message.effect);
            }
            let longest_ms = if forbidden { 100 } else { STORE_TIMEOUT_MS };
            let after_ms = self.rng.u64(20..=longest_ms).min(time_left_ms);
            let event = without_reply(&message.effect);
            return self.reply_after(after_ms, &mut message, event);
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
        // The client gives up a slow request. Otherwise it waits as long as its caller.
        let patience_ms = if slow { give_up_ms } else { time_left_ms };
        let returns = match reply {
            ReplyFate::After(back_ms) | ReplyFate::SentAgain(back_ms) => there_ms + back_ms <= patience_ms,
            _ => false,
        };
        if !returns {
            self.checks.lost(renews, &message.effect);
            let event = without_reply(&message.effect);
            self.reply_after(give_up_ms, &mut message, event);
        }
        self.after(there_ms, Occurrence::Delivery(Box::new(message), reply));
    }

    fn send(&mut self, mut message: Message) {
        let (now_ms, timeout_ms) = (self.now_ms, millis(self.policy.upstream_timeout));
        let (there_ms, back_ms) = (self.rng.u64(10..150), self.rng.u64(50..800));
        let mut faulty = true;
        let (there_ms, reply) = if self.faults.lasts(Fault::UpstreamUnreachable, now_ms) {
            let after_ms = self.rng.u64(5..=2 * SECOND);
            self.checks.lost(true, &message.effect);
            let event = Event::Replied(UpstreamReply::NeverLeft);
            return self.reply_after(after_ms, &mut message, event);
        } else if self.faults.lasts(Fault::UpstreamHangs, now_ms) {
            // The kernel may deliver it for that long again after the call was given up.
            (self.rng.u64(..2 * timeout_ms), ReplyFate::Lost)
        } else if self.faults.lasts(Fault::UpstreamLosesReplies, now_ms) {
            (there_ms, ReplyFate::Lost)
        } else if self.faults.lasts(Fault::UpstreamFails, now_ms) {
            (there_ms, ReplyFate::Error { after_ms: back_ms, carried_out: self.rng.u8(..4) == 0 })
        } else if self.faults.lasts(Fault::UpstreamLimits, now_ms) {
            (there_ms, ReplyFate::Limited(back_ms))
        } else if self.faults.strikes(Fault::UpstreamFlaky, 4, now_ms, &mut self.rng) {
            match self.rng.u8(..5) {
                0 => (there_ms, ReplyFate::Lost),
                1 => (self.rng.u64(..2 * timeout_ms), ReplyFate::Lost),
                2 => (there_ms, ReplyFate::Error { after_ms: back_ms, carried_out: true }),
                3 => (there_ms, ReplyFate::Error { after_ms: back_ms, carried_out: false }),
                _ => {
                    self.copy(&message);
                    (there_ms, ReplyFate::After(back_ms))
                }
            }
        } else {
            faulty = false;
            (there_ms, ReplyFate::After(back_ms))
        };
        if faulty {
            self.checks.lost(true, &message.effect);
        }
        if reply == ReplyFate::Lost {
            let unclear = if self.faults.strikes(Fault::UpstreamFlaky, 2, now_ms, &mut self.rng) {
                UpstreamReply::Unclear(Unclear::NoResponse)
            } else {
                UpstreamReply::UNEXPECTED
            };
            self.reply_after(timeout_ms, &mut message, Event::Replied(unclear));
        }
        self.after(there_ms, Occurrence::Delivery(Box::new(message), reply));
    }

    /// The network delivers a call once more.
    fn copy(&mut self, message: &Message) {
        let Message { account, ref effect, renews, .. } = *message;
        if let Effect::Send { call, .. } = effect {
            self.call_is_copied(call);
        }
        let copy = Message { account, effect: effect.clone(), to: None, renews };
        let after_ms = self.rng.u64(..2 * millis(self.policy.upstream_timeout));
        self.after(after_ms, Occurrence::Delivery(Box::new(copy), ReplyFate::Lost));
    }

    /// A message arrives at the store or the upstream.
    pub(crate) fn deliver(&mut self, mut message: Message, reply: ReplyFate) {
        let account = message.account;
        if let Effect::Send { call, .. } = &message.effect {
            let answer = self.answer_call(account, call, reply);
            if let ReplyFate::After(back_ms)
            | ReplyFate::Error { after_ms: back_ms, .. }
            | ReplyFate::Limited(back_ms) = reply
            {
                self.reply_after(back_ms, &mut message, Event::Replied(answer));
            }
            return;
        }
        let mut event = self.carry_out(account, &message.effect);
        if let ReplyFate::SentAgain(_) = reply {
            event = self.store.carry_out(account, &message.effect);
        }
        if let ReplyFate::After(back_ms) | ReplyFate::SentAgain(back_ms) = reply {
            self.reply_after(back_ms, &mut message, event);
        }
    }

    fn carry_out(&mut self, account: usize, effect: &Effect) -> Event {
        let event = self.store.carry_out(account, effect);
        match (effect, &event) {
            (Effect::WriteLimiter { next, .. }, Event::Written(WriteOutcome::Applied)) => {
                self.checks.permits_are_written(account, next, self.now_ms);
            }
            (_, Event::Written(WriteOutcome::Conflict)) => self.checks.write_conflicts(account),
            (Effect::WriteAccount { next, .. }, Event::Written(WriteOutcome::Applied)) => {
                self.grant_is_written(account, next);
                if self.checks.record_is_written(account, &self.store.accounts[account]) {
                    self.pair_saved(account);
                }
            }
            _ => {}
        }
        event
    }

    fn answer_call(&mut self, account: usize, call: &Call, fate: ReplyFate) -> UpstreamReply {
        let reply = self.reply_to(account, call, fate);
        if let UpstreamReply::Granted(_) = reply {
            self.checks.pair_issued(account, self.now_ms);
        }
        self.checks.tally.limited += u64::from(matches!(reply, UpstreamReply::RateLimited(_)));
        self.checks.tally.needless_logins = self.upstream.needless_logins;
        reply
    }

    fn reply_to(&mut self, account: usize, call: &Call, fate: ReplyFate) -> UpstreamReply {
        let now_ms = self.now_ms;
        let again = self.upstream.receive_refresh_token(call);
        self.checks.refresh_token_arrives(again && self.plan.grace_ms.is_none(), now_ms);
        self.checks.call_arrives(account, call, now_ms);
        let used_up = self.faults.lasts(Fault::Neighbour, now_ms) && matches!(call, Call::Login(_));
        if used_up || matches!(fate, ReplyFate::Limited(_)) {
            self.checks.tally.losses += u64::from(used_up);
            return self.upstream.limit(call, &mut self.rng);
        }
        match call {
            // The upstream refuses the login on arrival. It costs another one later.
            Call::Login(_) if self.faults.lasts(Fault::LoginsForbidden, now_ms) => {
                self.checks.tally.losses += 1;
                return UpstreamReply::Refused;
            }
            Call::Probe(_) if self.faults.lasts(Fault::Lies, now_ms) => {
                return UpstreamReply::Unauthorized;
            }
            _ => {}
        }
        let hangs = fate == ReplyFate::Lost && self.faults.lasts(Fault::UpstreamHangs, now_ms);
        let dropped = hangs && self.rng.bool();
        if dropped || matches!(fate, ReplyFate::Error { carried_out: false, .. }) {
            return UpstreamReply::UNEXPECTED;
        }
        let reply = self.upstream.carry_out(call, now_ms, &self.secrets, &mut self.rng);
        if let Some((token, successor)) = self.upstream.ended_by.take() {
            self.grant_ends(token, successor);
        }
        let logged_in = matches!((call, &reply), (Call::Login(_), UpstreamReply::Granted(_)));
        if logged_in && account == 0 && self.faults.lasts(Fault::Rival, now_ms) {
            // Its session is ended by ours, so it logs in again.
            let after_ms = self.rng.u64(SECOND..30 * SECOND);
            self.after(after_ms, Occurrence::Incident(Incident::RivalLogsIn));
        }
        if let ReplyFate::Error { .. } = fate { UpstreamReply::UNEXPECTED } else { reply }
    }

    /// A few milliseconds one way, in rare cases a few hundred.
    pub(crate) fn latency_ms(&mut self) -> u64 {
        if self.rng.u8(..200) == 0 { self.rng.u64(50..300) } else { self.rng.u64(1..=6) }
    }
}

/// The event for an effect whose reply never arrives.
fn without_reply(effect: &Effect) -> Event {
    effect.without_reply().unwrap_or_else(|| panic!("{} has no such event", effect.name()))
}
