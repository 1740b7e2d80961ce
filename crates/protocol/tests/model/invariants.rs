//! Checks every call, answer and failure, and notes the situations that were reached.

use crate::{
    environment::Fate,
    model::Fleet,
    mutations::Guard,
    setting::START,
    world::{AccountState, Invariant, World, session_of},
};
use std::time::Duration;
use token_broker_protocol::{
    Answer, Credentials, Effect, Failure, Intent, LOGIN_WINDOW, Notice, Permit, Secret, SecretVersion, Step,
};

/// The shortest cooldown after a failure, for any draw.
const SHORTEST_COOLDOWN: Duration = Duration::from_secs(1);

impl Fleet {
    /// A refresh or a login is about to leave. I8: no earlier than the cooldown after one that failed allows, as far as
    /// the clocks agree on it.
    pub(crate) fn check_grant(&self, world: &mut World, who: usize, account: usize, fate: Fate) {
        let fastest_clock = world.now.plus(self.setting.clock_difference());
        let cooldown_until = world.accounts[account].cooldown_until;
        world.demand(cooldown_until.is_none_or(|until| until <= fastest_clock), Invariant::CooldownIsKept);
        let cooldown = match fate {
            Fate::Failed | Fate::ReplyLost => Some(SHORTEST_COOLDOWN),
            Fate::RateLimited => Some(LOGIN_WINDOW),
            _ => None,
        };
        let cooldown_until = cooldown.map(|cooldown| world.now.plus(cooldown));
        let lease = world.under_lease(who);
        lease.sent |= fate != Fate::Failed;
        lease.cooldown_until = cooldown_until;
    }

    /// A login leaves: not with a rejected secret (I5), with a permit (I1), and only if it is needed (I6, I8).
    pub(crate) fn check_login(
        &self,
        world: &mut World,
        who: usize,
        account: usize,
        credentials: &Credentials,
    ) {
        let AccountState { record, refused, logins, allowed_logins, .. } = &mut world.accounts[account];
        *logins += 1;
        let needed = *logins <= *allowed_logins;
        let is_sent = |version: &Option<SecretVersion>| version.as_ref() == Some(&credentials.version);
        let rejected = is_sent(&record.rejected_secret) || is_sent(refused);
        let running = world.instances[who].running.as_mut().expect("a request");
        running.logins += 1;
        let logins = running.logins;
        let own = |permit: &&Permit| {
            let running = world.request_of(&self.setting, permit.holder);
            running.is_some() && World::who_drew(&self.setting, permit.holder) == who
        };
        let permits = world.limiter.permits.iter().filter(own).count();
        world.demand(!rejected, Invariant::RejectedSecretIsNotSent);
        // Without the guard that prevents exactly this, its consequences are to be seen.
        let permitted = logins <= permits || self.lacks(Guard::PermitBeforeLogin);
        world.demand(permitted, Invariant::PermitForEveryLogin);
        world.demand(needed, Invariant::NoNeedlessLogin);
    }

    /// I1: in any minute, no more logins arrive than the budget allows.
    pub(crate) fn check_arrivals(&self, world: &mut World) {
        let budget = self.setting.login_budget;
        let arrivals = &world.arrivals;
        let kept = arrivals.windows(budget + 1).all(|some| some[budget].since(some[0]) >= LOGIN_WINDOW);
        world.demand(kept, Invariant::LoginsPerMinute);
    }

    /// A token is in use if it is stored, or if a caller has it and no operator has withdrawn it.
    pub(crate) fn check_revocation(world: &mut World, who: usize, account: usize, token: &Secret) {
        let stored = world.accounts[account].record.pair.as_ref().is_some_and(|pair| {
            pair.access_token == *token
                || pair.refresh_token.parts().is_some_and(|(stored, _)| stored == token)
        });
        let intent = world.instances[who].running.as_ref().map(|running| running.intent);
        let withdrawn = matches!(intent, Some(Intent::Revoke | Intent::Maintain));
        let handed_out = world.sessions[session_of(token)].handed_out;
        world.demand(!stored && (withdrawn || !handed_out), Invariant::TokenInUseIsNotRevoked);
    }

    /// I4, and that the answer's generation names the same pair as ever (I3).
    pub(crate) fn check_answer(&self, world: &mut World, who: usize, account: usize, answer: &Answer) {
        let session = session_of(&answer.access_token);
        let kept_until = world.now.plus(Duration::from_secs(answer.expires_in_seconds));
        let consistent =
            answer.expires_at == world.clock(&self.setting, who).plus(kept_until.since(world.now));
        let alive = answer.expires_in_seconds >= 1 && kept_until <= world.sessions[session].expires_at;
        world.demand(alive && consistent, Invariant::AnswerIsValid);
        world.check_generation(account, answer.generation, session);
        world.sessions[session].handed_out = true;
    }

    /// I7: a failure has a reason in what has happened.
    pub(crate) fn check_failure(&self, world: &mut World, failure: &Failure) {
        let faulty = world.faults_left < self.setting.faults;
        let late = world.now > START;
        let has_reason = match failure {
            // If time runs out between two writes, the request fails as if the table were out of reach.
            Failure::StoreUnavailable => faulty || late,
            Failure::SecretUnavailable | Failure::UpstreamRateLimited { .. } => faulty,
            // A pair with less than half of a short life left on arrival counts as a failure, and so does an instance that
            // is paused before its login twice.
            Failure::UpstreamUnavailable { .. } => faulty || late,
            Failure::LoginBudgetExhausted { retry_after } => {
                self.saw("a login that the limiter refuses");
                let share = self.setting.login_budget.div_ceil(2);
                !retry_after.is_zero() && world.limiter.permits.len() >= share
            }
            Failure::RefreshInProgress { .. } | Failure::TooLittleTime => late,
            Failure::CredentialsRejected(version) => {
                let version: usize = version.0.parse().expect("a version");
                !self.setting.secrets[version - 1]
            }
            Failure::UnknownAccount
            | Failure::BadSecret(_)
            | Failure::UnreadableItem(_)
            | Failure::Defect(_) => false,
        };
        world.demand(has_reason, Invariant::FailureHasReason);
    }

    /// Notes the situation that a notice tells of.
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
