//! The caller of one process.

use super::{
    Account,
    record::{Answer, Fingerprint, Observation, Record},
};
use crate::process::{Ended, Process, Setting};
use emulators::World;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// What the callers share.
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) accounts: Vec<Account>,
    pub(super) record: Arc<Mutex<Record>>,
    /// The callers' own client.
    pub(super) client: reqwest::Client,
    /// A POST here returns a new refresh token, as a person would obtain it.
    pub(super) grants_url: Option<String>,
    /// Held while a new grant is put into a secret.
    pub(super) person: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Puts a grant into the account's secret, at the start and when the server has refused the previous one.
    pub(super) async fn grant(&self, account: &Account) {
        let _person = self.person.lock().await;
        {
            let record = self.record.lock().unwrap();
            let last = record.grants.iter().rfind(|(name, _)| *name == account.name);
            if last.is_some_and(|(_, at)| record.refused_since(&account.name, *at).is_none()) {
                return;
            }
        }
        let mut secret = account.secret.clone();
        if let Some(url) = self.grants_url.as_ref().filter(|_| account.rules.by_person) {
            let grant = self.client.post(url).send().await.expect("the server answers").bytes().await;
            let grant: Value = serde_json::from_slice(&grant.expect("the server answers")).expect("JSON");
            secret["refresh_token"] = grant["refresh_token"].clone();
        }
        // Recorded before the secret is written, because a request that is sent from now on may read it.
        self.record.lock().unwrap().grants.push((account.name.clone(), Instant::now()));
        self.world.put_secret(&account.name, &secret.to_string()).await.expect("a secret");
    }
}

pub(super) struct Caller {
    number: usize,
    process: Process,
    shared: Arc<Shared>,
    kills: broadcast::Receiver<String>,
    chance: fastrand::Rng,
    /// The last generation and token of each account.
    last: HashMap<String, (u64, String)>,
    pub(super) tally: Tally,
}

/// What a caller counted.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) cut_short: u64,
    pub(super) kills: u64,
    pub(super) freezes: u64,
    pub(super) reports: u64,
    pub(super) longest: Duration,
}

impl Caller {
    pub(super) fn new(
        number: usize,
        setting: Setting,
        shared: Arc<Shared>,
        kills: broadcast::Receiver<String>,
        chance: fastrand::Rng,
    ) -> Self {
        let (process, last) = (Process::new(setting), HashMap::new());
        Self { number, process, shared, kills, chance, last, tally: Tally::default() }
    }

    pub(super) async fn run(mut self, ends_at: Instant) -> Self {
        while Instant::now() < ends_at {
            let account = self.chance.usize(..self.shared.accounts.len());
            self.request(account, true).await;
            tokio::time::sleep(Duration::from_millis(self.chance.u64(20..150))).await;
        }
        self
    }

    /// Whether the process answers with a token for each account before this.
    pub(super) async fn serves_again(&mut self, until: Instant) -> bool {
        for account in 0..self.shared.accounts.len() {
            while !self.request(account, false).await {
                if Instant::now() > until {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        true
    }

    /// The generation of the account's token, if the server says that it is dead.
    async fn rejected(&mut self, account: &Account) -> Option<u64> {
        let url = account.probe_url.as_ref()?;
        let (generation, token) = self.last.get(&account.name).filter(|_| self.chance.u32(..3) == 0)?;
        let answer = self.shared.client.get(url).bearer_auth(token).send().await.ok()?;
        let is_dead = answer.status() == reqwest::StatusCode::UNAUTHORIZED;
        if is_dead {
            self.shared.record.lock().unwrap().found_dead(Fingerprint::of(token));
        }
        is_dead.then_some(*generation)
    }

    /// Requests a token. Returns whether one came.
    async fn request(&mut self, account: usize, disturbed: bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let account = &shared.accounts[account];
        let mut payload = json!({"account": account.name});
        if let Some(generation) = self.rejected(account).await {
            payload["rejected_generation"] = generation.into();
            self.tally.reports += 1;
        }
        let mut kills = self.kills.resubscribe();
        let kill = async { while kills.recv().await.as_ref() != Ok(&account.name) {} };
        let ended = self.process.request(payload, disturbed.then_some(&mut self.chance), kill).await;
        let code = self.observe(account, &ended);
        if code.as_deref() == Some("grant_lost") && shared.grants_url.is_some() {
            shared.grant(account).await;
        }
        code.is_none() && ended.invocation.is_some()
    }

    /// Counts and records how a request ended. Returns the error's code if there is one.
    fn observe(&mut self, account: &Account, ended: &Ended) -> Option<String> {
        self.tally.requests += 1;
        self.tally.kills += u64::from(ended.killed);
        self.tally.freezes += u64::from(!ended.frozen.is_zero());
        self.tally.cut_short += u64::from(ended.invocation.is_none());
        let mut record = self.shared.record.lock().unwrap();
        record.requests.push((account.name.clone(), ended.sent_at..ended.at));
        if ended.invocation.is_none() || !ended.frozen.is_zero() {
            // A process that was frozen finds, when it goes on, both the reply and the end of its time limit.
            record.disturbances.push((Some(account.name.clone()), ended.sent_at..=ended.at));
        }
        let answer = match ended.invocation.as_ref()? {
            Ok(answer) => {
                let token = answer["access_token"].as_str().expect("a token");
                let generation = answer["generation"].as_u64().expect("a generation");
                let expires_in = Duration::from_secs(answer["expires_in"].as_u64().expect("a time"));
                self.last.insert(account.name.clone(), (generation, token.to_owned()));
                let from_table = answer["served_from"] == "table";
                Ok(Answer { token: Fingerprint::of(token), generation, expires_in, from_table })
            }
            Err(error) => Err(error["errorType"].as_str().unwrap_or_default().to_owned()),
        };
        let code = answer.as_ref().err().cloned();
        self.tally.longest = self.tally.longest.max((ended.at - ended.sent_at).saturating_sub(ended.frozen));
        record.observations.push(Observation {
            process: self.number,
            account: account.name.clone(),
            sent_at: ended.sent_at,
            at: ended.at,
            answer,
        });
        code
    }
}
