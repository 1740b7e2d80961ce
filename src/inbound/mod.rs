//! Lambda events: direct invocations, HTTP requests from API Gateway and Function URLs, and the schedule.
//!
//! Each event is classified, answered, recorded and responded to once, in `Handler::handle`.
//!
//! | module | contents |
//! | --- | --- |
//! | `handler` | an event in, a response out |
//! | `event` | the text of an event, and its shape |
//! | `invocation` | an event, its alias and its deadline, classified; the response |
//! | `aliases` | the alias that each way in uses |
//! | `audit` | records how it ended |
//! | `http` | HTTP requests and responses |
//! | `response` | the contract's answers and errors |
//! | `status` | the status answer |
//! | [`authorization`] | who may do what |
//! | [`way_in`] | the ways in, and how long each caller waits |

mod aliases;
mod audit;
pub mod authorization;
mod event;
mod handler;
mod http;
mod invocation;
mod response;
mod status;
pub mod way_in;

pub use aliases::Aliases;
pub use event::Payload;
pub use handler::Handler;
pub use invocation::Response;
