//! The seeds of each target, and random but reproducible changes of them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};
use token_broker_fuzz::{TARGETS, Target};

const CHANGED_INPUTS: usize = 4_000;
const LONGEST: usize = 4096;

/// The seeds of a target. Those of `event` include the events of the repository.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![crate_folder.join("seeds").join(target.name)];
    if target.name == "event" {
        folders.push(crate_folder.join("../../events"));
    }
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Applies a few changes, as a fuzzer does.
fn changed(seed: &[u8], other: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=input.len());
        let end = (at + random.usize(0..24)).min(input.len());
        match random.u8(0..5) {
            0 => input.insert(at, random.u8(..)),
            1 => drop(input.drain(at..end)),
            2 => {
                let copy = input[at..end].to_vec();
                let to = random.usize(0..=input.len());
                input.splice(to..to, copy);
            }
            3 if !other.is_empty() => {
                let from = random.usize(0..other.len());
                let part = &other[from..(from + random.usize(0..64)).min(other.len())];
                input.splice(at..end, part.iter().copied());
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.u8(0..8);
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(target);
    assert!(seeds.len() > 1, "{name} has seeds");
    for seed in &seeds {
        (target.check)(seed);
    }
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..CHANGED_INPUTS {
        let (seed, other) = (random.choice(&seeds).unwrap(), random.choice(&seeds).unwrap());
        let input = changed(seed, other, &mut random);
        let result = std::panic::catch_unwind(|| (target.check)(&input));
        assert!(result.is_ok(), "{name}: {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn every_target_is_run() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, ["event", "body", "response", "secret", "agent"]);
}

#[test]
fn events() {
    run("event");
}

#[test]
fn bodies() {
    run("body");
}

#[test]
fn responses() {
    run("response");
}

#[test]
fn secrets() {
    run("secret");
}

#[test]
fn requests_to_the_agent() {
    run("agent");
}
