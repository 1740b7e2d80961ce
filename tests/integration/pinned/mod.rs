//! Pins what the adapters send, how they read each response, and how long they wait.
//!
//! These tests deliberately repeat settings of `src/outbound`, so that no setting changes unnoticed. No test waits in
//! real time: the clock is paused while a request hangs.

mod aws;
mod connections;
mod host;
mod oauth2;
pub(crate) mod oauth2_accounts;
mod secrets;
mod table;
mod upstream;
