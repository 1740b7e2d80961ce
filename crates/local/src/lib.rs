//! A real broker on emulated services. `cargo local` and the integration tests share it.

pub mod console;
pub mod front;
pub mod wiring;
