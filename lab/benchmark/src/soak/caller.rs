//! The caller of one process.

use crate::{
    TOKEN_LIFE,
    process::{Process, Setting},
};
use emulators::{World, fakes::exchange};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const ACCOUNTS: [&str; 2] = ["default", "emea"];

/// The results of all callers.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    /// Requests whose process was killed meanwhile, or that exceeded the function's timeout.
    pub(crate) cut_short: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) reports: u64,
    pub(crate) kills: u64,
    pub(crate) freezes: u64,
    /// Tokens that were handed out after they expired, counted from when they were first seen.
    pub(crate) expired: u64,
    /// Answers with a lower generation than this process gave before.
    pub(crate) fallen: u64,
    pub(crate) internal: u64,
    pub(crate) longest: Duration,
    /// When each token was first seen.
    first: HashMap<String, Instant>,
}

pub(crate) struct Caller {
    process: Process,
    world: Arc<World>,
    tally: Arc<Mutex<Tally>>,
    chance: fastrand::Rng,
    /// The last generation and token of each account.
    last: [Option<(u64, String)>; 2],
}

impl Caller {
    pub(crate) fn new(
        setting: Setting,
        world: Arc<World>,
        tally: Arc<Mutex<Tally>>,
        chance: fastrand::Rng,
    ) -> Self {
        Self { process: Process::new(setting), world, tally, chance, last: [const { None }; 2] }
    }

    pub(crate) async fn run(mut self, ends_at: Instant) -> Self {
        while Instant::now() < ends_at {
            let account = self.chance.usize(..ACCOUNTS.len());
            let rejected = self.rejected(account).await;
            self.request(account, rejected, true).await;
            tokio::time::sleep(Duration::from_millis(self.chance.u64(20..150))).await;
        }
        self
    }

    /// Whether the process answers with a token for each account before this instant.
    pub(crate) async fn serves_again(&mut self, until: Instant) -> bool {
        for account in 0..ACCOUNTS.len() {
            while !self.request(account, None, false).await {
                if Instant::now() > until {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        true
    }

    /// The generation of the account's token, if the API refuses it.
    async fn rejected(&mut self, account: usize) -> Option<u64> {
        let (generation, token) = self.last[account].clone().filter(|_| self.chance.u32(..3) == 0)?;
        let address = self.world.convirza.url().trim_start_matches("http://").parse().expect("an address");
        let request = format!(
            "GET /v3/auth/profile HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let answer =
            tokio::time::timeout(Duration::from_secs(2), exchange(address, request.as_bytes())).await;
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 401")).then_some(generation)
    }

    /// Requests a token. Returns whether one came.
    async fn request(&mut self, account: usize, rejected: Option<u64>, disturbed: bool) -> bool {
        let mut payload = json!({"account": ACCOUNTS[account]});
        if let Some(generation) = rejected {
            payload["rejected_generation"] = generation.into();
        }
        let ended = self
            .process
            .request(payload, disturbed.then_some(&mut self.chance), std::future::pending())
            .await;
        let tally = Arc::clone(&self.tally);
        let mut tally = tally.lock().unwrap();
        tally.requests += 1;
        tally.kills += u64::from(ended.killed);
        tally.freezes += u64::from(!ended.frozen.is_zero());
        tally.reports += u64::from(rejected.is_some());
        let Some(invocation) = ended.invocation else {
            tally.cut_short += 1;
            return false;
        };
        tally.longest = tally.longest.max((ended.at - ended.sent_at).saturating_sub(ended.frozen));
        match invocation {
            Ok(answer) => self.take(account, &answer, ended.sent_at, &mut tally),
            Err(error) => {
                let code = error["errorType"].as_str().unwrap_or_default().to_owned();
                tally.internal += u64::from(code == "internal" || code.is_empty());
                *tally.failures.entry(code).or_default() += 1;
                return false;
            }
        }
        true
    }

    /// Checks an answer, and keeps its token.
    fn take(&mut self, account: usize, answer: &Value, sent_at: Instant, tally: &mut Tally) {
        tally.tokens += 1;
        let token = answer["access_token"].as_str().expect("a token").to_owned();
        let generation = answer["generation"].as_u64().expect("a generation");
        let first = *tally.first.entry(token.clone()).or_insert_with(Instant::now);
        // The answer was decided after the request was sent.
        tally.expired += u64::from(sent_at.saturating_duration_since(first) > TOKEN_LIFE);
        let fell = self.last[account].as_ref().is_some_and(|(last, _)| generation < *last);
        tally.fallen += u64::from(fell);
        self.last[account] = Some((generation, token));
    }
}
