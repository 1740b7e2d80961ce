//! Connections below HTTP.

use crate::Counter;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Sends bytes, and reads one response, or everything until the other side closes.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("the server reads");
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_complete(&answer) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and closes its side at once.
pub async fn send_and_leave(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("the server reads");
    stream.shutdown().await.expect("an open connection");
    let mut answer = Vec::new();
    // A server that closes early may reset the connection after its answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).map(str::trim);
    match length.and_then(|length| length.parse().ok()) {
        Some(length) => body.len() >= length,
        None => head.contains("chunked") && body.ends_with("\r\n\r\n"),
    }
}

/// A port that refuses connections.
pub async fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("the listener has an address").port()
}

/// Accepts connections, reads the head of one request of each, and resets them.
pub async fn accept_and_reset() -> (SocketAddr, Counter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the listener has an address");
    let requests = Counter::default();
    let counter = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => head.extend_from_slice(&buffer[..length]),
                }
            }
            counter.add();
            stream.set_zero_linger().expect("an open connection");
        }
    });
    (address, requests)
}

/// Addresses where no connection is ever established: the queue of connections is full.
#[derive(Debug)]
pub struct Silent {
    addresses: Vec<SocketAddr>,
    _queues: Vec<(TcpListener, Vec<TcpStream>)>,
}

impl Silent {
    /// Starts on a free port of IPv4, and one of IPv6 if this machine has it.
    pub async fn start() -> Self {
        let v4 = fill_queue(Ipv4Addr::LOCALHOST.into()).await.expect("IPv4");
        let queues: Vec<_> = [v4].into_iter().chain(fill_queue(Ipv6Addr::LOCALHOST.into()).await).collect();
        let address = |queue: &(TcpListener, _)| queue.0.local_addr().expect("the listener has an address");
        Self { addresses: queues.iter().map(address).collect(), _queues: queues }
    }

    /// Addresses that a name may have besides one that answers: one of each protocol, and several.
    pub fn cases(&self) -> Vec<Vec<SocketAddr>> {
        let one = self.addresses.iter().map(|address| vec![*address]);
        one.chain([vec![self.addresses[0]; 3]]).collect()
    }
}

async fn fill_queue(host: IpAddr) -> io::Result<(TcpListener, Vec<TcpStream>)> {
    let socket = if host.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(host, 0))?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut queue = Vec::new();
    // While there is room, the kernel answers at once.
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queue.push(connected?);
    }
    Ok((listener, queue))
}
