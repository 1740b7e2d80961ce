//! A process of the function that is killed and frozen while it answers.

use emulators::{instance::Instance, runtime_api::Invocation};
use serde_json::Value;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// A process may take this long to start, which does not count against the function's timeout.
const START: Duration = Duration::from_secs(1);

/// How to start a process, and its limits.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) program: PathBuf,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The function's timeout.
    pub(crate) timeout: Duration,
    pub(crate) longest_freeze: Duration,
}

/// A process that is restarted whenever it was killed.
pub(crate) struct Process {
    setting: Setting,
    instance: Option<Instance>,
}

/// How a request ended.
pub(crate) struct Ended {
    pub(crate) sent_at: Instant,
    pub(crate) at: Instant,
    /// `None` if the process was killed meanwhile, or exceeded the function's timeout.
    pub(crate) invocation: Option<Invocation>,
    pub(crate) frozen: Duration,
    pub(crate) killed: bool,
}

impl Process {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, instance: None }
    }

    /// Requests a token. With `chance`, the process may be killed or frozen meanwhile. It is also killed when `kill`
    /// ends.
    pub(crate) async fn request(
        &mut self,
        payload: Value,
        chance: Option<&mut fastrand::Rng>,
        kill: impl Future<Output = ()>,
    ) -> Ended {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let environment = self.setting.environment.clone();
                Instance::start_program(&self.setting.program, &[], environment).await
            }
        };
        instance.api.set_timeout(self.setting.timeout);
        let sent_at = Instant::now();
        let mut frozen = Duration::ZERO;
        let answer = async {
            let invocation = instance.begin(payload);
            let disturbance = chance.map(|chance| (chance.u32(..400), chance.u64(..30), chance.f64()));
            match disturbance {
                Some((0, pause_ms, _)) => {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    return None;
                }
                Some((1, pause_ms, share)) => {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    frozen = self.setting.longest_freeze.mul_f64(share);
                    instance.freeze().await;
                    tokio::time::sleep(frozen).await;
                    instance.thaw().await;
                }
                _ => {}
            }
            Some(tokio::time::timeout_at((sent_at + self.setting.timeout + START).into(), invocation).await)
        };
        let ended = tokio::select! {
            ended = answer => ended,
            () = kill => None,
        };
        let killed = ended.is_none();
        if killed {
            instance.kill().await;
        }
        let invocation = ended.and_then(Result::ok).and_then(Result::ok);
        if invocation.is_some() {
            self.instance = Some(instance);
        }
        Ended { sent_at, at: Instant::now(), invocation, frozen, killed }
    }
}
