//! token-broker's agent: tokens on localhost, for callers without client code.
//!
//! One binary is a Lambda extension, a sidecar and the operator's command line. It asks the broker through
//! [`token_broker_client`], keeps tokens in memory only, and never logs in to Convirza.
//!
//! | module | contents |
//! | --- | --- |
//! | `settings` | the environment, parsed once |
//! | `gate` | access rules: `Host`, `X-Forwarded-For`, guard token. Pure |
//! | `guard` | the guard token, reread when its file changes |
//! | `route` | routes by method and path. Pure |
//! | `query` | the options of a token request. Pure |
//! | `oauth` | the OAuth 2.0 token endpoint |
//! | `proxy` | requests to the API with the account's token |
//! | `reply` | responses |
//! | `agent`, `server`, `stream`, `connections` | handle a request; accept connections; limit unauthenticated ones |
//! | `extension` | Lambda's Extensions API |
//! | `cli`, `operator` | the command line; the commands that call broker or agent once |

mod agent;
pub mod cli;
mod connections;
mod extension;
pub mod gate;
mod guard;
mod log;
mod oauth;
mod operator;
pub mod proxy;
mod query;
mod reply;
pub mod route;
mod run;
mod server;
mod settings;
mod stream;

pub use agent::Agent;
pub use guard::Guard;
pub use run::run;
pub use server::Listening;
pub use settings::{Settings, SettingsError};
