//! Which token may be sent (I2), which grant may be lost (I6), and what callers get.

use crate::{
    environment::Fate,
    model::{Fleet, is_quiet},
    server::{Server, number_of, refresh_token},
    setting::{Behaviour, GRACE, Grace, Setting, TOKEN},
    world::{Running, Use, World},
};
use std::time::Duration;
use token_broker_protocol::{
    Account, Answer, Cache, Effect, Failure, Fingerprint, Intent, Outcome, SecretVersion, ServedFrom,
    Timestamp, UpstreamReply, Verdict,
};

pub(crate) const SENT_AGAIN: &str = "a token is sent again only by the rule";
/// How often a caller calls until it is served.
const CALLS: usize = 16;
/// Effects of one request.
const EFFECTS: usize = 60;
/// How far apart the clocks that measure a grace period may be.
const SLACK: Duration = Duration::from_secs(2);

impl Fleet {
    /// I2. A token that may have been used is sent again only by (i) to (iv) of `docs/PROTOCOL.md`.
    pub(crate) fn check_send(&self, world: &mut World, token: usize, version: &SecretVersion) {
        let now = world.now;
        let earlier: Vec<_> = world.sends.iter().filter(|sent| sent.token == token).collect();
        // A refusal under the same version may not have been saved.
        let may_be_used = || {
            let other = |refused: &SecretVersion| refused != version;
            earlier.iter().filter(move |sent| !sent.refused.as_ref().is_some_and(other))
        };
        let settled = may_be_used().all(|sent| sent.until <= now);
        let in_grace = self.setting.server.grace != Grace::None
            && may_be_used().all(|sent| now.plus(self.travel()) <= sent.at.plus(GRACE));
        let nothing_left = world
            .record
            .pair
            .as_ref()
            .is_none_or(|pair| pair.verdict == Verdict::Dead || pair.expires_at <= now);
        let first = may_be_used().next().is_none();
        match (first, earlier.is_empty(), in_grace) {
            (true, false, _) => self.saw("a lost token sent once more"),
            (false, _, true) => self.saw("a token sent again within grace"),
            (false, _, false) => self.saw("a token sent as the last resort"),
            (true, true, _) => {}
        }
        world.demand(first || (settled && (in_grace || nothing_left)), SENT_AGAIN);
    }

    /// I3: generations grow, and each names one pair.
    pub(crate) fn check_write(&self, world: &mut World, next: &Account) {
        let Some(pair) = &next.pair else { return };
        let access = number_of(&pair.access_token);
        let grows = world.record.generation().is_none_or(|generation| generation <= pair.generation);
        let known = world.generations.iter().find(|(generation, _)| *generation == pair.generation).copied();
        world.demand(grows, "generations grow");
        world.demand(known.is_none_or(|(_, known)| known == access), "a generation names one pair");
        if known.is_none() {
            self.saved(world, access, pair.refresh_token.as_ref().map(|held| number_of(&held.token)));
            world.generations.push((pair.generation, access));
            world.generations.sort_unstable();
        }
        if next.grant.as_ref().is_some_and(|grant| grant.send_after.is_some()) {
            self.saw("a pair that is adopted");
        }
    }

    /// A pair is saved. The token that obtained it is unsaved no longer, if this happens before its mark settles.
    fn saved(&self, world: &mut World, access: usize, refresh: Option<usize>) {
        let Some(token) = predecessor_of(&world.server, access) else { return };
        let sends = world.sends.iter().filter(|sent| sent.brought == Some(access));
        let is_late = sends.map(|sent| sent.settled_at).max().is_none_or(|at| at <= world.now);
        let successor = world.server.refresh_tokens[token].successor.map(|(refresh, _)| refresh);
        if is_late {
            world.lose(token);
        } else if refresh == successor {
            world.uses.remove(&token);
        }
    }

