//! The renewal protocol: a pure state machine that decides whether and when a token pair is renewed.
//!
//! The crate has no clock, randomness, I/O, async, AWS or HTTP. Time and one random number come in as arguments, so
//! the same code runs in production, under a model checker and in a simulation.
//!
//! A request is one [`Flow`]. [`Flow::begin`] and [`Flow::step`] return the next [`Step`]: an [`Effect`] to perform, or
//! the outcome. The driver performs the effect and feeds the [`Event`] back.
//!
//! | module | contents |
//! | --- | --- |
//! | `url` | addresses that may get tokens and passwords |
//! | `pair` | an access token with its refresh token, and what revokes them |
//! | `record` | the shared record of one account: pair, lease, cooldown |
//! | `origin` | which upstream issued a pair |
//! | `credentials` | the content of an account's secret |
//! | `login_limiter` | the fleet's login rate limiter: a sliding-window log of permits |
//! | `login_limits` | the limits of other hosts, as an operator set them |
//! | `grant` | grants that only a person can renew: which refresh token may be sent again, and when |
//! | `policy` | what the operator configures, and the arithmetic of times |
//! | `request` | what a caller asks for and gets |
//! | `failure` | why a request failed |
//! | `upstream` | calls to the upstream and what its replies mean |
//! | `effects` | what a flow asks the outside world to do, and what it gets back |
//! | `decision` | one look at a record: answer, wait, fail or renew |
//! | `clock` | the store's time, and a clock that never steps |
//! | `maintenance` | what the schedule does, and in which order |
//! | `cache` | what one instance knows about an account, and which requests that alone may answer |
//! | `flow` | the state machine |
//! | `testing` | records and random values for tests; needs the feature `testing` |

mod cache;
mod clock;
mod credentials;
mod decision;
mod effects;
mod failure;
mod flow;
mod grant;
mod login_limiter;
mod login_limits;
mod maintenance;
mod origin;
mod pair;
mod policy;
mod record;
mod request;
#[cfg(feature = "testing")]
pub mod testing;
mod upstream;
mod url;

pub use contract::{
    AccountName, Draw, Extra, Generation, Secret, ServedFrom, Timestamp, millis, seconds_rounded_up,
};

pub use cache::{Cache, CachedRecord, Lookup};
pub use clock::{Moment, Present, StoreClock, Uptime};
pub use credentials::{Client, ClientAuth, Credentials, GrantType, Login, SecretVersion};
pub use decision::{Decision, OperatorTarget, Progress, decide};
pub use effects::{
    Context, Effect, Event, Notice, Read, SecretError, ServiceRefusal, Step, StoreError, WriteOutcome,
};
pub use failure::Failure;
pub use flow::Flow;
pub use grant::{
    Adoption, Choice, Fingerprint, GrantHealth, GrantState, Mark, Predecessor, Trial, Usage, Withheld,
    adoption, choose, needs_a_person,
};
pub use login_limiter::{LimiterName, LoginDelay, LoginLimiter, Permit};
pub use login_limits::{Budget, Counts, LoginLimit, LoginLimits, Per};
pub use maintenance::{FairScheduler, IdleReason, Maintenance, Urgency, maintenance};
pub use origin::{ApiVersion, Endpoints, Origin};
pub use pair::{
    IssuedToken, MAX_TOKEN_BYTES, ObtainedBy, Pair, RefreshToken, Revocation, RevocationRetry, TokenKind,
    Verdict,
};
pub use policy::{COMMIT_RESERVE, LOGIN_WINDOW, Policy, REJECTED_SECRET_RECHECK, STORE_RETRY, STORE_TIMEOUT};
pub use record::{
    Account, AccountWrite, Cooldown, CooldownReason, Holder, Lease, MAX_PENDING_BYTES,
    MAX_PENDING_REVOCATIONS, RejectedSecret, Version,
};
pub use request::{Answer, Intent, Outcome, Request, Task};
pub use upstream::{
    Call, Expiry, NewRefreshToken, Renewal, TokenResponse, Unclear, UpstreamFault, UpstreamReply,
};
pub use url::{InvalidUrl, UpstreamUrl};
