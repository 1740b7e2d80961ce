//! Performs effects, with every possible fault.

use crate::{
    model::Fleet,
    server::number_of,
    setting::GRACE,
    world::{LateCall, Sent, World, credentials},
};
use token_broker_protocol::{
    Call, Effect, Event, NewRefreshToken, SecretError, SecretVersion, StoreError, Unclear, UpstreamReply,
    WriteOutcome,
};

/// How an effect is performed. All except the first are faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is carried out, and the reply arrives.
    Normal,
    /// It is carried out, and the reply is lost.
    ReplyLost,
    /// It may arrive later, or never, and the reply is lost.
    Late,
    /// It is not carried out: the connection failed, or the table did not answer.
    Failed,
    /// It is carried out, and an intermediary answers 5xx.
    CarriedOutAnd5xx,
    /// An intermediary answers 5xx, and the call may arrive later, or never.
    LateAnd5xx,
    RateLimited,
    /// `invalid_client`, or 403.
    ClientRefused,
    /// It is carried out, and an intermediary answers 400 without a code.
    RefusedWithoutCode,
}

impl Fleet {
    /// How the effect that an instance waits for may be performed.
    pub(crate) fn fates(&self, world: &World, who: usize) -> &'static [Fate] {
        use Fate::{
            CarriedOutAnd5xx, ClientRefused, Failed, Late, LateAnd5xx, Normal, RateLimited,
            RefusedWithoutCode, ReplyLost,
        };
        let Some(running) = &world.instances[who].running else { return &[] };
        if self.costs_a_pause(world, who) && world.pauses_left == 0 {
            return &[];
        }
        if world.faults_left == 0 {
            return &[Normal];
        }
        match &running.effect {
            Effect::ReadAccount | Effect::ReadSecret if self.setting.table_fails => &[Normal, Failed],
            Effect::WriteAccount { .. } if self.setting.table_fails => match world.instances[who].delayed {
                Some(_) => &[Normal, ReplyLost, Failed],
                None => &[Normal, ReplyLost, Late],
            },
            Effect::Send { not_after, .. } if world.clock(&self.setting, who) > *not_after => &[Normal],
            Effect::Send { call: Call::Refresh(..), .. } => &[
                Normal,
                ReplyLost,
                Late,
                Failed,
                CarriedOutAnd5xx,
                LateAnd5xx,
                RateLimited,
                ClientRefused,
                RefusedWithoutCode,
            ],
            _ => &[Normal],
        }
    }

    /// Performs the effect that an instance waits for, and returns the event.
    pub(crate) fn perform(&self, world: &mut World, who: usize, fate: Fate) -> Event {
        let running = world.instances[who].running.as_ref().expect("a request");
        match running.effect.clone() {
            Effect::ReadAccount if fate == Fate::Failed => Event::Account(Err(StoreError::Unreachable)),
            Effect::ReadAccount => Event::Account(Ok(self.altered_read(world))),
            Effect::ReadLimiter(_) => Event::Limiter(Ok(world.limiter.clone())),
            Effect::ReadSecret if fate == Fate::Failed => Event::Secret(Err(SecretError::Unreachable)),
            Effect::ReadSecret => Event::Secret(Ok(credentials(&self.setting, world.secret))),
            Effect::WriteLimiter { next, .. } => {
                world.limiter = next;
                Event::Written(WriteOutcome::Applied)
            }
            effect @ Effect::WriteAccount { .. } => Event::Written(self.write(world, who, effect, fate)),
            Effect::Send { not_after, .. } if world.clock(&self.setting, who) > not_after => {
                Event::Replied(UpstreamReply::TooLate)
            }
            Effect::Send { call: Call::Refresh(token, _), .. } => {
                let reply = self.refresh(world, who, number_of(&token.token), fate);
                Event::Replied(reply)
            }
            Effect::Send { call: Call::Revoke(..), .. } => {
                let is_confirmed = world.is_revoked;
                world.demand(is_confirmed, "no token is revoked without a request");
                Event::Replied(UpstreamReply::Revoked)
            }
            Effect::Send { .. } => unreachable!("a grant is neither logged in to nor probed"),
            Effect::Pause { until } => {
                world.pass_until(self.end_of_pause(world, who, until));
                Event::Resumed
            }
        }
    }

    fn write(&self, world: &mut World, who: usize, effect: Effect, fate: Fate) -> WriteOutcome {
        if fate == Fate::Late {
            world.instances[who].delayed = Some(effect);
            return WriteOutcome::Unknown;
        }
        let applied = fate != Fate::Failed && self.apply(world, &effect);
        match (fate, applied) {
            (Fate::Normal, true) => WriteOutcome::Applied,
            (Fate::Normal, false) => WriteOutcome::Conflict,
            _ => WriteOutcome::Unknown,
        }
    }

    /// A write arrives. Returns whether it was applied.
    pub(crate) fn apply(&self, world: &mut World, write: &Effect) -> bool {
        let Effect::WriteAccount { expected, next } = write else { return false };
        if world.record.version != *expected {
            return false;
        }
        self.check_write(world, next);
        world.record = next.clone();
        true
    }

    fn refresh(&self, world: &mut World, who: usize, token: usize, fate: Fate) -> UpstreamReply {
        if fate == Fate::Failed {
            return UpstreamReply::NeverLeft;
        }
        let version = SecretVersion(world.secret.to_string());
        self.check_send(world, token, &version);
        let right_client = self.setting.secrets[world.secret - 1].right_client;
        match fate {
            Fate::RateLimited => return UpstreamReply::RateLimited(None),
            Fate::ClientRefused => return UpstreamReply::ClientRefused,
            _ => {}
        }
        let until = world.now.plus(self.travel());
        let settled_at = self.settled_at(world, who);
        let sent = Sent { token, at: world.now, until, settled_at, brought: None, refused: None };
        if matches!(fate, Fate::Late | Fate::LateAnd5xx) {
            world.late.push(LateCall { token, right_client, until });
            world.sends.push(sent);
            return if fate == Fate::Late { NO_RESPONSE } else { UpstreamReply::UNEXPECTED };
        }
        let reply = self.arrive(world, token, right_client);
        if fate == Fate::Normal {
            match &reply {
                // (iii): the server returned the same token, or no successor.
                UpstreamReply::Granted(granted) if granted.refresh_token == NewRefreshToken::Absent => {
                    world.sends.retain(|earlier| earlier.token != token);
                }
                UpstreamReply::Granted(granted) => {
                    let brought = Some(number_of(&granted.access_token));
                    world.sends.push(Sent { brought, ..sent });
                }
                _ => world.sends.push(Sent { refused: Some(version), ..sent }),
            }
            return reply;
        }
        world.sends.push(sent);
        if matches!(reply, UpstreamReply::Granted(_)) {
            world.lose(token);
        }
        match fate {
            // It asks for a pause that outlasts the grace period.
            Fate::CarriedOutAnd5xx => {
                UpstreamReply::Unclear(Unclear::Unexpected { retry_after: Some(GRACE * 2) })
            }
            Fate::RefusedWithoutCode => UpstreamReply::Refused,
            _ => NO_RESPONSE,
        }
    }

    /// A call arrives at the server.
    pub(crate) fn arrive(&self, world: &mut World, token: usize, right_client: bool) -> UpstreamReply {
        if !right_client {
            return UpstreamReply::Unauthorized;
        }
        let family = world.server.refresh_tokens[token].family;
        let lived = world.server.families[family];
        // A second call leaves after the mark of the first one has settled, so a save would come after `settled_at`.
        let is_excused = self.is_excused(world, token, world.now, |_| true);
        let reply = world.server.refresh(self.setting.server, token, world.now);
        if lived && !world.server.families[family] && is_excused {
            world.excused.insert(family);
        }
        if self.setting.server.rotates && matches!(reply, UpstreamReply::Granted(_)) {
            world.uses.entry(token).or_default();
        }
        reply
    }
}

pub(crate) const NO_RESPONSE: UpstreamReply = UpstreamReply::Unclear(Unclear::NoResponse);
