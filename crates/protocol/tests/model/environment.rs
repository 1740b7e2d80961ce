//! Performs effects as the function does, and with every possible fault.

use crate::{
    instance::{DelayedWrite, UnderLease},
    model::Fleet,
    mutations::Guard,
    setting::{Outage, Successor},
    world::{Invariant, World, credentials, session_of},
};
use std::time::Duration;
use token_broker_protocol::{
    Account, Call, Credentials, Effect, Event, Intent, IssuedToken, NewRefreshToken, Secret, SecretError,
    StoreError, TokenKind, TokenResponse, Unclear, UpstreamReply, WriteOutcome,
};

/// How an effect is performed. All except the first are faults.
///
/// An effect that is not carried out and reported as unknown is not among them: it is a delayed write that never
/// arrives, or an upstream call without consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is carried out, and the reply arrives.
    Normal,
    /// It is carried out, and the reply is lost. A login arrives as late as possible.
    ReplyLost,
    /// A write is carried out, and the client library's own retry meets it.
    SpuriousConflict,
    /// A write is in transit, and its reply is lost.
    Delayed,
    /// It is not carried out, and the instance knows that.
    Failed,
    /// The upstream answers 429.
    RateLimited,
    /// The upstream answers 400 or 403.
    Refused,
}

impl Fleet {
    /// How the effect that an instance waits for may be performed.
    pub(crate) fn fates(&self, world: &World, who: usize) -> &'static [Fate] {
        use Fate::{Delayed, Failed, Normal, RateLimited, Refused, ReplyLost, SpuriousConflict};
        let instance = &world.instances[who];
        let Some(running) = &instance.running else { return &[] };
        if self.costs_a_pause(world, who) && world.pauses_left == 0 {
            return &[];
        }
        if is_refused(world.outage, &running.effect) {
            return &[Failed];
        }
        if world.faults_left == 0 {
            return &[Normal];
        }
        match &running.effect {
            Effect::ReadAccount | Effect::ReadLimiter(_) | Effect::ReadSecret => &[Normal, Failed],
            write @ (Effect::WriteAccount { .. } | Effect::WriteLimiter { .. }) => {
                match (self.would_apply(world, running.account, write), instance.delayed.is_some()) {
                    (false, _) => &[Normal, ReplyLost],
                    (true, true) => &[Normal, ReplyLost, SpuriousConflict],
                    (true, false) => &[Normal, ReplyLost, SpuriousConflict, Delayed],
                }
            }
            Effect::Send { not_after, .. } if world.clock(&self.setting, who) > *not_after => &[Normal],
            Effect::Send { call: Call::Revoke(..), .. } => &[Normal, ReplyLost],
            Effect::Send { call: Call::Probe(_), .. } => &[Normal, ReplyLost, Failed, RateLimited],
            Effect::Send { .. } => &[Normal, ReplyLost, Failed, RateLimited, Refused],
            Effect::Pause { .. } => &[Normal],
        }
    }

    /// Performs the effect that an instance waits for, and returns the event.
    pub(crate) fn perform(&self, world: &mut World, who: usize, fate: Fate) -> Event {
        let running = world.instances[who].running.as_ref().expect("a request");
        let (account, effect) = (running.account, running.effect.clone());
        let event = self.carry_out(world, who, account, effect, fate);
        let dated = fate == Fate::Normal && !self.lacks(Guard::StoreTime);
        if dated && !matches!(event, Event::Secret(_) | Event::Replied(_) | Event::Resumed) {
            // The store's reply has a date.
            let reading = world.reading(&self.setting, who);
            let date = world.now;
            if let Some(clock) = &mut world.instances[who].store_clock {
                clock.measured(reading, reading, date);
            }
        }
        event
    }

    fn carry_out(&self, world: &mut World, who: usize, account: usize, effect: Effect, fate: Fate) -> Event {
        match effect {
            Effect::ReadAccount if fate == Fate::Failed => Event::Account(Err(StoreError::Unreachable)),
            Effect::ReadAccount => Event::Account(Ok(world.accounts[account].record.clone())),
            Effect::ReadLimiter(_) if fate == Fate::Failed => Event::Limiter(Err(StoreError::Unreachable)),
            Effect::ReadLimiter(_) => Event::Limiter(Ok(world.limiter.clone())),
            Effect::ReadSecret if fate == Fate::Failed => Event::Secret(Err(SecretError::Unreachable)),
            Effect::ReadSecret => Event::Secret(Ok(credentials(world.secret))),
            Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => {
                Event::Written(self.write(world, who, account, effect, fate))
            }
            Effect::Send { not_after, .. } if world.clock(&self.setting, who) > not_after => {
                Event::Replied(UpstreamReply::TooLate)
            }
            Effect::Send { call, .. } => Event::Replied(self.send(world, who, account, &call, fate)),
            Effect::Pause { until } => {
                world.pass_until(self.end_of_pause(world, who, until));
                Event::Resumed
            }
        }
    }

    fn write(
        &self,
        world: &mut World,
        who: usize,
        account: usize,
        effect: Effect,
        fate: Fate,
    ) -> WriteOutcome {
        if matches!(fate, Fate::ReplyLost | Fate::SpuriousConflict | Fate::Delayed) {
            world.accounts[account].allowed_logins += 1;
        }
        let intent = world.instances[who].running.as_ref().expect("a request").intent;
        if fate == Fate::Delayed {
            world.instances[who].delayed = Some(DelayedWrite { account, effect, intent });
            return WriteOutcome::Unknown;
        }
        let lease = world.accounts[account].record.lease;
        let leased = lease.is_some_and(|lease| world.is_drawn_by(&self.setting, who, lease.holder));
        let applied = fate != Fate::Failed && self.apply(world, account, &effect, intent);
        if leased && applied && matches!(&effect, Effect::WriteAccount { next, .. } if next.lease.is_none()) {
            // From now on, the fleet knows or should know what failed under the lease.
            let UnderLease { refused, cooldown_until, .. } = world.under_lease(who).clone();
            let account = &mut world.accounts[account];
            account.cooldown_until = cooldown_until;
            account.refused = refused.or(account.refused.take());
        }
        match fate {
            Fate::Normal if applied => WriteOutcome::Applied,
            Fate::Normal | Fate::SpuriousConflict => WriteOutcome::Conflict,
            _ => WriteOutcome::Unknown,
        }
    }

    /// Whether the condition of a write is met, or ignored.
    pub(crate) fn would_apply(&self, world: &World, account: usize, write: &Effect) -> bool {
        match write {
            Effect::WriteAccount { expected, .. } => {
                world.accounts[account].record.version == *expected || !self.is_conditional(write)
            }
            Effect::WriteLimiter { expected, .. } => {
                world.limiter.version == *expected || !self.is_conditional(write)
            }
            _ => false,
        }
    }

    /// A write of a request with this intent arrives. Returns whether it was applied.
    pub(crate) fn apply(&self, world: &mut World, account: usize, write: &Effect, intent: Intent) -> bool {
        if !self.would_apply(world, account, write) {
            return false;
        }
        match write {
            Effect::WriteAccount { next, .. } => self.replace_record(world, account, next, intent),
            Effect::WriteLimiter { next, .. } => {
                world.limiter.clone_from(next);
                world.check_pause(&self.setting, next.blocked_until);
                self.check_permits(world);
            }
            _ => {}
        }
        true
    }

    fn replace_record(&self, world: &mut World, account: usize, next: &Account, intent: Intent) {
        let before = std::mem::replace(&mut world.accounts[account].record, next.clone());
        world.check_pause(&self.setting, next.cooldown.map(|cooldown| cooldown.until));
        if let (Some(old), Some(new)) = (before.lease, next.lease)
            && old.holder != new.holder
            && next.pair.is_some() == before.pair.is_some()
        {
            self.saw("a takeover after a lapsed lease");
            // The previous holder was paused for too long. If that was before its login, the login was not sent, and
            // no pair is lost. The fault of a holder that crashed or failed has allowed a login already.
            let refresh_token = before.pair.as_ref().and_then(|pair| pair.refresh_token.as_ref());
            let consumed = refresh_token.is_some_and(|refresh| refresh.consumed);
            let lost = world
                .request_of(&self.setting, old.holder)
                .is_some_and(|running| running.under_lease.sent || consumed);
            world.accounts[account].allowed_logins += usize::from(lost);
        }
        if let (Some(old), Some(new)) = (&before.pair, &next.pair)
            && old.generation != new.generation
        {
            self.saw("a pair that is renewed");
        }
        if before.pair.is_some() && next.pair.is_none() {
            // The next caller needs a login.
            world.accounts[account].allowed_logins += 1;
            let sessions = world.sessions.iter_mut().filter(|session| session.account == account);
            sessions.for_each(|session| session.withdrawn = true);
        }
        let same_pair = before.generation() == next.generation();
        if intent == Intent::Unblock && same_pair {
            // Whatever failed before may be tried again.
            let account = &mut world.accounts[account];
            account.allowed_logins +=
                usize::from(before.rejected_secret.is_some() || before.cooldown.is_some());
            (account.refused, account.cooldown_until) = (None, None);
        }
        if let Some(pair) = &next.pair {
            // A pair that was handed out and not saved counts too. The record may continue with an older one, but no
            // pair that is saved from now on has a lower generation.
            let account_state = &world.accounts[account];
            let generation = account_state.generation_of(pair.generation);
            let grows = account_state.generations.iter().all(|(known, _)| *known <= generation);
            world.demand(same_pair || grows, Invariant::GenerationsGrow);
            world.check_generation(account, pair.generation, session_of(&pair.access_token));
        }
    }

    fn send(&self, world: &mut World, who: usize, account: usize, call: &Call, fate: Fate) -> UpstreamReply {
        if matches!(call, Call::Login(_) | Call::Refresh(..)) {
            self.check_renewal(world, who, account, call, fate);
        }
        if fate == Fate::Failed {
            return UpstreamReply::NeverLeft;
        }
        let reply = match call {
            Call::Login(credentials) => self.log_in(world, who, account, credentials, fate),
            Call::Refresh(IssuedToken { token, .. }, _) => self.refresh(world, account, token, fate),
            Call::Revoke(revocation, _) => {
                self.check_revocation(world, account, revocation);
                let session = &mut world.sessions[session_of(&revocation.token)];
                match revocation.kind {
                    TokenKind::Access => session.access = false,
                    TokenKind::Refresh => session.refresh = false,
                }
                UpstreamReply::Revoked
            }
            Call::Probe(IssuedToken { token, .. }) => {
                let alive = world.sessions[session_of(token)].access && !self.setting.probes_lie;
                if alive { UpstreamReply::Alive } else { UpstreamReply::Unauthorized }
            }
        };
        match fate {
            Fate::RateLimited => UpstreamReply::RateLimited(None),
            Fate::Refused => UpstreamReply::Refused,
            Fate::ReplyLost => {
                // A lost pair costs a login; a lost verdict or revocation does not.
                let brings_a_pair = matches!(call, Call::Login(_) | Call::Refresh(..));
                world.accounts[account].allowed_logins += usize::from(brings_a_pair);
                UpstreamReply::Unclear(Unclear::NoResponse)
            }
            _ => reply,
        }
    }

    fn refresh(
        &self,
        world: &mut World,
        account: usize,
        refresh_token: &Secret,
        fate: Fate,
    ) -> UpstreamReply {
        match fate {
            Fate::RateLimited => return UpstreamReply::RateLimited(None),
            Fate::Refused => {
                // The fleet considers the refresh token dead, and logs in.
                world.accounts[account].allowed_logins += 1;
                return UpstreamReply::Refused;
            }
            _ => {}
        }
        let session = &mut world.sessions[session_of(refresh_token)];
        session.refreshes += 1;
        let (alive, first) = (session.refresh, session.refreshes == 1);
        let single_use = self.setting.successor == Successor::New;
        session.refresh &= !single_use;
        if !single_use && fate == Fate::Normal {
            // The instance learns that the token is still valid.
            session.refreshes = 0;
        }
        world.demand(first, Invariant::RefreshTokenSentOnce);
        if !alive {
            return UpstreamReply::Unauthorized;
        }
        let mut granted = self.issue(world, account);
        if !single_use {
            world.sessions[session_of(&granted.access_token)].refresh = false;
            granted.refresh_token = match self.setting.successor {
                Successor::Same => NewRefreshToken::Token(refresh_token.clone()),
                _ => NewRefreshToken::Absent,
            };
        }
        UpstreamReply::Granted(granted)
    }

    fn issue(&self, world: &mut World, account: usize) -> TokenResponse {
        let granted = world.issue(account, self.setting.lifetime);
        self.check_renewals(world, account);
        granted
    }

    /// The kernel may deliver a login without a reply for that long again after the call was given up.
    fn log_in(
        &self,
        world: &mut World,
        who: usize,
        account: usize,
        credentials: &Credentials,
        fate: Fate,
    ) -> UpstreamReply {
        self.check_login(world, who, account, credentials);
        let delay = match fate {
            Fate::ReplyLost => self.setting.policy().upstream_timeout * 2,
            _ => Duration::ZERO,
        };
        world.arrivals.push((world.now.plus(delay), account));
        world.arrivals.sort_unstable();
        self.check_arrivals(world);
        if matches!(fate, Fate::RateLimited | Fate::Refused) {
            world.accounts[account].allowed_logins += 1;
            return if fate == Fate::Refused {
                UpstreamReply::Refused
            } else {
                UpstreamReply::RateLimited(None)
            };
        }
        let version: usize = credentials.version.0.parse().expect("a version");
        if self.setting.secrets[version - 1] {
            UpstreamReply::Granted(self.issue(world, account))
        } else {
            // A refusal that reaches the instance has to be recorded.
            let now = world.now;
            if fate == Fate::Normal {
                world.under_lease(who).refused = Some((credentials.version.clone(), now));
            }
            UpstreamReply::Unauthorized
        }
    }
}

/// Whether an outage refuses an effect.
pub(crate) fn is_refused(outage: Option<Outage>, effect: &Effect) -> bool {
    let writes = matches!(effect, Effect::WriteAccount { .. } | Effect::WriteLimiter { .. });
    let reads = matches!(effect, Effect::ReadAccount | Effect::ReadLimiter(_));
    match outage {
        None => false,
        Some(Outage::Writes) => writes,
        Some(Outage::Table) => writes || reads,
    }
}
