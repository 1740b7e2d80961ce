//! An instance of the function: a process under an emulated Runtime API. Made for tests: it panics if the process
//! misbehaves.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "made for tests, which fail by panicking")]

use crate::runtime_api::{Invocation, RuntimeApi};
use serde_json::Value;
use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

/// The function's timeout, plus a reserve for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A running instance. The process is killed when this is dropped.
pub struct Instance {
    /// The Runtime API that the process polls.
    pub api: RuntimeApi,
    process: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Instance {
    /// Starts a program under a Runtime API, with only these variables and Lambda's own.
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
            .expect("the program starts");
        let output = Arc::default();
        let readers = vec![
            read(process.stdout.take().expect("stdout"), Arc::clone(&output)),
            read(process.stderr.take().expect("stderr"), Arc::clone(&output)),
        ];
        Self { api, process, output, readers }
    }

    /// Queues an invocation.
    pub fn begin(&self, payload: Value) -> oneshot::Receiver<Invocation> {
        self.api.invoke(payload)
    }

    /// Invokes the function, and waits for the result.
    pub async fn invoke(&self, payload: Value) -> Invocation {
        let invocation = tokio::time::timeout(TIMEOUT, self.begin(payload)).await;
        invocation.expect("the invocation ends before the timeout").expect("the invocation ends")
    }

    /// Invokes the function through an alias or a version, with the text of an event that need not be JSON.
    pub async fn invoke_through(&self, qualifier: Option<&str>, payload: impl ToString) -> Invocation {
        let invocation = self.api.invoke_through(qualifier, payload.to_string());
        let invocation = tokio::time::timeout(TIMEOUT, invocation).await;
        invocation.expect("the invocation ends before the timeout").expect("the invocation ends")
    }

    /// The process's id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Kills the process, as Lambda does after a timeout.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("the process dies");
    }

    /// Freezes the process, as Lambda does between two invocations: it runs no instruction while time passes.
    pub async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Resumes a frozen process.
    pub async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.id().expect("the process runs").to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.expect("the program kill").success(), "{signal} is sent");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.wait().await.expect("the process ends")
    }

    /// Kills the process and returns everything that it printed.
    pub async fn output(mut self) -> String {
        // Fails if the process has ended by itself.
        let _ = self.process.kill().await;
        for reader in self.readers {
            reader.await.expect("the output is read");
        }
        let bytes = self.output.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("the output is text")
    }
}

fn read(mut pipe: impl AsyncRead + Unpin + Send + 'static, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.extend(chunk.iter().take(length));
        }
    })
}
