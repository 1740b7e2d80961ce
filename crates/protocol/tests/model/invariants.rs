//! Checks every call, answer and failure, and records the situations reached.

use crate::{
    environment::Fate,
    model::{Fleet, account_name},
    mutations::Guard,
    setting::{REPORT_LATEST, START, Setting, Successor},
    world::{AccountState, Invariant, World, session_of},
};
use std::time::Duration;
use token_broker_protocol::{
    Answer, Call, Credentials, Effect, Failure, Intent, LOGIN_WINDOW, Notice, Permit, Revocation,
    SecretVersion, Step, Timestamp, TokenKind, Verdict,
};

/// The shortest time after which a rejected secret version is tried again.
const SECRET_RETRY: Duration = Duration::from_secs(6 * 3600);
/// The shortest cooldown after a failure, for any draw.
const SHORTEST_COOLDOWN: Duration = Duration::from_secs(1);

impl Fleet {
    /// A refresh or a login is about to leave. I8: not before the cooldown of a failed one is over, as far as the
    /// clocks agree.
    pub(crate) fn check_renewal(
        &self,
        world: &mut World,
        who: usize,
        account: usize,
        call: &Call,
        fate: Fate,
    ) {
        let fastest_clock = world.now.plus(self.setting.clock_difference());
        let cooldown_until = world.accounts[account].cooldown_until;
        world.demand(cooldown_until.is_none_or(|until| until <= fastest_clock), Invariant::CooldownIsKept);
        let cooldown = match fate {
            Fate::Failed | Fate::ReplyLost => Some(SHORTEST_COOLDOWN),
            Fate::RateLimited => Some(LOGIN_WINDOW),
            Fate::Refused if matches!(call, Call::Login(_)) => Some(LOGIN_WINDOW),
            _ => None,
        };
        self.check_replacement(world, who, account);
        let cooldown_until = cooldown.map(|cooldown| world.now.plus(cooldown));
        let lease = world.under_lease(who);
        lease.sent |= fate != Fate::Failed;
        lease.cooldown_until = cooldown_until;
    }

    /// A login leaves: with a permit (I1), only if it is needed (I6, I8), and not with a rejected secret, unless an
    /// operator has unblocked the account (I5).
    pub(crate) fn check_login(
        &self,
        world: &mut World,
        who: usize,
        account: usize,
        credentials: &Credentials,
    ) {
        let now = world.now;
        let AccountState { record, refused, logins, allowed_logins, .. } = &mut world.accounts[account];
        *logins += 1;
        // A request may try a rejected version again after six hours, by any clock.
        let tolerance = self.setting.clock_difference();
        let is_sent = |version: &SecretVersion| *version == credentials.version;
        let early = |at: &Timestamp| now.plus(tolerance) < at.plus(SECRET_RETRY);
        let refused_at = refused.as_ref().filter(|(version, _)| is_sent(version)).map(|(_, at)| *at);
        let stored = record.rejected_secret.as_ref().filter(|rejected| is_sent(&rejected.version));
        let rejected = refused_at.is_some_and(|at| early(&at))
            || stored.is_some_and(|rejected| !rejected.is_due(now.plus(tolerance)));
        // Another try after that time may cost a login.
        *allowed_logins += usize::from(refused_at.is_some() && !rejected);
        refused.take_if(|_| refused_at.is_some());
        let needed = *logins <= *allowed_logins;
        let running = world.instances[who].running.as_mut().expect("a request");
        running.logins += 1;
        let logins = running.logins;
        let own = |permit: &&Permit| world.is_drawn_by(&self.setting, who, permit.holder);
        let permits = world.limiter.permits.iter().filter(own).count();
        world.demand(!rejected, Invariant::RejectedSecretIsNotSent);
        // If the guard against exactly this is removed, its consequences should show.
        let permitted = logins <= permits || self.lacks(Guard::PermitBeforeLogin);
        world.demand(permitted, Invariant::PermitForEveryLogin);
        world.demand(needed, Invariant::NoNeedlessLogin);
    }

