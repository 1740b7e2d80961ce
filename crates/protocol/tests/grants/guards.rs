//! Details of the rule, and the run that each of them prevents. The production code has no switch for that: the model
//! alters what passes between the protocol and the table.

use crate::{
    invariants::SENT_AGAIN,
    model::Fleet,
    setting::{Behaviour, Initial, START, SecretValue, Setting, TOKEN},
    world::{Replied, World},
};
use stateright::{Checker, HasDiscoveries, Model};
use token_broker_protocol::{Account, Effect, Usage};

/// The details that a simpler rule would lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A 5xx leaves time for its own call to arrive.
    SettlingAfter5xx,
    /// A mark that is taken back leaves the doubt before it.
    DoubtBeforeMark,
    /// A token in doubt is not sent before its earlier calls have settled.
    Settling,
    /// The mark of an attempt ends *lost*.
    LossEndsWithMark,
    /// A new grant has its own mark.
    MarkPerToken,
    /// An adopted pair keeps the mark that another attempt made for its token.
    MarkOfTwin,
}

impl Fleet {
    /// The record as an instance without the guard reads it.
    pub(crate) fn altered_read(&self, world: &World) -> Account {
        let mut record = world.record.clone();
        if self.setting.without == Some(Guard::Settling)
            && let Some(mark) = usage(&mut record).and_then(|usage| usage.mark.as_mut())
        {
            mark.settled_at = START;
        }
        record
    }

    /// The write that an instance without the guard would make.
    pub(crate) fn altered_write(&self, world: &World, who: usize, mut effect: Effect) -> Effect {
        let clock = world.clock(&self.setting, who);
        let replied = world.instances[who].running.as_ref().expect("a request").replied;
        let Effect::WriteAccount { next, .. } = &mut effect else { return effect };
        let ends_a_lease = next.lease.is_none();
        let twin = next.generation() > world.record.generation()
            && refresh_token(next) == refresh_token(&world.record);
        let trial = next.grant.as_ref().is_some_and(|grant| grant.trial.is_some());
        match self.setting.without {
            Some(Guard::SettlingAfter5xx) if ends_a_lease && replied == Replied::With5xx => {
                if let Some(mark) = usage(next).and_then(|usage| usage.mark.as_mut()) {
                    mark.settled_at = clock;
                }
            }
            Some(Guard::DoubtBeforeMark) if ends_a_lease && replied == Replied::NotCarriedOut => {
                if let Some(usage) = usage(next) {
                    usage.mark = None;
                }
            }
            Some(Guard::LossEndsWithMark) => {
                if let Some(usage) = usage(next).filter(|usage| !usage.lost_under.is_empty()) {
                    (usage.mark, usage.lost) = (None, true);
                }
            }
            Some(Guard::MarkPerToken) if trial => {
                if let Some(grant) = &mut next.grant {
                    grant.held = Usage::default();
                }
            }
            // The flow still knows the mark. The table does not.
            Some(Guard::MarkPerToken) if next.generation() == world.record.generation() => {
                let stored = world.record.grant.as_ref().filter(|grant| grant.trial.is_some());
                if let (Some(grant), Some(stored)) = (&mut next.grant, stored) {
                    grant.held.clone_from(&stored.held);
                }
            }
            Some(Guard::MarkOfTwin) if ends_a_lease && twin => {
                if let Some(grant) = &mut next.grant {
                    (grant.held, grant.send_after) = (Usage::default(), None);
                }
            }
            _ => {}
        }
        effect
    }
}

fn usage(account: &mut Account) -> Option<&mut Usage> {
    let grant = account.grant.as_mut()?;
    Some(grant.trial.as_mut().map_or(&mut grant.held, |trial| &mut trial.usage))
}

fn refresh_token(account: &Account) -> Option<&token_broker_protocol::Secret> {
    account.pair.as_ref()?.refresh_token.as_ref().map(|held| &held.token)
}

/// Asserts that the invariants hold with all guards, and that some run sends a token again without this one.
fn rests_on(guard: Guard, setting: Setting) {
    crate::check(&format!("with {guard:?}"), setting.clone(), &[]);
    let property = "I2: a token is sent again only by the rule";
    let found = HasDiscoveries::AllOf([property].into());
    let fleet = Fleet::new(Setting { without: Some(guard), ..setting });
    let checker = fleet.checker().finish_when(found).spawn_bfs().join();
    let run = checker.discovery(property).unwrap_or_else(|| panic!("no run violates it: {SENT_AGAIN}"));
    println!("without {guard:?}: violated by {} actions", run.into_actions().len());
}

fn secret(bootstrap: usize, right_client: bool) -> SecretValue {
    SecretValue { bootstrap, right_client }
}

#[test]
fn a_5xx_leaves_time_for_its_own_call_to_arrive() {
    rests_on(Guard::SettlingAfter5xx, Setting { pauses: 0, ..Setting::default() });
}

#[test]
fn a_mark_that_is_taken_back_leaves_the_doubt_before_it() {
    let setting = Setting {
        server: Behaviour::GRACEFUL,
        initial: Initial::InDoubt(100),
        clocks: vec![0],
        patience: vec![28],
        requests: vec![vec![TOKEN; 2]],
        pauses: 0,
        ..Setting::default()
    };
    rests_on(Guard::DoubtBeforeMark, setting);
}

#[test]
fn a_token_in_doubt_waits_for_its_earlier_calls() {
    rests_on(Guard::Settling, Setting { pauses: 0, ..Setting::default() });
}

#[test]
fn an_attempt_after_a_loss_is_not_repeated() {
    let setting = Setting {
        secrets: vec![secret(0, false), secret(0, true)],
        clocks: vec![0],
        patience: vec![28],
        requests: vec![vec![TOKEN; 3]],
        pauses: 0,
        ..Setting::default()
    };
    rests_on(Guard::LossEndsWithMark, setting);
}

#[test]
fn a_refused_new_grant_leaves_the_held_token_its_mark() {
    let setting = Setting {
        initial: Initial::InDoubt(100),
        secrets: vec![secret(1, false)],
        clocks: vec![0],
        patience: vec![28],
        requests: vec![vec![TOKEN; 2]],
        faults: 0,
        pauses: 0,
        ..Setting::default()
    };
    rests_on(Guard::MarkPerToken, setting);
}

#[test]
fn an_adopted_twin_keeps_the_mark_of_another_attempt() {
    let setting = Setting {
        server: Behaviour::GRACEFUL,
        initial: Initial::Twin(60),
        requests: vec![vec![TOKEN], vec![TOKEN; 2]],
        pauses: 0,
        ..Setting::default()
    };
    rests_on(Guard::MarkOfTwin, setting);
}
