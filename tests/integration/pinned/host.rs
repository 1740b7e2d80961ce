//! An HTTP host that returns scripted responses, and records every request.

use flate2::{Compression, bufread::GzEncoder};
use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// How the host handles a request. Without a script it never responds.
pub(crate) enum Script {
    Respond(String),
    /// Responds with a body that is not text.
    RespondBytes(Vec<u8>),
    /// Sends this, and then nothing.
    Stall(String),
    /// Waits until the paused clock reaches this, lets the clock run again, and responds.
    RespondAfter(Duration, String),
    Close,
}

/// A request, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) client: SocketAddr,
}

pub(crate) struct Host {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    requests: watch::Sender<Vec<Received>>,
    connections: watch::Sender<usize>,
}

impl Host {
    pub(crate) async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            scripts: Mutex::new(scripts.into_iter().collect()),
            requests: watch::Sender::default(),
            connections: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.requests.borrow().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until this many requests have arrived.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut requests = self.shared.requests.subscribe();
        requests.wait_for(|requests| requests.len() >= count).await.expect("the host runs");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A response that keeps the connection open for more requests.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let headers =
        headers.iter().fold(String::new(), |text, (name, value)| text + name + ": " + value + "\r\n");
    format!("HTTP/1.1 {status} Any\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// The same with a compressed body.
pub(crate) fn compressed(status: u16, headers: &[(&str, &str)], body: &str) -> Script {
    let mut bytes = Vec::new();
    GzEncoder::new(body.as_bytes(), Compression::default()).read_to_end(&mut bytes).expect("a buffer");
    let (head, length) = (response(status, headers, ""), bytes.len());
    let mut whole = head.replace("content-length: 0", &format!("content-length: {length}")).into_bytes();
    whole.append(&mut bytes);
    Script::RespondBytes(whole)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, client)) = listener.accept().await {
        shared.connections.send_modify(|count| *count += 1);
        tokio::spawn(serve(stream, client, Arc::clone(&shared)));
    }
}

async fn serve(mut stream: TcpStream, client: SocketAddr, shared: Arc<Shared>) {
    while let Some(request) = receive(&mut stream, client).await {
        shared.requests.send_modify(|requests| requests.push(request));
        let script = shared.scripts.lock().unwrap().pop_front();
        let response = match script {
            Some(Script::Respond(text)) => text.into_bytes(),
            Some(Script::RespondBytes(bytes)) => bytes,
            Some(Script::RespondAfter(delay, text)) => {
                tokio::time::sleep(delay).await;
                tokio::time::resume();
                text.into_bytes()
            }
            Some(Script::Stall(text)) => {
                stream.write_all(text.as_bytes()).await.expect("a client that reads");
                std::future::pending().await
            }
            Some(Script::Close) => return,
            None => std::future::pending().await,
        };
        // The client may have hung up after the head of the response.
        if stream.write_all(&response).await.is_err() {
            return;
        }
    }
}

/// The next request of a connection, or `None` if it ends.
async fn receive(stream: &mut TcpStream, client: SocketAddr) -> Option<Received> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    while !head.ends_with(END) {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head in UTF-8");
    let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
    let line = lines.next().expect("a request line");
    let headers: BTreeMap<String, String> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_lowercase(), value.to_owned())
        })
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { line, headers, body: String::from_utf8(body).expect("a body in UTF-8"), client })
}
