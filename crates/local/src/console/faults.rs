//! The switches for the emulators' faults.

use emulators::{
    World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault},
};
use serde_json::{Value, json};

const UPSTREAM: [(Endpoint, &str); 3] = [
    (Endpoint::Login, "Convirza: login"),
    (Endpoint::Refresh, "Convirza: refresh"),
    (Endpoint::Profile, "Convirza: API"),
];
const STORE: &str = "store";
const SECRETS: &str = "secrets";

/// Each place, its possible faults, and the one that is on.
pub(super) fn state(world: &World) -> Vec<Value> {
    let aws = |place: &str, label: &str, planned: Option<AwsFault>| {
        let names = AwsFault::ALL.map(AwsFault::name);
        json!({"place": place, "label": label, "faults": names, "planned": planned.map(AwsFault::name)})
    };
    let mut places: Vec<Value> = UPSTREAM
        .iter()
        .map(|(endpoint, label)| {
            let names: Vec<_> =
                Fault::ALL.iter().filter(|fault| fault.fits(*endpoint)).map(Fault::name).collect();
            let planned = world.convirza.faults().planned(endpoint);
            json!({
                "place": endpoint.name(),
                "label": label,
                "faults": names,
                "planned": planned.as_ref().map(Fault::name),
            })
        })
        .collect();
    places.push(aws(STORE, "DynamoDB", world.dynamodb.faults().planned(&Operations::All)));
    places.push(aws(SECRETS, "Secrets Manager", world.secrets_manager.faults().planned(&Operations::All)));
    places
}

/// Sets a place's fault, until another or none is set.
pub(super) fn set(world: &World, place: &str, name: Option<&str>) -> Result<(), &'static str> {
    const UNKNOWN: &str = "there is no such fault at this place";
    let aws = match place {
        STORE => Some(world.dynamodb.faults()),
        SECRETS => Some(world.secrets_manager.faults()),
        _ => None,
    };
    if let Some(faults) = aws {
        let fault = name.map(|name| AwsFault::parse(name).ok_or(UNKNOWN)).transpose()?;
        faults.put(Operations::All, fault);
        return Ok(());
    }
    let (endpoint, _) =
        *UPSTREAM.iter().find(|(endpoint, _)| endpoint.name() == place).ok_or("there is no such place")?;
    let fault = |name| {
        Fault::from_name(name, Some("60".to_owned())).filter(|fault| fault.fits(endpoint)).ok_or(UNKNOWN)
    };
    world.convirza.faults().put(endpoint, name.map(fault).transpose()?);
    Ok(())
}
