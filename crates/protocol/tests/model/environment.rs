//! Performing effects: as the function's shell does it, and in all the ways in which that can go wrong.

use crate::{
    instance::{LateWrite, UnderLease},
    model::Fleet,
    world::{AccountWorld, Invariant, World, credentials, session_of},
};
use protocol::{
    Account, Call, Credentials, Effect, Event, SecretError, StoreError, TokenKind, UpstreamReply,
    WriteOutcome,
};
use std::time::Duration;

/// What becomes of an effect. All but the first are faults.
///
/// What was not carried out and is reported as unknown is not among them: it is a late write that never
/// arrives, or an upstream call that nothing came of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out, and the reply arrives.
    Done,
    /// It is carried out, and the reply is lost. A login arrives as late as it can.
    Silent,
    /// A write is carried out, and the client's own retry meets it.
    Misreported,
    /// A write is on its way, and its reply is lost.
    Late,
    /// It is not carried out, which is known.
    Failed,
    /// The upstream says 429.
    RateLimited,
}

impl Fleet {
    /// What may become of the effect that an instance waits for.
    pub fn fates(&self, world: &World, who: usize) -> &'static [Fate] {
        use Fate::{Done, Failed, Late, Misreported, RateLimited, Silent};
        let instance = &world.instances[who];
        let Some(request) = &instance.at else { return &[] };
        if self.costs_a_pause(world, who) && world.pauses_left == 0 {
            return &[];
        }
        let of_the_table = !matches!(
            request.effect,
            Effect::ReadSecret | Effect::Send { .. } | Effect::Pause { .. } | Effect::Done(_)
        );
        if world.outage && of_the_table {
            return &[Failed];
        }
        if world.faults_left == 0 {
            return &[Done];
        }
        match &request.effect {
            Effect::ReadAccount | Effect::ReadLimiter | Effect::ReadSecret => &[Done, Failed],
            write @ (Effect::WriteAccount { .. } | Effect::WriteLimiter { .. }) => {
                match (self.would_land(world, request.account, write), instance.late.is_some()) {
                    (false, _) => &[Done, Silent],
                    (true, true) => &[Done, Silent, Misreported],
                    (true, false) => &[Done, Silent, Misreported, Late],
                }
            }
            Effect::Send { not_after, .. } if world.clock(&self.setting, who) > *not_after => &[Done],
            Effect::Send { call: Call::Revoke(_), .. } => &[Done, Silent],
            Effect::Send { .. } => &[Done, Silent, Failed, RateLimited],
            Effect::Pause { .. } | Effect::Done(_) => &[Done],
        }
    }

    /// Performs the effect that an instance waits for, and says what it learns of it.
    pub fn perform(&self, world: &mut World, who: usize, fate: Fate) -> Event {
        let request = world.instances[who].at.as_ref().expect("a request");
        let (account, effect) = (request.account, request.effect.clone());
        match effect {
            Effect::ReadAccount if fate == Fate::Failed => Event::Account(Err(StoreError::Unreachable)),
            Effect::ReadAccount => Event::Account(Ok(world.accounts[account].record.clone())),
            Effect::ReadLimiter if fate == Fate::Failed => Event::Limiter(Err(StoreError::Unreachable)),
            Effect::ReadLimiter => Event::Limiter(Ok(world.limiter.clone())),
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
            Effect::Done(_) => unreachable!("a request that is done is not at anything"),
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
        if matches!(fate, Fate::Silent | Fate::Misreported | Fate::Late) {
            world.accounts[account].allowed += 1;
        }
        if fate == Fate::Late {
            world.instances[who].late = Some(LateWrite { account, effect });
            return WriteOutcome::Unknown;
        }
        let landed = fate != Fate::Failed && self.land(world, account, &effect);
        if landed && matches!(&effect, Effect::WriteAccount { next, .. } if next.lease.is_none()) {
            // What went wrong under the lease is known to the fleet from now on, or should be.
            let UnderLease { refused, rests_until, .. } = world.lease_of(who).clone();
            let account = &mut world.accounts[account];
            account.rests_until = rests_until;
            account.refused = refused.or(account.refused.take());
        }
        match fate {
            Fate::Done if landed => WriteOutcome::Applied,
            Fate::Done | Fate::Misreported => WriteOutcome::Conflict,
            _ => WriteOutcome::Unknown,
        }
    }

    /// Whether the condition of a write is met.
    pub fn would_land(&self, world: &World, account: usize, write: &Effect) -> bool {
        match write {
            Effect::WriteAccount { expected, .. } => {
                world.accounts[account].record.version == *expected || !self.minds_its_condition(write)
            }
            Effect::WriteLimiter { expected, .. } => {
                world.limiter.version == *expected || !self.minds_its_condition(write)
            }
            _ => false,
        }
    }

    /// A write arrives; says whether its condition was met.
    pub fn land(&self, world: &mut World, account: usize, write: &Effect) -> bool {
        if !self.would_land(world, account, write) {
            return false;
        }
        match write {
            Effect::WriteAccount { next, .. } => self.replace_record(world, account, next),
            Effect::WriteLimiter { next, .. } => world.limiter.clone_from(next),
            _ => {}
        }
        true
    }

    fn replace_record(&self, world: &mut World, account: usize, next: &Account) {
        let before = std::mem::replace(&mut world.accounts[account].record, next.clone());
        if let (Some(old), Some(new)) = (before.lease, next.lease)
            && old.holder != new.holder
            && next.pair.is_some() == before.pair.is_some()
        {
            self.saw("a takeover after a lapsed lease");
            // Whoever had the lease was paused for too long. If that was before a login, it was not sent, and
            // nothing is lost. What a dead or a failed one costs is in its fault.
            let spent = before.pair.as_ref().is_some_and(|pair| pair.refresh_token_consumed);
            let lost = world
                .request_of(&self.setting, old.holder)
                .is_some_and(|request| request.under_lease.sent || spent);
            world.accounts[account].allowed += usize::from(lost);
        }
        if let (Some(old), Some(new)) = (&before.pair, &next.pair)
            && old.generation != new.generation
        {
            self.saw("a pair that is renewed");
        }
        if before.pair.is_some() && next.pair.is_none() {
            // One login for the next caller.
            world.accounts[account].allowed += 1;
        }
        if let Some(pair) = &next.pair {
            let AccountWorld { named, .. } = &world.accounts[account];
            let newest = named.iter().map(|(generation, _)| *generation).max();
            let grows = newest <= Some(world.accounts[account].called(pair.generation));
            world.demand(grows, Invariant::OlderPairOverNewer);
            world.name(account, pair.generation, session_of(&pair.access_token));
        }
    }

    fn send(&self, world: &mut World, who: usize, account: usize, call: &Call, fate: Fate) -> UpstreamReply {
        if matches!(call, Call::Login(_) | Call::Refresh { .. }) {
            self.check_grant(world, who, account, fate);
        }
        if fate == Fate::Failed {
            return UpstreamReply::NeverLeft;
        }
        let reply = match call {
            Call::Login(credentials) => self.log_in(world, who, account, credentials, fate),
            Call::Refresh { refresh_token, .. } => {
                if fate == Fate::RateLimited {
                    return UpstreamReply::RateLimited(None);
                }
                let session = &mut world.sessions[session_of(refresh_token)];
                session.refreshes += 1;
                let (alive, first) = (std::mem::take(&mut session.refresh), session.refreshes == 1);
                world.demand(first, Invariant::RefreshTokenSentTwice);
                if alive {
                    UpstreamReply::Granted(world.issue(self.setting.life))
                } else {
                    UpstreamReply::Refused
                }
            }
            Call::Revoke(revocation) => {
                Self::check_revocation(world, who, account, &revocation.token);
                let session = &mut world.sessions[session_of(&revocation.token)];
                match revocation.kind {
                    TokenKind::Access => session.access = false,
                    TokenKind::Refresh => session.refresh = false,
                }
                UpstreamReply::Revoked
            }
            Call::Probe { access_token, .. } => {
                let alive = world.sessions[session_of(access_token)].access;
                if alive { UpstreamReply::Alive } else { UpstreamReply::Refused }
            }
        };
        match fate {
            Fate::RateLimited => UpstreamReply::RateLimited(None),
            Fate::Silent => {
                // A pair that got lost, not a probe or a revocation.
                let costs = matches!(call, Call::Login(_) | Call::Refresh { .. });
                world.accounts[account].allowed += usize::from(costs);
                UpstreamReply::Unclear
            }
            _ => reply,
        }
    }

    /// A login that nobody answers may be delivered by the kernel as long again after the call was given up.
    fn log_in(
        &self,
        world: &mut World,
        who: usize,
        account: usize,
        credentials: &Credentials,
        fate: Fate,
    ) -> UpstreamReply {
        self.check_login(world, who, account, credentials);
        let delay =
            if fate == Fate::Silent { self.setting.policy().upstream_timeout * 2 } else { Duration::ZERO };
        world.arrivals.push(world.now.plus(delay));
        world.arrivals.sort_unstable();
        self.check_arrivals(world);
        if fate == Fate::RateLimited {
            world.accounts[account].allowed += 1;
            return UpstreamReply::RateLimited(None);
        }
        let version: usize = credentials.version.0.parse().expect("a version");
        if self.setting.secrets[version - 1] {
            UpstreamReply::Granted(world.issue(self.setting.life))
        } else {
            // What the instance hears of is to be written down.
            if fate == Fate::Done {
                world.lease_of(who).refused = Some(credentials.version.clone());
            }
            UpstreamReply::Refused
        }
    }
}
