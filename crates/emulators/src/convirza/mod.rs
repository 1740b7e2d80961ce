//! Convirza's authentication, V3 and V2, as documented. All hosts share one port.
//!
//! [`Behaviour`] covers what the documentation does not say, [`Fault`] how the upstream can fail.

mod api;
mod control;
mod event;
mod faults;
mod login_limit;
mod response;
mod routes;
mod sessions;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::StartError;
use crate::clock::Clock;
use crate::server::{Listen, Server};
use api::Routes;
use login_limit::LoginLimit;
use sessions::{Passwords, Sessions};

pub use api::Route;
pub use event::{Event, Outcome};
pub use faults::{ConvirzaFaults, Endpoint, Fault};

/// The user that exists from the start.
pub const DEFAULT_EMAIL: &str = "local@example.invalid";
/// The password of [`DEFAULT_EMAIL`].
pub const DEFAULT_PASSWORD: &str = "local-only";

/// The OAuth client of V2.
pub const V2_CLIENT_ID: &str = "local-client";
/// The secret of [`V2_CLIENT_ID`].
pub const V2_CLIENT_SECRET: &str = "local-client-only";

const DAY: Duration = Duration::from_hours(24);
/// Far more events than a test leaves unread.
const EVENTS_KEPT: usize = 4096;

/// The settings that are fixed when the emulator starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an access token lives after its last use.
    pub access_lifetime: Duration,
    /// How long a refresh token lives.
    pub refresh_lifetime: Duration,
    /// Logins that one address may send in any 60 seconds.
    pub login_limit_per_minute: u32,
    /// How long every request takes: half before the work is done, half after.
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

/// Choices that the documentation leaves open. All are off initially, and can be changed at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// A refresh revokes the session's earlier access tokens at once.
    pub refresh_kills_access_token: bool,
    /// A refresh returns the same refresh token, which stays usable.
    pub refresh_keeps_refresh_token: bool,
    /// `/auth/profile` returns 404.
    pub no_profile: bool,
}

/// The requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Logins that arrived, including those that failed.
    pub logins_arrived: u64,
    /// Logins that opened a session.
    pub logins: u64,
    /// Logins that the login limit refused (429).
    pub logins_limited: u64,
    /// The most logins that arrived from one address in any 60 seconds.
    pub most_logins_in_a_minute: usize,
    /// Refreshes that issued a new pair.
    pub refreshes: u64,
    /// How many times a refresh token arrived again. Not counted if the token was returned again since, or its sender
    /// was told to retry (429).
    pub refresh_tokens_sent_twice: u64,
    /// Revocations that were carried out.
    pub revocations: u64,
    /// Requests to the API that were carried out, with a live or a dead token.
    pub probes: u64,
    /// Requests that followed a redirect. No client should.
    pub redirects_followed: u64,
    /// Faults that were injected.
    pub faults_injected: u64,
    /// Pairs that were issued, whether or not the response arrived.
    pub issued_pairs: u64,
}

/// The tokens to revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoke {
    /// Access tokens only. The refresh tokens stay usable.
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

/// Resets Convirza and everything around it.
type ResetAll = dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>> + Send + Sync;

/// Shared by the request handlers.
struct Emulator {
    settings: Settings,
    clock: Clock,
    faults: ConvirzaFaults,
    events: broadcast::Sender<Event>,
    state: Mutex<EmulatorState>,
    reset_all: OnceLock<Box<ResetAll>>,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Emulator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct EmulatorState {
    clock: Clock,
    behaviour: Behaviour,
    sessions: Sessions,
    login_limit: LoginLimit,
    observed: Observed,
    routes: Routes,
    start: Start,
}

/// What a reset restores.
#[derive(Debug, Clone)]
struct Start {
    passwords: Passwords,
    routes: Routes,
}

impl EmulatorState {
    fn new(clock: Clock, settings: Settings, start: Start) -> Self {
        Self {
            clock,
            behaviour: Behaviour::default(),
            sessions: Sessions::new(
                settings.access_lifetime,
                settings.refresh_lifetime,
                start.passwords.clone(),
            ),
            login_limit: LoginLimit::new(settings.login_limit_per_minute),
            observed: Observed::default(),
            routes: start.routes.clone(),
            start,
        }
    }
}

impl Convirza {
    /// Starts Convirza, with one user: [`DEFAULT_EMAIL`].
    pub async fn start(listen: impl Into<Listen>, settings: Settings) -> Result<Self, StartError> {
        let passwords = Passwords::from([(DEFAULT_EMAIL.to_owned(), DEFAULT_PASSWORD.to_owned())]);
        let (clock, start) = (Clock::default(), Start { passwords, routes: Routes::default() });
        let emulator = Arc::new(Emulator {
            settings,
            clock: clock.clone(),
            faults: ConvirzaFaults::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            state: Mutex::new(EmulatorState::new(clock, settings, start)),
            reset_all: OnceLock::new(),
        });
        let routes = routes::routes().merge(control::routes()).with_state(Arc::clone(&emulator));
        let server = Server::start("Convirza", listen, routes).await?;
        Ok(Self { server, emulator })
    }