    /// I1: in any minute, at most as many logins arrive as the budget allows, and from one account at most its share.
    pub(crate) fn check_arrivals(&self, world: &mut World) {
        let kept = |limit: usize, arrivals: Vec<Timestamp>| {
            arrivals.windows(limit + 1).all(|some| some[limit].since(some[0]) >= LOGIN_WINDOW)
        };
        let all = world.arrivals.iter().map(|(at, _)| *at);
        let total = kept(self.setting.login_budget, all.collect());
        let shared = (0..world.accounts.len()).all(|account| {
            let own = world.arrivals.iter().filter(|(_, of)| *of == account).map(|(at, _)| *at);
            kept(self.share(), own.collect())
        });
        world.demand(total, Invariant::LoginsPerMinute);
        world.demand(shared, Invariant::AccountShare);
    }

    /// How many permits one account may hold.
    fn share(&self) -> usize {
        self.setting.login_budget.div_ceil(2)
    }

    /// A request holds a permit for each login that it has sent, and at most one more.
    pub(crate) fn check_permits(&self, world: &mut World) {
        let used = (0..world.instances.len()).all(|who| {
            let own = |permit: &&Permit| world.is_drawn_by(&self.setting, who, permit.holder);
            let permits = world.limiter.permits.iter().filter(own).count();
            let logins = world.instances[who].running.as_ref().map_or(0, |running| running.logins);
            permits <= logins + 1
        });
        world.demand(used, Invariant::PermitsAreUsed);
    }

    /// A pair was obtained. Three generations that die young are believed at once, the next one lives for a minute, and
    /// every fault or lost session may cost another.
    pub(crate) fn check_renewals(&self, world: &mut World, account: usize) {
        let Setting { faults, pauses, .. } = self.setting;
        let limit = 4 + usize::from(faults + pauses);
        let sessions = world.sessions.iter().filter(|session| session.account == account);
        let renewals: Vec<Timestamp> = sessions.filter_map(|session| session.issued_at).collect();
        let bounded = renewals.windows(limit + 1).all(|some| some[limit].since(some[0]) >= LOGIN_WINDOW);
        world.demand(bounded, Invariant::RenewalsAreBounded);
    }

    /// An operator's refresh is about to send its first call. It does so once a minute while there is a usable pair.
    fn check_replacement(&self, world: &mut World, who: usize, account: usize) {
        let clock = world.clock(&self.setting, who);
        let running = world.instances[who].running.as_ref().expect("a request");
        if running.intent != Intent::Replace || running.under_lease.sent {
            return;
        }
        let AccountState { record, replaced_at, .. } = &mut world.accounts[account];
        let answerable = record.pair.as_ref().is_some_and(|pair| {
            pair.verdict != Verdict::Dead && self.setting.policy().expires_in_seconds(pair, clock) > 0
        });
        let earlier = replaced_at.replace(world.now);
        let spread = self.setting.clock_difference();
        let rare = earlier.is_none_or(|at| world.now.since(at) + spread >= LOGIN_WINDOW);
        world.demand(rare || !answerable, Invariant::ReplacedOncePerMinute);
    }

    /// A token is in use if it is stored, or if a caller has it and no operator has withdrawn it.
    ///
    /// A refresh token that stays valid belongs to several sessions. Callers never have it.
    pub(crate) fn check_revocation(&self, world: &mut World, account: usize, revocation: &Revocation) {
        let pair = world.accounts[account].record.pair.as_ref();
        let stored = pair.is_some_and(|pair| pair.holds(&revocation.token));
        let session = world.sessions[session_of(&revocation.token)];
        let own = revocation.kind == TokenKind::Access || self.setting.successor == Successor::New;
        let in_use = stored || (own && session.handed_out && !session.withdrawn);
        self.saw("a token revoked");
        world.demand(!in_use, Invariant::TokenInUseIsNotRevoked);
    }

