//! Pins what the adapters send, how they read each response, and how long they wait.
//!
//! These tests repeat settings of `src/outbound` on purpose: a setting that nobody compares can be changed unnoticed.
//! No test waits in real time. The clock is paused while a request hangs.

mod aws;
mod connections;
mod host;
mod oauth2;
mod secrets;
mod table;
mod upstream;
