//! What may be answered, and what was interesting on the way there.

use crate::{
    model::Fleet,
    setting::START,
    world::{Invariant, World, session_of},
};
use std::time::Duration;
use token_broker::core::{
    decide::Answer,
    error::Failure,
    flow::{Effect, Notice},
};

impl Fleet {
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
            Failure::SecretUnavailable
            | Failure::UpstreamRateLimited { .. }
            | Failure::UpstreamUnavailable { .. } => faulty,
            Failure::LoginBudgetExhausted { retry_after } => {
                self.saw("a login that the ledger refused");
                !retry_after.is_zero() && world.ledger.debits.len() >= self.setting.budget
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
            Notice::Saved(_) if had_unsaved => self.saw("an unsaved pair that was saved later"),
            Notice::Saved(_) if after_a_look => self.saw("a saved pair recognised after a lost reply"),
            Notice::RefreshRefused if *next == Effect::ReadSecret => {
                self.saw("a refused refresh that goes on to a login");
            }
            Notice::FoundAlive(_) => self.saw("a verdict: alive"),
            Notice::FoundDead(_) => self.saw("a verdict: dead"),
            Notice::Withdrawn(_) => self.saw("a pair withdrawn"),
            Notice::Unsaved(_) => self.saw("a pair that could not be saved"),
            Notice::Overtaken(_) => self.saw("a pair that was overtaken"),
            Notice::OrphanRevoked(_) => self.saw("an orphan revoked"),
            Notice::Parked(_) => self.saw("a version parked"),
            Notice::Resting(_) => self.saw("an account at rest"),
            Notice::Outrun => self.saw("an attempt that was outrun"),
            _ => {}
        }
    }
}
