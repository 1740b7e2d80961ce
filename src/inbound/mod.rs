//! Lambda events: direct invokes, HTTP requests of API Gateway and Function URLs, and the schedule.
//!
//! | module | contents |
//! | --- | --- |
//! | `handler` | an event in, an answer out |
//! | `event` | the text of an event |
//! | `aliases` | the alias that each way in uses |
//! | `audit` | records what became of it |
//! | `http` | HTTP requests and responses |
//! | `response` | the contract's answers and errors |
//! | `status` | the status answer |
//! | [`authorization`] | who may do what |
//! | [`deadline`] | how long the caller waits |

mod aliases;
mod audit;
pub mod authorization;
pub mod deadline;
mod event;
mod handler;
mod http;
mod response;
mod status;

pub use aliases::Aliases;
pub use event::Payload;
pub use handler::{Handler, Response};
pub use response::RequestError;
