//! libFuzzer, on the target that the variable `FUZZ_TARGET` names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use token_broker_fuzz::TARGETS;

static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let check = CHECK.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        let target = TARGETS.iter().find(|target| target.name == name).expect("FUZZ_TARGET names a target");
        target.check
    });
    check(bytes);
});
