//! A caller's connection. A response that is not read is abandoned, a caller that leaves is noticed, and every refusal
//! gets the contract's body.

use crate::{connections::Connection, reply, server::LAST_WAIT};
use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, Interest, copy, duplex, join, sink,
    },
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;

/// How long a caller may leave a response unread.
const LONGEST_WRITE: Duration = Duration::from_secs(30);
/// How much of what a caller sends is read ahead.
const MOST_AHEAD: usize = 16 * 1024;
/// Ready when the caller has closed its side, whatever it has sent before: on Linux, tokio counts that as priority. On
/// other systems, only a broken connection is noticed before those bytes are read.
#[cfg(target_os = "linux")]
const CLOSED: Interest = Interest::PRIORITY;
#[cfg(not(target_os = "linux"))]
const CLOSED: Interest = Interest::ERROR;

/// Splits a connection into the stream for hyper, and a future that ends when the caller has closed its side and hyper
/// has the rest, or does not take it.
///
/// hyper does not read while it has bytes of a later request, so this future reads ahead.
pub(crate) fn split(
    tcp: TcpStream,
    connection: Arc<Connection>,
) -> (impl AsyncRead + AsyncWrite + Unpin, impl Future<Output = ()>) {
    let (mut from_caller, to_caller) = tcp.into_split();
    let (mut ahead, requests) = duplex(MOST_AHEAD);
    let mut responses = TimeoutWriter::new(to_caller);
    responses.set_timeout(Some(LONGEST_WRITE));
    let left = async move {
        // After an error, the caller has left too.
        let _ = read_ahead(&mut from_caller, &mut ahead).await;
    };
    (join(requests, Responses { to_caller: Box::pin(responses), connection }), left)
}

async fn read_ahead(from_caller: &mut OwnedReadHalf, ahead: &mut DuplexStream) -> io::Result<()> {
    let mut part = Vec::with_capacity(MOST_AHEAD / 2);
    loop {
        part.clear();
        if from_caller.read_buf(&mut part).await? == 0 {
            return Ok(());
        }
        let mut passed_on = pin!(ahead.write_all(&part));
        let passed_on = tokio::select! {
            biased;
            result = passed_on.as_mut() => result,
            _ = from_caller.ready(CLOSED) => timeout(LAST_WAIT, passed_on).await?,
        };
        if passed_on.is_err() {
            // hyper has ended. A caller that is still sending may not read the response before it has sent all.
            return copy(from_caller, &mut sink()).await.map(drop);
        }
    }
}

/// The bytes that go to a caller.
struct Responses {
    to_caller: Pin<Box<TimeoutWriter<OwnedWriteHalf>>>,
    connection: Arc<Connection>,
}

impl AsyncWrite for Responses {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // After a response of the API, these may be bytes of its body.
        let refusal = if self.connection.has_proxied() { None } else { with_body(bytes) };
        let Some(refusal) = refusal else { return self.to_caller.as_mut().poll_write(context, bytes) };
        // The connection closes afterwards, so a part that does not fit may be lost.
        let _length = ready!(self.to_caller.as_mut().poll_write(context, &refusal))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_caller.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_caller.as_mut().poll_shutdown(context)
    }
}

/// hyper refuses a request that it cannot parse with a head and no body. The agent's own responses have a type, and the
/// API's a generation.
fn with_body(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?;
    let is_hyper = lines
        .all(|line| ["connection:", "content-length:", "date:"].iter().any(|name| line.starts_with(name)));
    is_hyper.then(|| {
        let body = reply::not_http();
        let length = body.len();
        let head = "content-type: application/json\r\ncache-control: no-store\r\nconnection: close";
        format!("{status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_body_gets_one() {
        let of_hyper =
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
                         date: Sun, 29 Nov 2026 15:12:04 GMT\r\n\r\n";
        let text = String::from_utf8(with_body(of_hyper).unwrap()).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
        assert!(text.contains("\"error\":\"invalid_request\""), "{text}");
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nx-token-broker-generation: 7\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert_eq!(with_body(other.as_bytes()), None, "{other}");
        }
    }
}
