//! A real broker on emulated services: the wiring that `cargo local` and the integration tests share.

pub mod front;
pub mod wiring;
