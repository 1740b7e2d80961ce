//! The faults of a run, named or drawn from the seed.

use emulators::{
    World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Event, Fault, Outcome},
};
use std::{convert::Infallible, fmt, time::Duration};
use tokio::time::Instant;

/// A fault, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    Upstream(Endpoint, Fault),
    Store(AwsFault),
}

/// The least time between two faults.
const PAUSE: Duration = Duration::from_millis(100);

/// A permission that is missing for only one request is not a realistic fault.
const STORE: [AwsFault; 5] =
    [AwsFault::Unavailable, AwsFault::Throttled, AwsFault::LostReply, AwsFault::Reset, AwsFault::Hang];

/// The upstream faults that may be drawn. Others have to be named: those that stop an account for a minute, and those
/// that hide the expiry, because the pair would outlast the run and would not be renewed.
const DRAWN: [&str; 6] = ["server_error", "lost_reply", "reset", "hang", "truncated", "bad_gateway_html"];

/// Each fault may cost a login. With the first login, that makes the five per minute that [`super::LOGIN_BUDGET`] gives
/// an account. More faults would stop the run for the rest of the minute.
pub(super) const MOST_DRAWN_UPSTREAM: usize = 4;

/// The faults of a run, or none if the options ask for the list of faults.
pub(super) fn choose(named: &[String], random: u32, seed: u64) -> Result<Option<Vec<Planned>>, String> {
    if named.iter().any(|name| name == "help") {
        return Ok(None);
    }
    let mut chosen = named.iter().map(|name| parse(name)).collect::<Result<Vec<_>, _>>()?;
    let mut chance = fastrand::Rng::with_seed(seed);
    // There is a login at the start, and after each failed refresh.
    let (mut logins, mut upstream) = (1, 0);
    for _ in 0..random {
        let place = match chance.u32(..4) {
            _ if upstream == MOST_DRAWN_UPSTREAM => "store",
            0 if logins > 0 => "login",
            0..=2 => "refresh",
            _ => "store",
        };
        match place {
            "login" => (logins, upstream) = (logins - 1, upstream + 1),
            "refresh" => (logins, upstream) = (logins + 1, upstream + 1),
            _ => {}
        }
        let what = if place == "store" {
            STORE.get(chance.usize(..STORE.len())).map_or("reset", |fault| fault.name())
        } else {
            DRAWN.get(chance.usize(..DRAWN.len())).copied().unwrap_or("reset")
        };
        chosen.push(parse(&format!("{place}={what}"))?);
    }
    Ok(Some(chosen))
}

/// The faults that can be named.
pub(super) fn help() -> String {
    let upstream = |endpoint| {
        let fitting = Fault::ALL.iter().filter(|fault| ends(endpoint, fault));
        fitting.map(Fault::name).collect::<Vec<_>>().join(" ")
    };
    let (login, refresh) = (upstream(Endpoint::Login), upstream(Endpoint::Refresh));
    format!("login=: {login}\nrefresh=: {refresh}\nstore=: {}", STORE.map(AwsFault::name).join(" "))
}

/// Whether a fault can happen at this endpoint and the fleet recovers without a person, which rejected credentials
/// need.
fn ends(endpoint: Endpoint, fault: &Fault) -> bool {
    fault.fits(endpoint) && (endpoint, fault) != (Endpoint::Login, &Fault::WrongPassword)
}

fn parse(text: &str) -> Result<Planned, String> {
    let unknown = || format!("there is no fault {text}; the faults are:\n{}", help());
    let (place, what) = text.split_once('=').ok_or_else(unknown)?;
    if place == "store" {
        let fault = AwsFault::parse(what).filter(|fault| STORE.contains(fault));
        return fault.map(Planned::Store).ok_or_else(unknown);
    }
    let endpoint = Endpoint::parse(place).filter(|endpoint| endpoint.returns_a_pair()).ok_or_else(unknown)?;
    let fault = Fault::from_name(what, Some("60".to_owned())).filter(|fault| ends(endpoint, fault));
    Ok(Planned::Upstream(endpoint, fault.ok_or_else(unknown)?))
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(endpoint, fault) => write!(formatter, "{}={}", endpoint.name(), fault.name()),
            Self::Store(fault) => write!(formatter, "store={}", fault.name()),
        }
    }
}

impl Planned {
    /// Whether the broker stops logins for a minute.
    pub(super) fn stops_logins(&self) -> bool {
        let stops =
            |fault: &Fault| matches!(fault, Fault::RateLimited { .. } | Fault::BadRequest | Fault::Forbidden);
        matches!(self, Self::Upstream(_, fault) if stops(fault))
    }
}

/// How many faults the brokers met so far.
pub(super) fn injected(world: &World) -> u64 {
    world.convirza.faults().injected() + world.dynamodb.faults().injected()
}

/// Plans the faults. Each waits until a request has met the previous one at the same place. A fault at a login also
/// waits for a login without a fault, because the cooldown would double otherwise. Faults of the store are spread over
/// the run. `met` is notified when a fault was met.
pub(super) async fn inject(
    world: &World,
    faults: &[Planned],
    spread: Duration,
    met: impl Fn(Instant),
) -> Infallible {
    let between = (spread / u32::try_from(faults.len() + 1).unwrap_or(u32::MAX)).max(PAUSE);
    let upstream = async |place: Endpoint| {
        for fault in faults {
            if let Planned::Upstream(endpoint, fault) = fault
                && *endpoint == place
            {
                world.convirza.faults().set(place, fault.clone(), Some(1));
                let mut events = world.convirza.subscribe();
                world.convirza.faults().met(&place).await;
                met(Instant::now());
                while place == Endpoint::Login && !events.recv().await.is_ok_and(|event| is_login(&event)) {}
            }
        }
    };
    let store = async {
        for fault in faults {
            if let Planned::Store(fault) = fault {
                world.dynamodb.faults().set(Operations::All, *fault, Some(1));
                world.dynamodb.faults().met(&Operations::All).await;
                met(Instant::now());
                tokio::time::sleep(between).await;
            }
        }
    };
    tokio::join!(upstream(Endpoint::Login), upstream(Endpoint::Refresh), store);
    std::future::pending().await
}

/// Whether this is the end of a login that opened a session.
fn is_login(event: &Event) -> bool {
    event.endpoint == Endpoint::Login && event.fault.is_none() && event.outcome == Outcome::Answered(200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_fault_at_a_login_has_a_login_to_meet() {
        for seed in 0..1_000 {
            let mut logins = 1;
            let faults = choose(&[], 10, seed).unwrap().unwrap();
            let upstream = faults.iter().filter(|fault| matches!(fault, Planned::Upstream(..))).count();
            assert_eq!(faults.len(), 10, "seed {seed}");
            assert!(upstream <= 4, "seed {seed}");
            for fault in faults {
                match fault {
                    Planned::Upstream(Endpoint::Login, _) => logins -= 1,
                    Planned::Upstream(..) => logins += 1,
                    Planned::Store(_) => {}
                }
                assert!(logins >= 0, "seed {seed}");
            }
        }
    }

    #[test]
    fn only_faults_that_end_can_be_named() {
        let named = |text: &str| choose(&[text.to_owned()], 0, 1);
        named("login=wrong_password").unwrap_err();
        named("login=keeps_refresh_token").unwrap_err();
        named("refresh=wrong_password").unwrap();
        named("store=access_denied").unwrap_err();
    }
}
