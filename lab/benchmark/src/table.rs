//! A table with one pair, on plain sockets, so that it adds little to a latency.

use crate::driver::Program;
use emulators::{Ports, World, convirza::Settings, dynamodb, instance::Instance};
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::SystemTime,
};

/// Answers every request as DynamoDB answers the read of the pair.
pub(crate) struct Table {
    environment: Vec<(String, String)>,
}

impl Table {
    /// Lets the broker log in to the emulated upstream, and keeps the item that it stored.
    pub(crate) fn start(broker: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (item, environment) = runtime.block_on(async {
            let world =
                World::start(Ports::default(), Settings::default()).await.expect("the emulated services");
            let instance = Instance::start_program(broker, &[], world.environment()).await;
            instance.invoke(json!({})).await.expect("a token");
            let key = json!({"TableName": world.table(), "Key": {"pk": {"S": "account#default"}}});
            let item = dynamodb::call(&world.dynamodb, "GetItem", &key).await.expect("the item");
            (item.to_string(), world.environment())
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        // The function accepts a response only with its checksum, and reads the time from it.
        let checksum = crc32fast::hash(item.as_bytes());
        let head = format!("Content-Length: {}\r\nx-amz-crc32: {checksum}\r\n\r\n{item}", item.len());
        let response: Arc<str> = Arc::from(head);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let response = Arc::clone(&response);
                thread::spawn(move || serve(stream, &response));
            }
        });
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .filter(|(name, _)| name != "AWS_ENDPOINT_URL_DYNAMODB")
            .chain([("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), url)])
            .collect();
        Self { environment }
    }

    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }
}

fn serve(stream: TcpStream, response: &str) {
    stream.set_nodelay(true).expect("an open connection");
    let mut writer = stream.try_clone().expect("a socket");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        let date = httpdate::fmt_http_date(SystemTime::now());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nDate: {date}\r\n");
        let response = head + response;
        if reader.read_exact(&mut body).is_err() || writer.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

/// The functions in other languages, as far as they can be started here.
pub(crate) fn others(table: &Table) -> [(&'static str, Option<Program>); 2] {
    let script = |name: &str| format!("{}/functions/{name}", env!("CARGO_MANIFEST_DIR"));
    let program = |interpreter: &str, check: &[&str], file: &str| {
        let folder = std::env::var("BENCH_NODE_PATH").unwrap_or_default();
        let works = Command::new(interpreter)
            .args(check)
            .env("NODE_PATH", &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let path = std::env::var("PATH").unwrap_or_default();
        works.is_ok_and(|status| status.success()).then(|| Program {
            command: vec![interpreter.to_owned(), script(file)],
            environment: [("PATH".to_owned(), path), ("NODE_PATH".to_owned(), folder)]
                .into_iter()
                .chain(table.environment().to_vec())
                .collect(),
        })
    };
    let interpreter = std::env::var("BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    [
        ("Python with boto3", program(&interpreter, &["-c", "import boto3"], "function.py")),
        (
            "Node with the AWS SDK",
            program("node", &["-e", "require('@aws-sdk/client-dynamodb')"], "function.cjs"),
        ),
    ]
}
