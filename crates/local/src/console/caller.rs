//! A caller on the page: it keeps a token, uses Convirza's API, and reports a token that the API refused.

use crate::{
    clock::WorldClock,
    front::{arn_of, invocation},
};
use contract::{AccountName, TokenAnswer};
use lambda_runtime::LambdaEvent;
use protocol::{Call, IssuedToken, Origin, Secret, Timestamp, UpstreamReply};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use token_broker::{inbound::Handler, ports::Upstream};

pub(super) struct Caller {
    /// Its instance of the broker.
    instance: Handler,
    api: Arc<dyn Upstream>,
    clock: WorldClock,
    /// Locked while the caller is working.
    held: tokio::sync::Mutex<Option<Held>>,
    shown: Mutex<Shown>,
}

struct Held {
    token: Secret,
    generation: u64,
    until: Timestamp,
}

/// What the page shows for a caller.
#[derive(Clone, Default, Serialize)]
pub(super) struct Shown {
    generation: Option<u64>,
    state: State,
    note: String,
}

#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    Idle,
    Busy,
    Accepted,
    Healed,
    Failed,
}

impl Caller {
    pub(super) fn new(instance: Handler, api: Arc<dyn Upstream>, clock: WorldClock) -> Self {
        Self { instance, api, clock, held: tokio::sync::Mutex::default(), shown: Mutex::default() }
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses the API once, unless the previous use is still running.
    pub(super) async fn call(self: Arc<Self>) {
        let Ok(mut held) = self.held.try_lock() else { return };
        self.show(held.as_ref(), State::Busy, "waits".to_owned());
        let (state, note) = match self.use_api(&mut held).await {
            Ok(done) => done,
            Err(note) => (State::Failed, note),
        };
        self.show(held.as_ref(), state, note);
    }

    async fn use_api(&self, held: &mut Option<Held>) -> Result<(State, String), String> {
        let current = match held.take().filter(|held| held.until > self.clock.now()) {
            Some(current) => current,
            None => self.token(json!({})).await?,
        };
        let generation = current.generation;
        let reply = self.send(held.insert(current)).await;
        if reply != UpstreamReply::Unauthorized {
            return accepted(&reply).map(|()| (State::Accepted, "200".to_owned()));
        }
        let current = self.token(json!({"rejected_generation": generation})).await?;
        accepted(&self.send(held.insert(current)).await)?;
        Ok((State::Healed, "401, then 200".to_owned()))
    }

    async fn token(&self, payload: Value) -> Result<Held, String> {
        let event = LambdaEvent::new(payload, invocation(self.clock.now(), arn_of("live")));
        let answer = self.instance.handle(event).await.map_err(|error| error.error_type)?;
        let answer = Value::from(answer).to_string();
        let answer = TokenAnswer::read(answer.as_bytes(), &AccountName::default())?;
        Ok(Held {
            token: answer.access_token.ok_or("there is no token")?,
            generation: answer.generation.0,
            until: self.clock.now().plus(Duration::from_secs(answer.expires_in)),
        })
    }

    async fn send(&self, held: &Held) -> UpstreamReply {
        self.api
            .send(&Call::Probe(IssuedToken { token: held.token.clone(), origin: Origin::default() }))
            .await
    }

    fn show(&self, held: Option<&Held>, state: State, note: String) {
        let generation = held.map(|held| held.generation);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Shown { generation, state, note };
    }
}

fn accepted(reply: &UpstreamReply) -> Result<(), String> {
    if *reply == UpstreamReply::Alive { Ok(()) } else { Err(format!("API: {}", reply.name())) }
}
