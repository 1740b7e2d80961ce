//! The faults of a run, chosen by name or drawn from the seed.

use emulators::{
    World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault},
};
use std::time::Duration;

/// A fault, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    Upstream(Endpoint, Fault),
    Store(AwsFault),
}

/// The least time between two faults.
const PAUSE: Duration = Duration::from_millis(100);

/// A permission that is missing for one request is no fault that happens.
const STORE: [AwsFault; 5] =
    [AwsFault::Unavailable, AwsFault::Throttled, AwsFault::LostReply, AwsFault::Reset, AwsFault::Hang];

/// The upstream faults that may be drawn. Faults that stop an account for a minute have to be named.
const DRAWN: [&str; 6] = ["server_error", "lost_reply", "reset", "hang", "truncated", "expiry_missing"];

/// The faults of a run, or none if the options ask for the list of faults.
pub(super) fn choose(named: &[String], random: u32, seed: u64) -> Result<Option<Vec<Planned>>, String> {
    if named.iter().any(|name| name == "help") {
        return Ok(None);
    }
    let mut chosen = named.iter().map(|name| parse(name)).collect::<Result<Vec<_>, _>>()?;
    let mut chance = fastrand::Rng::with_seed(seed);
    for _ in 0..random {
        let place =
            ["login", "refresh", "refresh", "store"].get(chance.usize(..4)).copied().unwrap_or("store");
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
    let names = |names: Vec<&str>| names.join(" ");
    let upstream = Fault::ALL.iter().filter(|fault| fault.fits(Endpoint::Login)).map(Fault::name).collect();
    let store = STORE.iter().map(|fault| fault.name()).collect();
    format!("login=, refresh=: {}\nstore=: {}", names(upstream), names(store))
}

fn parse(text: &str) -> Result<Planned, String> {
    let unknown = || format!("there is no fault {text}; there are:\n{}", help());
    let (place, what) = text.split_once('=').ok_or_else(unknown)?;
    if place == "store" {
        let fault = AwsFault::from_name(what).filter(|fault| STORE.contains(fault));
        return fault.map(Planned::Store).ok_or_else(unknown);
    }
    let endpoint =
        Endpoint::from_name(place).filter(|endpoint| endpoint.returns_a_pair()).ok_or_else(unknown)?;
    let fault = Fault::from_name(what, Some("60".to_owned())).filter(|fault| fault.fits(endpoint));
    Ok(Planned::Upstream(endpoint, fault.ok_or_else(unknown)?))
}

/// Plans the faults one after another over the run. Each waits for a request that meets it.
pub(super) async fn inject(world: &World, faults: Vec<Planned>, spread: Duration) {
    let between = (spread / u32::try_from(faults.len() + 1).unwrap_or(u32::MAX)).max(PAUSE);
    for fault in faults {
        match fault {
            Planned::Upstream(endpoint, fault) => world.convirza.faults().set(endpoint, fault, Some(1)),
            Planned::Store(fault) => world.dynamodb.faults().set(Operations::All, fault, Some(1)),
        }
        tokio::time::sleep(between).await;
    }
}
