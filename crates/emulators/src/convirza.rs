//! Convirza's authentication, V3 and V2, as far as its documentation goes, with all hosts on one port.
//!
//! Where the documentation is silent, [`Behaviour`] chooses; what must not happen but does,
//! [`Fault`] brings about.

mod answer;
mod control;
mod faults;
mod happening;
mod login_limit;
mod routes;
mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use self::login_limit::LoginLimit;
use self::sessions::Sessions;
use super::StartError;
use super::server::Server;

#[allow(unused_imports, reason = "not every crate that includes this needs all of it")]
pub use self::faults::{ConvirzaFaults, Endpoint, Fault};
#[allow(unused_imports, reason = "not every crate that includes this needs all of it")]
pub use self::happening::{Happening, Outcome};

/// The account that exists from the start. Obviously not a real one.
pub const DEFAULT_EMAIL: &str = "local@example.invalid";
/// The password of [`DEFAULT_EMAIL`].
pub const DEFAULT_PASSWORD: &str = "local-only";

/// The OAuth client that V2 knows. Obviously not a real one.
pub const V2_CLIENT_ID: &str = "local-client";
/// The secret of [`V2_CLIENT_ID`].
pub const V2_CLIENT_SECRET: &str = "local-client-only";

const DAY: Duration = Duration::from_hours(24);
/// Far more than a test lets pile up between two looks.
const EVENTS_KEPT: usize = 4096;

/// What is fixed when the emulator starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an access token lives after its last use.
    pub access_lifetime: Duration,
    /// How long a refresh token lives.
    pub refresh_lifetime: Duration,
    /// How many logins an address may send in any 60 seconds.
    pub login_limit_per_minute: u32,
    /// How long every request takes, half of it before and half after the work is done.
    pub latency: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_lifetime: 7 * DAY,
            refresh_lifetime: 180 * DAY,
            login_limit_per_minute: 10,
            latency: Duration::ZERO,
        }
    }
}

/// What the documentation leaves open. All of it is off at the start, and can be changed any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// A refresh ends the session's earlier access tokens at once.
    pub refresh_kills_access_token: bool,
    /// A refresh leaves the refresh token usable and gives it again.
    pub refresh_keeps_refresh_token: bool,
    /// There is no `/auth/profile`: it answers 404.
    pub no_profile: bool,
}

/// What has reached the emulator so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Logins that arrived, whatever became of them.
    pub logins_arrived: u64,
    /// Logins that opened a session.
    pub logins: u64,
    /// Logins that the limit refused (429).
    pub logins_limited: u64,
    /// The most logins that arrived from one address in any 60 seconds.
    pub most_logins_in_a_minute: usize,
    /// Refreshes that made a new pair.
    pub refreshes: u64,
    /// How often a refresh token came that had come before, unless it was given again since, or
    /// its sender was told to come back later (429).
    pub refresh_tokens_sent_twice: u64,
    /// Revocations that were carried out.
    pub revocations: u64,
    /// Requests to the API that were carried out, for a live token or a dead one.
    pub probes: u64,
    /// Requests that followed a redirect, which nobody should.
    pub redirects_followed: u64,
    /// Faults that have happened.
    pub faults_played: u64,
    /// Pairs that were made, whether or not an answer brought them home.
    pub issued_pairs: u64,
}

/// Which tokens to revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoke {
    /// Only access tokens: the refresh tokens stay usable.
    AccessTokens,
    /// Access and refresh tokens.
    AllTokens,
}

/// The emulated Convirza.
#[derive(Debug)]
pub struct Convirza {
    server: Server,
    emulator: Arc<Emulator>,
}

/// What the request handlers share.
#[derive(Debug)]
struct Emulator {
    latency: Duration,
    faults: ConvirzaFaults,
    events: broadcast::Sender<Happening>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    behaviour: Behaviour,
    sessions: Sessions,
    login_limit: LoginLimit,
    observed: Observed,
}

impl Convirza {
    /// Starts Convirza on this port. It knows one account: [`DEFAULT_EMAIL`].
    pub async fn start(port: u16, settings: Settings) -> Result<Self, StartError> {
        let mut sessions = Sessions::new(settings.access_lifetime, settings.refresh_lifetime);
        sessions.set_password(DEFAULT_EMAIL, DEFAULT_PASSWORD);
        let emulator = Arc::new(Emulator {
            latency: settings.latency,
            faults: ConvirzaFaults::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            books: Mutex::new(Books {
                behaviour: Behaviour::default(),
                sessions,
                login_limit: LoginLimit::new(settings.login_limit_per_minute),
                observed: Observed::default(),
            }),
        });
        let routes = routes::routes().merge(control::routes()).with_state(Arc::clone(&emulator));
        let server = Server::start("Convirza", port, routes).await?;
        Ok(Self { server, emulator })
    }

    /// The base URL of the OAuth host; the API is at `/v3` below it.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The base URL of V2's OAuth host: it has the same accounts and sessions, and the same limit.
    pub fn v2_url(&self) -> String {
        format!("{}/v2", self.url())
    }

    /// The faults to plan and to clear.
    pub fn faults(&self) -> &ConvirzaFaults {
        &self.emulator.faults
    }

    /// Opens an account, or changes its password; sessions that are open stay open.
    pub fn set_password(&self, email: &str, password: &str) {
        self.emulator.books().sessions.set_password(email, password);
    }

    /// Chooses where the documentation leaves things open.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.emulator.books().behaviour = behaviour;
    }

    /// Revokes all sessions' tokens behind everybody's back.
    pub fn revoke_all_sessions(&self, which: Revoke) {
        self.emulator.revoke_all_sessions(which);
    }

    /// What has reached the emulator so far.
    pub fn observed(&self) -> Observed {
        self.emulator.observed()
    }

    /// What happens from now on. An event tells of an arrival only after the request is counted in
    /// [`Convirza::observed`], and of an end only after the work is done.
    pub fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.emulator.events.subscribe()
    }
}

impl Emulator {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self) -> Observed {
        let books = self.books();
        Observed {
            most_logins_in_a_minute: books.login_limit.most_in_a_minute(),
            faults_played: self.faults.played(),
            ..books.observed
        }
    }

    fn revoke_all_sessions(&self, which: Revoke) {
        let mut books = self.books();
        books.sessions.revoke_all_access_tokens();
        if which == Revoke::AllTokens {
            books.sessions.revoke_all_refresh_tokens();
        }
    }
}
