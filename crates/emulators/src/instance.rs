//! One instance of the function: the real binary, in a process of its own.

use super::{
    QUICK,
    runtime_api::{Invocation, RuntimeApi},
    world::World,
};
use serde_json::Value;
use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

/// What Lambda would wait, and a little for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(45);

pub struct Instance {
    pub api: RuntimeApi,
    process: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Instance {
    /// Starts an instance in a world. `settings` come before the world's own.
    pub async fn start(world: &World, settings: &[(&str, &str)]) -> Self {
        Self::start_with(
            world
                .environment()
                .into_iter()
                .chain(QUICK.iter().chain(settings).map(|(name, value)| (*name, (*value).to_owned()))),
        )
        .await
    }

    /// Starts an instance with nothing but these variables and Lambda's own.
    pub async fn start_with<'a>(environment: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        Self::start_program(env!("CARGO_BIN_EXE_token-broker").as_ref(), &[], environment).await
    }

    /// Starts a program in the place of the function's binary.
    pub async fn start_program<'a>(
        program: &Path,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let api = RuntimeApi::start().await;
        let mut process = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .env("AWS_LAMBDA_FUNCTION_NAME", "token-broker")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let output = Arc::default();
        let readers = vec![
            read(process.stdout.take().expect("stdout"), Arc::clone(&output)),
            read(process.stderr.take().expect("stderr"), Arc::clone(&output)),
        ];
        Self { api, process, output, readers }
    }

    /// Puts an invocation into this instance's queue.
    pub fn begin(&self, payload: Value) -> oneshot::Receiver<Invocation> {
        self.api.invoke(payload)
    }

    /// Invokes this instance, and waits for the answer.
    pub async fn invoke(&self, payload: Value) -> Invocation {
        let invocation = tokio::time::timeout(TIMEOUT, self.begin(payload)).await;
        invocation.expect("Lambda would have ended it").expect("the invocation ends")
    }

    /// Kills the process, as Lambda does with an instance that has run out of time.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("the process dies");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.wait().await.expect("the process ends")
    }

    /// Everything that the process has printed. Kills it, so that it is complete.
    pub async fn output(mut self) -> String {
        // It may have ended by itself.
        let _ = self.process.kill().await;
        for reader in self.readers {
            reader.await.expect("the output is read");
        }
        let bytes = self.output.lock().unwrap().clone();
        String::from_utf8(bytes).expect("the output is text")
    }
}

fn read(mut pipe: impl AsyncRead + Unpin + Send + 'static, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            output.lock().unwrap().extend_from_slice(&chunk[..length]);
        }
    })
}