    /// I4, and that the answer's generation still names the same pair (I3).
    pub(crate) fn check_answer(&self, world: &mut World, who: usize, account: usize, answer: &Answer) {
        let session = session_of(&answer.access_token);
        let kept_until = world.now.plus(Duration::from_secs(answer.expires_in_seconds));
        let consistent =
            answer.expires_at == world.clock(&self.setting, who).plus(kept_until.since(world.now));
        let alive = answer.expires_in_seconds >= 1 && kept_until <= world.sessions[session].expires_at;
        world.demand(alive && consistent, Invariant::AnswerIsValid);
        world.check_generation(account, answer.generation, session);
        world.sessions[session].handed_out = true;
        let instance = &mut world.instances[who];
        let later = self.setting.requests[who].iter().skip(instance.begun);
        instance.answered =
            later.into_iter().any(|(_, intent)| *intent == REPORT_LATEST).then_some(answer.generation);
    }

    /// I7: a failure has a reason in the run.
    pub(crate) fn check_failure(&self, world: &mut World, account: usize, failure: &Failure) {
        let faulty = world.faults_left < self.setting.faults;
        let paused = world.pauses_left < self.setting.pauses;
        let late = world.now > START;
        let stepped = world.steps_left < self.setting.steps;
        let has_reason = match failure {
            Failure::SecretUnavailable | Failure::UpstreamRateLimited { .. } => faulty,
            // If time runs out between two writes, the request fails as if the table were unreachable. A pair with less
            // than half of a short life left on arrival counts as a failure, and so does an instance that is paused
            // before its login twice.
            Failure::StoreUnavailable { .. } | Failure::UpstreamUnavailable { .. } => faulty || paused,
            Failure::LoginBudgetExhausted { retry_after } => {
                self.saw("a login that the limiter refuses");
                let name = account_name(account);
                let permits = &world.limiter.permits;
                let own = permits.iter().filter(|permit| permit.account == name).count();
                let exhausted = permits.len() >= self.setting.login_budget || own >= self.share();
                // The permits may have lapsed while the instance was paused.
                !retry_after.is_zero() && (exhausted || paused)
            }
            // Until the store responds, a clock that has stepped ahead says that time is up.
            Failure::RefreshInProgress { .. } | Failure::TooLittleTime => late || stepped,
            Failure::ClockOff => stepped,
            Failure::CredentialsRejected(version) => {
                let version: usize = version.0.parse().expect("a version");
                !self.setting.secrets[version - 1]
            }
            Failure::UnknownAccount
            | Failure::BadSecret(_)
            | Failure::GrantLost
            | Failure::Unconfirmed
            | Failure::Misconfigured(_)
            | Failure::UnreadableItem(_)
            | Failure::Defect(_) => false,
        };
        world.demand(has_reason, Invariant::FailureHasReason);
    }

    /// Records the situation that a notice reports.
    pub(crate) fn note(&self, notice: &Notice, after_a_read: bool, had_pending: bool, step: &Step) {
        match notice {
            Notice::LeaseAcquired(_) if after_a_read => self.saw("a lease recognised after a lost reply"),
            Notice::PairSaved(_) if had_pending => self.saw("a pending write that is applied later"),
            Notice::PairSaved(_) if after_a_read => self.saw("a saved pair recognised after a lost reply"),
            Notice::RefreshRefused if *step == Step::Perform(Effect::ReadSecret) => {
                self.saw("a refused refresh that leads to a login");
            }
            Notice::FoundAlive(_) => self.saw("a token found alive"),
            Notice::FoundDead(_) => self.saw("a token found dead"),
            Notice::Unblocked => self.saw("an account unblocked"),
            Notice::PairWithdrawn(_) => self.saw("a pair withdrawn"),
            Notice::WritePending(_) => self.saw("a pair that cannot be saved"),
            Notice::LeaseLost(_) => self.saw("a lease lost"),
            Notice::OrphanRecorded(_) => self.saw("an orphan recorded"),
            Notice::SecretRejected(_) => self.saw("a secret version rejected"),
            Notice::CooldownStarted(_) => self.saw("a cooldown"),
            Notice::LeaseConflict => self.saw("a lease conflict"),
            _ => {}
        }
    }
}
