//! A pair that was obtained and could not be saved, after another attempt has written the record.

use super::{Fingerprint, GrantState, Mark, Usage};
use crate::{Account, Context, Pair, RefreshToken, Secret};

/// How to handle a pair that was obtained but could not be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one exists at a time, and is taken apart at once")]
pub enum Adoption {
    /// It is the current grant: this record has to be written.
    Adopt(Account),
    /// Another attempt holds the lease. The pair is kept in memory.
    Later,
    /// The record holds this pair, or a later one.
    Superseded,
    /// An operator revoked the grant meanwhile.
    Withdrawn,
}

/// How to handle a pair that was obtained but could not be saved, after another attempt has written the record.
///
/// The pair belongs to the grant if the record still holds the token that obtained it, or that token's other successor.
/// Of two successors, the one that was requested last counts, so generations grow.
pub fn adoption(pending: &Account, record: &Account, cx: Context<'_>) -> Adoption {
    let obtained = (pending.pair.as_ref(), pending.grant.as_deref().and_then(|own| own.predecessor));
    let ((Some(pair), Some(predecessor)), Some(stored)) = (obtained, &record.grant) else {
        return Adoption::Superseded;
    };
    let is_leased = record.active_lease(cx.now).is_some();
    if record.pair.is_none() && stored.trial.is_none() {
        return if is_leased { Adoption::Later } else { Adoption::Withdrawn };
    }
    let known = record.pair.as_ref();
    let was_sent = |token: &Secret| Fingerprint::of(token) == predecessor.token;
    let trial = stored.trial.as_ref().filter(|trial| was_sent(&trial.token));
    let held = known.and_then(|pair| pair.refresh_token.as_ref());
    let is_twin = stored.predecessor.is_some_and(|other| other.token == predecessor.token);
    let follows = trial.is_some() || is_twin || held.is_some_and(|held| was_sent(&held.token));
    if !follows || known.is_some_and(|known| known.generation >= pair.generation) {
        return Adoption::Superseded;
    }
    if is_leased {
        return Adoption::Later;
    }
    let replaced = trial.map_or(&stored.held, |trial| &trial.usage);
    let others = replaced.mark.filter(|mark| mark.by != predecessor.by);
    let kept_trial = stored.trial.clone().filter(|_| trial.is_none());
    // Another attempt has sent the predecessor, and may have obtained a later successor, the only valid one at some
    // servers. If the grace period lasts long enough, the predecessor is sent once more, and yields the valid one.
    let is_resent = |mark: Mark| {
        let latest = mark.at.plus(stored.resend_within).minus(cx.policy.longest_travel());
        !is_twin && !replaced.lost && cx.now.max(mark.settled_at) < latest
    };
    let own = pair.refresh_token.clone();
    let marked = trial.map(|trial| &trial.token).or(held.map(|held| &held.token));
    let stays = marked.is_some() && marked == own.as_ref().map(|own| &own.token);
    let earlier_life = own.as_ref().and_then(|own| own.earlier_life);
    let resent = others.is_some_and(is_resent).then(|| {
        marked.map(|token| RefreshToken {
            token: token.clone(),
            expires_at: None,
            consumed: false,
            earlier_life,
        })
    });
    let grant = GrantState {
        // A mark that another attempt made for the same token stays.
        held: if resent.is_some() || (stays && others.is_some()) {
            replaced.clone()
        } else {
            own_usage(pending)
        },
        trial: kept_trial,
        sent: stored.sent.clone(),
        predecessor: Some(predecessor),
        send_after: others.map(|mark| mark.settled_at).max(stored.send_after),
        resend_within: stored.resend_within,
    };
    let pair = Pair { refresh_token: resent.unwrap_or(own), ..pair.clone() };
    Adoption::Adopt(Account {
        pair: Some(pair),
        grant: Some(Box::new(grant)),
        cooldown: pending.cooldown,
        young_deaths: pending.young_deaths,
        early_refresh_after: None,
        ..record.clone()
    })
}

fn own_usage(pending: &Account) -> Usage {
    pending.grant.as_ref().map(|own| own.held.clone()).unwrap_or_default()
}