    /// The base URL of the OAuth host. The API is at `/v3` below it.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The base URL of V2's OAuth host. It shares users, sessions and the login limit with V3.
    pub fn v2_url(&self) -> String {
        format!("{}/v2", self.url())
    }

    /// The planned faults.
    pub fn faults(&self) -> &ConvirzaFaults {
        &self.emulator.faults
    }

    /// Adds a user, or changes the password. Open sessions stay open.
    pub fn set_password(&self, email: &str, password: &str) {
        self.emulator.state().sessions.set_password(email, password);
    }

    /// Sets the behaviour that the documentation leaves open.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.emulator.state().behaviour = behaviour;
    }

    /// Revokes the tokens of all sessions.
    pub fn revoke_all_sessions(&self, which: Revoke) {
        self.emulator.revoke_all_sessions(which);
    }

    /// Adds answers of the emulated API. If several match a request, the latest answers.
    pub fn set_routes(&self, routes: Vec<Route>) {
        self.emulator.state().routes.set(routes);
    }

    /// The clock, which the other services of the world share.
    pub fn clock(&self) -> &Clock {
        &self.emulator.clock
    }

    /// Lets a reset restore the current users and routes.
    pub(crate) fn mark_start(&self) {
        let mut state = self.emulator.state();
        state.start = Start { passwords: state.sessions.passwords().clone(), routes: state.routes.clone() };
    }

    /// Resets sessions, users, routes, faults and counters. The time stays.
    pub(crate) fn reset(&self) {
        self.emulator.reset();
    }

    /// What `POST /_emulator/reset` does.
    ///
    /// # Errors
    /// Another service could not be reset.
    pub async fn reset_all(&self) -> Result<(), StartError> {
        self.emulator.reset_all().await
    }

    /// Whether [`Convirza::on_reset`] was called.
    pub fn resets_all(&self) -> bool {
        self.emulator.reset_all.get().is_some()
    }

    /// Sets what `POST /_emulator/reset` does instead of resetting only Convirza. Only the first call counts.
    pub fn on_reset(&self, reset_all: Box<ResetAll>) {
        let _ = self.emulator.reset_all.set(reset_all);
    }

    /// The requests so far.
    pub fn observed(&self) -> Observed {
        self.emulator.observed()
    }

    /// The logins that arrived in the last minute, from the address that sent the most.
    pub fn logins_in_the_last_minute(&self) -> usize {
        self.emulator.state().login_limit.in_the_last_minute(self.emulator.clock.now())
    }

    /// The login limit, for each address.
    pub fn login_limit_per_minute(&self) -> u32 {
        self.emulator.state().login_limit.limit_per_minute()
    }

    /// The events from now on. An arrival is sent after the request is counted in [`Convirza::observed`], an end after
    /// the work is done.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.emulator.events.subscribe()
    }
}

impl Emulator {
    fn state(&self) -> MutexGuard<'_, EmulatorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self) -> Observed {
        let state = self.state();
        Observed {
            most_logins_in_a_minute: state.login_limit.most_in_a_minute(),
            faults_injected: self.faults.injected(),
            ..state.observed
        }
    }

    fn reset(&self) {
        self.faults.reset();
        let mut state = self.state();
        *state = EmulatorState::new(self.clock.clone(), self.settings, state.start.clone());
    }

    async fn reset_all(&self) -> Result<(), StartError> {
        match self.reset_all.get() {
            Some(reset_all) => reset_all().await,
            None => {
                self.reset();
                Ok(())
            }
        }
    }

    fn revoke_all_sessions(&self, which: Revoke) {
        let mut state = self.state();
        state.sessions.revoke_all_access_tokens();
        if which == Revoke::AllTokens {
            state.sessions.revoke_all_refresh_tokens();
        }
    }
}
