//! A caller's connection. A response that is not read is abandoned, and every refusal gets the contract's body.

use crate::reply;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_io_timeout::TimeoutStream;

/// How long a caller may leave a response unread.
const LONGEST_WRITE: Duration = Duration::from_secs(30);

/// The bytes of one connection.
pub(crate) struct CallerStream(Pin<Box<TimeoutStream<TcpStream>>>);

impl CallerStream {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        let mut stream = TimeoutStream::new(tcp);
        stream.set_write_timeout(Some(LONGEST_WRITE));
        Self(Box::pin(stream))
    }
}

impl AsyncRead for CallerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for CallerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(refusal) = with_body(bytes) else { return self.0.as_mut().poll_write(context, bytes) };
        // The connection closes afterwards, so a part that does not fit may be lost.
        let _length = ready!(self.0.as_mut().poll_write(context, &refusal))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
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
