//! What may be sent and what may be answered, and what was interesting on the way there.

use crate::{
    environment::Fate,
    model::{Fleet, PATIENCE},
    mutations::Guard,
    setting::START,
    world::{AccountWorld, Invariant, World, session_of},
};
use protocol::{Answer, Credentials, Effect, Failure, Intent, LOGIN_WINDOW, Notice, Permit, Secret};
use std::time::Duration;

/// However lucky the draw, an account rests that long after a failure.
const SHORTEST_REST: Duration = Duration::from_secs(1);

impl Fleet {
    /// A refresh or a login is about to leave, and will come to this. I8: not so soon after one that failed, as
    /// far as clocks agree on it.
    pub fn check_grant(&self, world: &mut World, who: usize, account: usize, fate: Fate) {
        let by_the_fastest_clock = world.now.plus(self.setting.clocks_apart());
        let rests_until = world.accounts[account].rests_until;
        let rested = rests_until.is_none_or(|until| until <= by_the_fastest_clock);
        world.demand(rested, Invariant::HammeredUpstream);
        let rest = match fate {
            Fate::Failed | Fate::Silent => Some(SHORTEST_REST),
            Fate::RateLimited => Some(LOGIN_WINDOW),
            _ => None,
        };
        let rests_until = rest.map(|rest| world.now.plus(rest));
        let lease = world.lease_of(who);
        lease.sent |= fate != Fate::Failed;
        lease.rests_until = rests_until;
    }

    /// I5, that a login is paid for (I1), and that it is none too many (I6, I8).
    pub fn check_login(&self, world: &mut World, who: usize, account: usize, credentials: &Credentials) {
        let AccountWorld { record, refused, logins, allowed, .. } = &mut world.accounts[account];
        *logins += 1;
        let needed = *logins <= *allowed;
        let rejected_secret =
            [&record.rejected_secret, refused].contains(&&Some(credentials.version.clone()));
        let request = world.instances[who].at.as_mut().expect("a request");
        request.logins += 1;
        let paid_for = request.logins;
        let own = |permit: &&Permit| {
            let request = world.request_of(&self.setting, permit.by);
            request.is_some() && World::who_drew(&self.setting, permit.by) == who
        };
        let paid = world.limiter.permits.iter().filter(own).count();
        world.demand(!rejected_secret, Invariant::ParkedVersionSent);
        // Without the guard that says the same, what comes of it is to be seen.
        let paid = paid_for <= paid || self.lacks(Guard::DebitBeforeLogin);
        world.demand(paid, Invariant::UnpaidLogin);
        world.demand(needed, Invariant::NeedlessLogin);
    }

    /// I1. A login has arrived, or will have.
    pub fn check_arrivals(&self, world: &mut World) {
        let budget = self.setting.budget;
        let arrivals = &world.arrivals;
        let kept = arrivals.windows(budget + 1).all(|some| some[budget].since(some[0]) >= LOGIN_WINDOW);
        world.demand(kept, Invariant::TooManyLoginsInAMinute);
    }

    /// A token that is stored is in use; so is one that a caller has, unless an operator has withdrawn it.
    pub fn check_revocation(world: &mut World, who: usize, account: usize, token: &Secret) {
        let stored = world.accounts[account].record.pair.as_ref();
        let in_use = stored
            .is_some_and(|pair| pair.access_token == *token || pair.refresh_token.as_ref() == Some(token));
        let goal = world.instances[who].at.as_ref().map(|request| request.goal);
        let wanted = matches!(goal, Some(Intent::Revoke(_) | Intent::Maintain { .. }));
        let handed_out = world.sessions[session_of(token)].handed_out;
        world.demand(!in_use && (wanted || !handed_out), Invariant::LiveTokenRevoked);
    }

    /// I4, and that the answer's generation names the pair that it always named (I3).
    pub fn check_answer(&self, world: &mut World, who: usize, account: usize, answer: &Answer) {
        let place = session_of(&answer.access_token);
        let ends = world.sessions[place].ends;
        let kept_until = world.now.plus(Duration::from_secs(answer.expires_in_seconds));
        let told = answer.expires_at == world.clock(&self.setting, who).plus(kept_until.since(world.now));
        let lives = answer.expires_in_seconds >= 1 && kept_until <= ends && told;
        world.demand(lives, Invariant::ExpiredTokenHandedOut);
        world.name(account, answer.generation, place);
        world.sessions[place].handed_out = true;
    }

    /// A failure has to have a reason in what has happened.
    pub fn check_failure(&self, world: &mut World, failure: &Failure) {
        let faulty = world.faults_left < self.setting.faults;
        let late = world.now > START;
        let right = match failure {
            // Time that ran out between two writes is told as the table's fault.
            Failure::StoreUnavailable => faulty || late,
            Failure::SecretUnavailable | Failure::UpstreamRateLimited { .. } => faulty,
            // A pair that has lost half of a short life on its way counts as a failure.
            Failure::UpstreamUnavailable { .. } => faulty || late && self.setting.life < PATIENCE,
            Failure::LoginBudgetExhausted { retry_after } => {
                self.saw("a login that the limiter refused");
                !retry_after.is_zero() && world.limiter.permits.len() >= self.setting.budget
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
        world.demand(right, Invariant::WrongFailure);
    }

    /// Notes what a step says of itself.
    pub fn note(&self, notice: &Notice, after_a_look: bool, had_unsaved: bool, next: &Effect) {
        match notice {
            Notice::Acquired(_) if after_a_look => self.saw("a lease recognised after a lost reply"),
            Notice::Saved(_) if had_unsaved => self.saw("an pending_write pair that was saved later"),
            Notice::Saved(_) if after_a_look => self.saw("a saved pair recognised after a lost reply"),
            Notice::RefreshRefused if *next == Effect::ReadSecret => {
                self.saw("a refused refresh that goes on to a login");
            }
            Notice::FoundAlive(_) => self.saw("a verdict: alive"),
            Notice::FoundDead(_) => self.saw("a verdict: dead"),
            Notice::Withdrawn(_) => self.saw("a pair withdrawn"),
            Notice::WritePending(_) => self.saw("a pair that could not be saved"),
            Notice::LeaseLost(_) => self.saw("a pair that was overtaken"),
            Notice::OrphanRevoked(_) => self.saw("an orphan revoked"),
            Notice::SecretRejected(_) => self.saw("a version rejected_secret"),
            Notice::CooldownStarted(_) => self.saw("an account at rest"),
            Notice::LeaseConflict => self.saw("an attempt that was outrun"),
            _ => {}
        }
    }
}
