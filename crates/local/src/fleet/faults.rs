//! The faults of a run: what may happen where, chosen by name or drawn by the seed.

use super::super::world::{
    World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault},
};
use std::time::Duration;

/// A fault, and where it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// At Convirza.
    Upstream(Endpoint, Fault),
    /// At DynamoDB.
    Store(AwsFault),
}

/// The least time between two faults of a run that is not spread over a time.
const PAUSE: Duration = Duration::from_millis(100);

const STORE: [(&str, AwsFault); 5] = [
    ("unavailable", AwsFault::Unavailable),
    ("throttled", AwsFault::Throttled),
    ("lost_reply", AwsFault::LostReply),
    ("reset", AwsFault::Reset),
    ("hang", AwsFault::Hang),
];

/// The upstream faults that the seed may draw. Those that stop an account for a minute are left to be named.
const DRAWN: [&str; 6] = ["server_error", "lost_reply", "reset", "hang", "truncated", "expiry_missing"];

/// The faults that were asked for, or none where the list of them was.
pub fn choose(named: &[String], random: u32, seed: u64) -> Result<Option<Vec<Planned>>, String> {
    if named.iter().any(|name| name == "help") {
        return Ok(None);
    }
    let mut chosen = named.iter().map(|name| parse(name)).collect::<Result<Vec<_>, _>>()?;
    let mut chance = fastrand::Rng::with_seed(seed);
    for _ in 0..random {
        let place =
            ["login", "refresh", "refresh", "store"].get(chance.usize(..4)).copied().unwrap_or("store");
        let what = if place == "store" {
            STORE.get(chance.usize(..STORE.len())).map_or("reset", |(name, _)| name)
        } else {
            DRAWN.get(chance.usize(..DRAWN.len())).copied().unwrap_or("reset")
        };
        chosen.push(parse(&format!("{place}={what}"))?);
    }
    Ok(Some(chosen))
}

/// The faults that can be named.
pub fn help() -> String {
    let names = |names: Vec<&str>| names.join(" ");
    let upstream = Fault::ALL.iter().filter(|fault| fault.fits(Endpoint::Login)).map(Fault::name).collect();
    let store = STORE.iter().map(|(name, _)| *name).collect();
    format!("login=, refresh=: {}\nstore=: {}", names(upstream), names(store))
}

fn parse(text: &str) -> Result<Planned, String> {
    let unknown = || format!("there is no fault {text}; there are:\n{}", help());
    let (place, what) = text.split_once('=').ok_or_else(unknown)?;
    if place == "store" {
        let fault = STORE.iter().find(|(name, _)| *name == what).map(|(_, fault)| *fault);
        return fault.map(Planned::Store).ok_or_else(unknown);
    }
    let endpoint =
        Endpoint::from_name(place).filter(|endpoint| endpoint.answers_a_pair()).ok_or_else(unknown)?;
    let fault = Fault::from_name(what, Some("60".to_owned())).filter(|fault| fault.fits(endpoint));
    Ok(Planned::Upstream(endpoint, fault.ok_or_else(unknown)?))
}

/// Lets the faults happen, one after another over the run. Each one lies in wait until a request meets it.
pub async fn play(world: &World, faults: Vec<Planned>, spread: Duration) {
    let between = (spread / u32::try_from(faults.len() + 1).unwrap_or(u32::MAX)).max(PAUSE);
    for fault in faults {
        match fault {
            Planned::Upstream(endpoint, fault) => world.convirza.faults().set(endpoint, fault, Some(1)),
            Planned::Store(fault) => world.dynamodb.faults().set(Operations::All, fault, Some(1)),
        }
        tokio::time::sleep(between).await;
    }
}
