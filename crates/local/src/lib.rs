//! A real broker and its agent on emulated services. `cargo local` and the integration tests share them.

pub mod agent;
mod clock;
pub mod console;
pub mod front;
pub mod stack;
pub mod wiring;
