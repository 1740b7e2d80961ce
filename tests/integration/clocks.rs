//! An instance whose wall clock is wrong or steps harms no other instance. The clock is preloaded into one process, and
//! compiled by the C compiler that the workspace's dependencies need too.

use crate::{
    instance::{self, PATIENT, QUICK},
    world, world_with,
};
use contract::rfc3339;
use emulators::{
    World,
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault, Outcome, Revoke, Settings},
    instance::Instance,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Seconds by which a clock is off.
const OFFSETS_S: [i64; 2] = [3_600, -3_600];
/// One lease and one margin of [`QUICK`], a login, and a reserve for a busy machine.
const AFTER_A_LEASE: Duration = Duration::from_secs(15);

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clocks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/benchmark/src/soak/clock.c");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(folder.join("clock.so")).arg(source);
    assert!(compile.status().expect("a C compiler").success());
    folder
});

/// The wall clock of one process.
struct WallClock {
    path: PathBuf,
    file: File,
}

impl WallClock {
    fn ahead_by(offset_s: i64) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let path = FOLDER.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let mut clock = Self { file: File::create(&path).expect("a file"), path };
        clock.set(offset_s);
        clock
    }

    /// In place: the process has mapped the file.
    fn set(&mut self, offset_s: i64) {
        self.file.rewind().expect("a file");
        self.file.write_all(&(offset_s * 1000).to_ne_bytes()).expect("a file");
    }

    /// Starts an instance with this clock. `settings` replace [`QUICK`].
    async fn start(&self, world: &World, settings: &[(&'static str, &str)]) -> Instance {
        let own = [
            ("LD_PRELOAD", FOLDER.join("clock.so").display().to_string()),
            ("CLOCK_OFFSET_FILE", self.path.display().to_string()),
        ];
        let settings = QUICK.iter().chain(settings).map(|(name, value)| (*name, (*value).to_owned()));
        instance::start_with(world.environment().into_iter().chain(settings).chain(own)).await
    }
}

/// Tries again until there is a token.
async fn served(instance: &Instance) -> Value {
    let ends_at = Instant::now() + AFTER_A_LEASE;
    loop {
        match instance.invoke(json!({})).await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < ends_at, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn for_each_offset<F: Future<Output = ()>>(run: impl Fn(i64) -> F) {
    join_all(OFFSETS_S.map(run)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_of_a_wrong_clock_is_dated_and_replaced_as_others() {
    let ends_at = |answer: &Value| {
        let text = answer["expires_at"].as_str().expect("an instant");
        rfc3339::parse(text).expect("an instant").as_millis()
    };

    for_each_offset(|offset_s| async move {
        let world = world().await;
        let wrong = WallClock::ahead_by(offset_s).start(&world, &[]).await;
        let right = instance::start(&world, &[]).await;
        let dead = wrong.invoke(json!({})).await.expect("a token");
        let same = right.invoke(json!({})).await.expect("a token");
        assert!(ends_at(&dead).abs_diff(ends_at(&same)) < 60_000, "{offset_s}: {dead} and {same}");
        world.convirza.revoke_all_sessions(Revoke::AllTokens);
        let report = json!({"rejected_generation": dead["generation"]});
        let newer = right.invoke(report.clone()).await.expect("a token");
        assert!(newer["generation"].as_u64() > dead["generation"].as_u64(), "{offset_s}: {newer}");
        assert_eq!(wrong.invoke(report).await.expect("a token")["access_token"], newer["access_token"]);
        let observed = world.convirza.observed();
        assert_eq!((observed.probes, observed.logins_arrived), (1, 2), "{offset_s}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_wrong_clock_lasts_one_lease() {
    for_each_offset(|offset_s| async move {
        let world = world().await;
        let mut events = world.convirza.subscribe();
        world.convirza.faults().set(Endpoint::Login, Fault::Hang, Some(1));
        let mut holder = WallClock::ahead_by(offset_s).start(&world, &[]).await;
        let right = instance::start(&world, &[]).await;
        let unanswered = holder.begin(json!({}));
        loop {
            let event = events.recv().await.expect("an event");
            if (event.endpoint, event.outcome) == (Endpoint::Login, Outcome::Arrived) {
                break;
            }
        }
        holder.kill().await;
        served(&right).await;
        assert_eq!(world.convirza.observed().logins_arrived, 2, "{offset_s}");
        drop(unanswered);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_counts_for_and_of_a_wrong_clock() {
    for_each_offset(|offset_s| async move {
        let budget = [("BROKER_LOGIN_BUDGET", "1")];
        for is_first in [true, false] {
            let world = world().await;
            world.add_account("emea", "emea@example.invalid", "word").await.expect("an account");
            let wrong = WallClock::ahead_by(offset_s).start(&world, &budget).await;
            let right = instance::start(&world, &budget).await;
            let (first, second) = if is_first { (&wrong, &right) } else { (&right, &wrong) };
            first.invoke(json!({})).await.expect("a token");
            let error = second.invoke(json!({"account": "emea"})).await.expect_err("no permit");
            assert_eq!(error["errorType"], "login_budget_exhausted", "{offset_s}: {error}");
            let message = error["errorMessage"].as_str().expect("a message");
            let wait = message.split_once("(retry_after=").and_then(|(_, rest)| rest.strip_suffix(')'));
            let wait: u64 = wait.and_then(|wait| wait.parse().ok()).expect("a number");
            assert!((30..=90).contains(&wait), "{offset_s}: {message}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_forgotten_after_a_step_of_the_clock() {
    for_each_offset(|offset_s| async move {
        let world = world().await;
        let mut clock = WallClock::ahead_by(offset_s);
        let instance = clock.start(&world, &[]).await;
        world.dynamodb.faults().set(Operations::All, AwsFault::Unavailable, None);
        instance.invoke(json!({})).await.expect_err("no store");
        world.dynamodb.faults().clear();
        clock.set(0);
        served(&instance).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_saved_although_the_clock_stepped_during_the_login() {
    for_each_offset(|offset_s| async move {
        let settings = Settings { latency: Duration::from_millis(700), ..Settings::default() };
        let world = world_with(settings).await;
        let mut events = world.convirza.subscribe();
        let mut clock = WallClock::ahead_by(0);
        let instance = clock.start(&world, &PATIENT).await;
        let right = instance::start(&world, &PATIENT).await;
        let answer = instance.begin(json!({}));
        while events.recv().await.expect("an event").endpoint != Endpoint::Login {}
        clock.set(offset_s);
        let here = answer.await.expect("an answer").expect("a token");
        let there = right.invoke(json!({})).await.expect("a token");
        assert_eq!(there["access_token"], here["access_token"], "{offset_s}");
        assert_eq!(world.convirza.observed().logins_arrived, 1, "{offset_s}");
    })
    .await;
}