    /// I4, and every caller is answered while the instance knows a usable token.
    pub(crate) fn check_result(&self, world: &mut World, who: usize, result: &Result<Outcome, Failure>) {
        let running = world.instances[who].running.as_ref().expect("a request");
        let clock = world.clock(&self.setting, who);
        match result {
            Ok(Outcome::Token(answer)) => {
                let kept_until = world.now.plus(Duration::from_secs(answer.expires_in_seconds));
                let expires_at = world.server.access_tokens[number_of(&answer.access_token)].expires_at;
                world.demand(kept_until <= expires_at, "an answer is valid");
            }
            Ok(_) => {}
            Err(failure) => {
                let pair = running.flow.cache().record.as_ref().and_then(|it| it.account.pair.clone());
                let usable = pair
                    .filter(|pair| pair.verdict != Verdict::Dead)
                    .and_then(|pair| Answer::from_pair(&pair, &Setting::POLICY, clock, ServedFrom::Memory));
                let is_token = matches!(running.intent, Intent::Token { .. });
                world.demand(!is_token || usable.is_none(), "every caller is answered with a usable token");
                if *failure == Failure::GrantLost {
                    self.saw("a grant that is lost");
                }
            }
        }
    }

    /// An instance is about to crash. A pair that only it knows is lost with it.
    pub(crate) fn check_crash(&self, world: &mut World, who: usize) {
        let instance = &world.instances[who];
        let pending = instance.cache.pending_write.as_ref().and_then(|write| write.next.pair.as_ref());
        let written = match &instance.running {
            Some(Running { effect: Effect::WriteAccount { next, .. }, .. }) => next.pair.as_ref(),
            _ => None,
        };
        let cached = instance.cache.record.as_ref().and_then(|cached| cached.account.pair.as_ref());
        let known: Vec<usize> = [pending, written, cached]
            .into_iter()
            .flatten()
            .map(|pair| number_of(&pair.access_token))
            .collect();
        for access in known {
            let is_saved = world.generations.iter().any(|(_, saved)| *saved == access);
            let predecessor = predecessor_of(&world.server, access);
            if let (false, Some(token)) = (is_saved, predecessor) {
                world.lose(token);
            }
        }
    }

    /// Whether the rule allows that a token, whose next use comes at `next`, costs its grant. Each condition is a part of
    /// I6 in `docs/PROTOCOL.md`. (The network of this model carries no call out twice.)
    pub(crate) fn is_excused(
        &self,
        world: &World,
        token: usize,
        next: Timestamp,
        is_lost: impl Fn(&Use) -> bool,
    ) -> bool {
        let may_cost = |token: usize| {
            // "The server carried out the call", ...
            let tokens = &world.server.refresh_tokens;
            let Some((it, used_at)) = world.uses.get(&token).zip(tokens[token].used_at) else { return false };
            // ... "the reply was lost or saved after the mark had settled", ...
            let is_lost = is_lost(it);
            // ... and "no instance was free within a grace period". Only a further fault makes the next use late.
            let next = if it.struck_again { next } else { world.now };
            is_lost && (self.setting.server.grace == Grace::None || next > last_resend(used_at))
        };
        let sent = &world.server.refresh_tokens[token];
        // If the server keeps only the newest successor valid, the call may be one of its predecessor.
        let of_predecessor = !sent.is_newest && sent.predecessor.is_some_and(may_cost);
        world.excused.contains(&sent.family) || may_cost(token) || of_predecessor
    }
}

fn last_resend(used_at: Timestamp) -> Timestamp {
    used_at.plus(GRACE).minus(Setting::POLICY.longest_travel() + SLACK)
}

fn predecessor_of(server: &Server, access: usize) -> Option<usize> {
    server
        .refresh_tokens
        .iter()
        .position(|token| token.successor.is_some_and(|(_, brought)| brought == access))
}

