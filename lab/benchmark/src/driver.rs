//! A Lambda Runtime API on plain sockets, which adds little to a latency: one thread per connection, no HTTP library,
//! hardly any allocation.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// A program to measure.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

/// A running instance of a program. It is killed when this is dropped.
pub(crate) struct Function {
    pub(crate) started_at: Instant,
    process: Child,
    events: Sender<Event>,
    requested: Receiver<Instant>,
    sent: Arc<Sent>,
}

struct Event {
    payload: Arc<[u8]>,
    answered: Sender<Answer>,
}

/// How the program handled an event.
pub(crate) struct Answer {
    pub(crate) latency: Duration,
    pub(crate) at: Instant,
    pub(crate) body: Vec<u8>,
}

impl Function {
    pub(crate) fn start(program: &Program) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (events, waiting) = channel();
        let (request_arrived, requested) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let sent = Arc::new(Sent::default());
        let all_sent = Arc::clone(&sent);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (waiting, sent) = (Arc::clone(&waiting), Arc::clone(&all_sent));
                let request_arrived = request_arrived.clone();
                thread::spawn(move || serve(stream, &waiting, &request_arrived, &sent));
            }
        });
        let started_at = Instant::now();
        let process = spawn(program, address);
        Self { started_at, process, events, requested, sent }
    }

    /// Waits until the program requests its first event, and returns how long that took.
    pub(crate) fn until_first_request(&self) -> Duration {
        let requested_at =
            self.requested.recv_timeout(Duration::from_secs(30)).expect("it requests an event");
        requested_at - self.started_at
    }

    /// Invokes the program.
    pub(crate) fn invoke(&self, payload: &Arc<[u8]>) -> Answer {
        self.begin(payload).recv_timeout(Duration::from_secs(30)).expect("it answers")
    }

    /// Queues an event.
    pub(crate) fn begin(&self, payload: &Arc<[u8]>) -> Receiver<Answer> {
        let (answered, answer) = channel();
        self.events.send(Event { payload: Arc::clone(payload), answered }).expect("it runs");
        answer
    }

    /// Ends the program as Lambda ends an instance, and waits for it.
    pub(crate) fn terminate(&mut self) {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        self.process.wait().expect("it ends");
    }

    /// The driver's own share of a latency, on average: writing the event, and reading the answer once it has arrived.
    pub(crate) fn own_share(&self) -> Duration {
        let (nanoseconds, count) = (&self.sent.own_nanoseconds, &self.sent.count);
        Duration::from_nanos(nanoseconds.load(Ordering::Relaxed) / count.load(Ordering::Relaxed).max(1))
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program's output is read, as Lambda does.
fn spawn(program: &Program, api: SocketAddr) -> Child {
    let (name, arguments) = program.command.split_first().expect("a command");
    let mut process = Command::new(name)
        .args(arguments)
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "benchmark")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program starts");
    let mut output = process.stdout.take().expect("a pipe");
    thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    process
}

/// The unanswered events, by request id, and the number of all events. An answer may come over another connection.
#[derive(Default)]
struct Sent {
    waiting: Mutex<HashMap<String, (Sender<Answer>, Instant)>>,
    count: AtomicU64,
    own_nanoseconds: AtomicU64,
}

impl Sent {
    fn add_own_share(&self, since: Instant, until: Instant) {
        let share = (until - since).as_nanos().try_into().unwrap_or(u64::MAX);
        self.own_nanoseconds.fetch_add(share, Ordering::Relaxed);
    }
}

/// Serves one connection of a program until it ends.
fn serve(
    stream: TcpStream,
    waiting: &Mutex<Receiver<Event>>,
    request_arrived: &Sender<Instant>,
    sent: &Sent,
) {
    stream.set_nodelay(true).expect("an open connection");
    let mut writer = stream.try_clone().expect("a socket");
    let mut reader = BufReader::new(stream);
    while let Some((arrived_at, answered_id, body)) = request(&mut reader) {
        if let Some(id) = answered_id {
            let at = Instant::now();
            sent.add_own_share(arrived_at, at);
            if writer.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
            let (answered, sent_at) =
                sent.waiting.lock().expect("no thread panics").remove(&id).expect("an event was sent");
            let _ = answered.send(Answer { latency: at - sent_at, at, body });
            continue;
        }
        let _ = request_arrived.send(Instant::now());
        let event = waiting.lock().expect("no thread panics").recv();
        let Ok(event) = event else { return };
        let id = format!("8476a536-e9f4-11e8-9739-{:012}", sent.count.fetch_add(1, Ordering::Relaxed));
        let deadline_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis() + 30_000;
        let mut response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
             Lambda-Runtime-Aws-Request-Id: {id}\r\n\
             Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:benchmark\r\n\
             Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n\
             Content-Length: {}\r\n\r\n",
            event.payload.len()
        )
        .into_bytes();
        response.extend_from_slice(&event.payload);
        let sent_at = Instant::now();
        sent.waiting.lock().expect("no thread panics").insert(id, (event.answered, sent_at));
        if writer.write_all(&response).is_err() {
            return;
        }
        sent.add_own_share(sent_at, Instant::now());
    }
}

/// Reads a request: when it arrived, the id of the event that it answers, if any, and its body.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(Instant, Option<String>, Vec<u8>)> {
    reader.fill_buf().ok()?;
    let arrived_at = Instant::now();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let answered_id = line.starts_with("POST").then(|| line.split('/').nth(4).unwrap_or_default().to_owned());
    assert!(!line.contains("/error"), "the function failed: {line}");
    let (mut length, mut is_chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        is_chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while is_chunked {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length + 2, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        body.truncate(start + length);
        is_chunked = length > 0;
    }
    Some((arrived_at, answered_id, body))
}
