//! The console of the local stack: a page that shows the fleet live, with switches for the emulators' faults.
//!
//! | path | answers |
//! | --- | --- |
//! | `GET /` | the page; its script and style are beside it |
//! | `GET /console.json` | the state, without tokens and credentials |
//! | `POST /console.json` | executes a command, then answers as above |

mod caller;
mod faults;

use crate::{clock::WorldClock, front::invocation, wiring};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use caller::Caller;
use contract::rfc3339;
use emulators::{
    World,
    convirza::{Endpoint, Event, Outcome, Revoke},
};
use lambda_runtime::LambdaEvent;
use protocol::{Policy, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    error::Error,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use token_broker::{
    broker::Broker,
    config::Config,
    inbound::{Handler, authorization::Callers},
    ports::{Ports, Upstream},
};
use tokio::sync::{Semaphore, broadcast::error::RecvError};

/// Callers on the page: more than Convirza's login limit, so that their own logins would exceed it.
pub const CALLERS: usize = 12;
const EVENTS_KEPT: usize = 30;

/// The page may load nothing from elsewhere.
const POLICY: &str = "default-src 'self'; img-src data:; frame-ancestors 'none'";

/// The console of one world.
pub struct Console {
    world: Arc<World>,
    /// Reads the table directly, not through the front, so that the reads are neither counted nor subject to faults.
    observer: Handler,
    api: Arc<dyn Upstream>,
    callers: RwLock<Vec<Arc<Caller>>>,
    clock: WorldClock,
    policy: Policy,
    events: Mutex<VecDeque<String>>,
    revocations: AtomicU64,
    opened: Semaphore,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    /// Every caller uses the API once.
    Call,
    /// Convirza ends all sessions without notice.
    Revoke,
    /// An operator unblocks an account.
    Unblock { account: String },
    /// The whole stack is reset.
    Reset,
    /// A fault, or none, from now on.
    Fault { place: String, fault: Option<String> },
}

impl Console {
    /// A console for this world. Each handler is an instance of the broker, and gets a caller.
    pub fn new(
        world: &Arc<World>,
        config: &Config,
        instances: impl IntoIterator<Item = Handler>,
    ) -> Result<Arc<Self>, Box<dyn Error>> {
        let clock = WorldClock::of(world);
        let ports = wiring::ports(world, config, Arc::new(clock.clone()))?;
        let api = Arc::clone(&ports.upstream);
        let ports = Ports { store: Arc::new(wiring::unobserved_table(world, config)?), ..ports };
        let console = Arc::new(Self {
            world: Arc::clone(world),
            observer: Handler::new(Broker::new(config.policy, ports), Callers::default()),
            api,
            callers: RwLock::default(),
            clock,
            policy: config.policy,
            events: Mutex::default(),
            revocations: AtomicU64::new(0),
            opened: Semaphore::new(0),
        });
        console.reset(instances);
        tokio::spawn(Arc::clone(&console).keep_events());
        Ok(console)
    }

    /// Starts again with these instances.
    pub fn reset(&self, instances: impl IntoIterator<Item = Handler>) {
        let new = |instance| Arc::new(Caller::new(instance, Arc::clone(&self.api), self.clock.clone()));
        let callers = instances.into_iter().map(new).collect();
        *self.callers.write().unwrap_or_else(PoisonError::into_inner) = callers;
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.revocations.store(0, Ordering::Relaxed);
    }

    fn callers(&self) -> Vec<Arc<Caller>> {
        self.callers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The page and its data.
    pub fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/console.css", get(async || file("text/css", include_str!("console.css"))))
            .route("/console.js", get(async || file("text/javascript", include_str!("console.js"))))
            .route("/console.json", get(state).post(command))
            .with_state(Arc::clone(self))
    }

    /// How many times the button revoked the sessions. Each time takes a login.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Relaxed)
    }

    /// Waits until a browser has loaded the page.
    pub async fn opened(&self) {
        // The semaphore is never closed.
        let _ = self.opened.acquire().await;
    }

    async fn keep_events(self: Arc<Self>) {
        let mut events = self.world.convirza.subscribe();
        loop {
            match events.recv().await {
                Ok(event) if is_logged(&event) => self.add_event(event.to_string()),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn add_event(&self, text: String) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push_front(text);
        events.truncate(EVENTS_KEPT);
    }

    /// Built only from counters, the status answer and fixed texts, so it cannot contain a token.
    async fn state(&self) -> Value {
        let status = self.operate(json!({"action": "status"})).await;
        let mut status = status.unwrap_or_else(|error| json!({"error": error}));
        for account in status.get_mut("accounts").and_then(Value::as_array_mut).into_iter().flatten() {
            let ignored = self.reports_ignored_until(account).map(rfc3339::format);
            if let Some(fields) = account.as_object_mut() {
                fields.insert("reports_ignored_until".to_owned(), ignored.into());
            }
        }
        let convirza = &self.world.convirza;
        json!({
            "logins": {
                "last_minute": convirza.logins_in_the_last_minute(),
                "limit": convirza.login_limit_per_minute(),
            },
            "status": status,
            "convirza": convirza.observed(),
            "table": self.world.dynamodb.counts(),
            "callers": self.callers().iter().map(|caller| caller.shown()).collect::<Vec<_>>(),
            "faults": faults::state(&self.world),
            "can_reset": convirza.resets_all(),
            "memory_ttl_seconds": self.policy.memory_ttl.as_secs(),
            "events": *self.events.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// The answer to an operator, or the code of the error.
    async fn operate(&self, payload: Value) -> Result<Value, String> {
        let event = LambdaEvent::new(payload, invocation(self.clock.now(), String::new()));
        self.observer.handle(event).await.map(Value::from).map_err(|error| error.error_type)
    }

    /// Until when the broker ignores reports on this account's pair, because its predecessors died young. A dead pair
    /// needs no report.
    fn reports_ignored_until(&self, account: &Value) -> Option<Timestamp> {
        if account.get("verdict")? == "dead" {
            return None;
        }
        let deaths = u32::try_from(account.get("young_deaths")?.as_u64()?).ok()?;
        let issued_at = rfc3339::parse(account.get("issued_at")?.as_str()?)?;
        let until = issued_at.plus(self.policy.trusted_for(deaths));
        (until > self.clock.now() && until > issued_at).then_some(until)
    }

    async fn carry_out(&self, command: Command) -> Result<(), String> {
        match command {
            // Not awaited: with a fault, a call may take half a minute.
            Command::Call => self.callers().into_iter().for_each(|caller| {
                tokio::spawn(caller.call());
            }),
            Command::Revoke => {
                self.world.convirza.revoke_all_sessions(Revoke::AllTokens);
                self.revocations.fetch_add(1, Ordering::Relaxed);
                let now = rfc3339::format(self.clock.now());
                let time = now.get(11..19).unwrap_or_default();
                self.add_event(format!("{time} convirza revoked all sessions without notice"));
            }
            Command::Unblock { account } => {
                self.operate(json!({"action": "unblock", "account": account})).await?;
            }
            Command::Reset => self.world.convirza.reset_all().await.map_err(|error| error.to_string())?,
            Command::Fault { place, fault } => faults::set(&self.world, &place, fault.as_deref())?,
        }
        Ok(())
    }
}

/// One line per login, refresh, revocation and fault, when it ends.
pub fn is_logged(event: &Event) -> bool {
    let changes_tokens = matches!(event.endpoint, Endpoint::Login | Endpoint::Refresh | Endpoint::Revoke);
    event.outcome != Outcome::Arrived && (changes_tokens || event.fault.is_some())
}

async fn page(State(console): State<Arc<Console>>) -> Response {
    console.opened.add_permits(1);
    file("text/html", include_str!("console.html"))
}

fn file(kind: &str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, text).into_response()
}

async fn state(State(console): State<Arc<Console>>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(console.state().await)).into_response()
}

/// The extractor requires the JSON content type, so no page of another site can send a command.
async fn command(State(console): State<Arc<Console>>, Json(command): Json<Command>) -> Response {
    match console.carry_out(command).await {
        Ok(()) => state(State(console)).await,
        Err(reason) => (StatusCode::BAD_REQUEST, Json(json!({"error": reason}))).into_response(),
    }
}