/// I6. If nothing fails from now on, the fleet serves tokens again, unless a call was carried out and its tokens were
/// not saved in time.
pub(crate) fn no_grant_is_lost(fleet: &Fleet, world: &World) -> bool {
    let client_is_right = fleet.setting.secrets[world.secret - 1].right_client;
    if world.violated.is_some() || world.is_revoked || !client_is_right || !is_quiet(world) {
        return true;
    }
    let behaviour = fleet.setting.server;
    let bootstrap = fleet.setting.secrets[world.secret - 1].bootstrap;
    let state = world.record.grant.as_deref();
    let was_sent = |token: &usize| {
        let fingerprint = Fingerprint::of(&refresh_token(*token));
        state.is_some_and(|state| state.sent.contains(&fingerprint))
    };
    let new = Some(bootstrap).filter(|token| !was_sent(token));
    let held = tokens_of(&world.record);
    // The earliest next attempt: until then, a call with the token or its predecessor may still arrive.
    let settled_at =
        state.and_then(|state| state.current().mark.map(|mark| mark.settled_at).max(state.send_after));
    let cooldown = world.record.cooldown.map(|cooldown| cooldown.until);
    let next = settled_at.max(cooldown);
    let renewable = |token: usize| renews(world, behaviour, token, next);
    let mut kept = new.into_iter().chain(held.iter().copied()).any(renewable);
    let mut served = !kept || is_served(fleet, world, None);
    for (who, instance) in world.instances.iter().enumerate() {
        let pending = instance.cache.pending_write.as_ref();
        if pending.is_some_and(|write| tokens_of(&write.next).into_iter().any(renewable)) {
            kept = true;
            served |= is_served(fleet, world, Some(who));
        }
    }
    let next = next.unwrap_or(world.now).max(world.now);
    let is_excused = |token: &usize| fleet.is_excused(world, *token, next, |it| it.is_lost);
    if kept { served } else { !held.is_empty() && held.iter().all(is_excused) }
}

fn tokens_of(account: &Account) -> Vec<usize> {
    let held = account.pair.as_ref().and_then(|pair| pair.refresh_token.as_ref()).map(|held| &held.token);
    let trial = account.grant.as_ref().and_then(|grant| grant.trial.as_ref()).map(|trial| &trial.token);
    held.into_iter().chain(trial).map(number_of).collect()
}

/// Whether a token brings a pair as soon as the rule allows it to be sent.
fn renews(world: &World, server: Behaviour, token: usize, settled_at: Option<Timestamp>) -> bool {
    let used_at = world.server.refresh_tokens[token].used_at.filter(|_| server.rotates);
    let in_time = used_at.is_none_or(|at| world.now.max(settled_at.unwrap_or(world.now)) <= last_resend(at));
    in_time && matches!(world.server.clone().refresh(server, token, world.now), UpstreamReply::Granted(_))
}

/// Whether an instance, or one that has just started, gets a new pair after a while.
fn is_served(fleet: &Fleet, world: &World, who: Option<usize>) -> bool {
    let fleet = Fleet::new(Setting { horizon: 5_000, faults: 0, ..fleet.setting.clone() });
    let mut world = world.clone();
    (world.faults_left, world.pauses_left) = (0, 9);
    if who.is_none() {
        world.instances[0].cache = Cache::default();
    }
    let who = who.unwrap_or_default();
    for _ in 0..CALLS {
        let Some(result) = call(&fleet, &mut world, who) else { return false };
        let held = tokens_of(&world.record);
        let sound = held.len() == 1 && renews(&world, fleet.setting.server, held[0], None);
        if let (Ok(Outcome::Token(answer)), true) = (&result, sound) {
            let unmarked = world.record.grant.as_ref().is_some_and(|state| state.held.mark.is_none());
            if unmarked && world.server.access_tokens[number_of(&answer.access_token)].alive {
                return world.violated.is_none();
            }
        }
        let soon = world.now.plus(Duration::from_secs(1));
        let next = fleet.instants(&world).into_iter().next();
        world.pass_until(next.unwrap_or(soon));
    }
    false
}

fn call(fleet: &Fleet, world: &mut World, who: usize) -> Option<Result<Outcome, Failure>> {
    let mut ended = fleet.begin(world, who, TOKEN);
    for _ in 0..EFFECTS {
        if ended.is_some() {
            return ended;
        }
        let event = fleet.perform(world, who, Fate::Normal);
        ended = fleet.step(world, who, event);
    }
    None
}
