//! Sends requests.

use super::{
    pool::{Connection, Pool},
    target::Target,
    tls::{Roots, Tls},
};
use crate::{Clock, clock::within};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of any kind.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body without content.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body in memory.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// The connection broke, or the body is longer.
pub async fn collect<B>(body: B, limit: usize) -> Result<Vec<u8>, BoxError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    Ok(Limited::new(body, limit).collect().await?.to_bytes().into())
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection, so nothing was sent.
    #[error("no connection to {0}: {1}")]
    NotConnected(String, String),
    /// The connection broke after the request had left, at least in part. The server may have acted on it.
    #[error("the connection to {target} broke: {reason}")]
    Broken {
        /// The server.
        target: String,
        /// The cause.
        reason: String,
        /// The connection had carried another request before, so the server may have closed it for being idle.
        reused: bool,
    },
}

/// A response, and how it came.
pub type Sent = Response<Incoming>;

/// Opens connections and reuses them. Clones share them.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    tls: Tls,
    pool: Pool,
    clock: Box<dyn Clock>,
    connect_timeout: Duration,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HttpClient")
    }
}

impl HttpClient {
    /// A client without connections.
    pub fn new(clock: impl Clock, roots: Roots, connect_timeout: Duration) -> Self {
        let tls = Tls::new(roots);
        Self(Arc::new(Shared { tls, pool: Pool::default(), clock: Box::new(clock), connect_timeout }))
    }

    /// Sends the request to the target. Its URI is a path; the header `Host` is set here.
    ///
    /// # Errors
    /// No connection, or one that broke before the response began.
    pub async fn send(&self, target: &Target, request: Request<Body>) -> Result<Sent, SendError> {
        self.send_over(target, request, true).await
    }

    /// As [`HttpClient::send`], over a new connection.
    ///
    /// # Errors
    /// As [`HttpClient::send`].
    pub async fn send_anew(&self, target: &Target, request: Request<Body>) -> Result<Sent, SendError> {
        self.send_over(target, request, false).await
    }

    async fn send_over(
        &self,
        target: &Target,
        mut request: Request<Body>,
        reuse: bool,
    ) -> Result<Sent, SendError> {
        request.headers_mut().insert(header::HOST, target.authority.clone());
        loop {
            let idle = reuse.then(|| self.0.pool.take(target, self.0.clock.now())).flatten();
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                // In a box: a connection is opened rarely, and its state would make each request's larger.
                None => Box::pin(self.connect(target)).await?,
            };
            let mut error = match connection.try_send_request(request).await {
                Ok(response) => {
                    self.put_back(target.clone(), connection);
                    return Ok(response);
                }
                Err(error) => error,
            };
            match error.take_message() {
                // Nothing of it was sent: the connection was closed while it was idle.
                Some(unsent) if reused => request = unsent,
                unsent => {
                    let (target, reason) = (target.to_string(), chain(error.error()));
                    return Err(match unsent {
                        Some(_) => SendError::NotConnected(target, reason),
                        None => SendError::Broken { target, reason, reused },
                    });
                }
            }
        }
    }

    /// The connection is ready again when the response's body has been read to its end.
    fn put_back(&self, target: Target, mut connection: Connection) {
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            if connection.ready().await.is_ok() {
                shared.pool.put(&target, connection, shared.clock.now());
            }
        });
    }

    async fn connect(&self, target: &Target) -> Result<Connection, SendError> {
        let deadline = self.0.clock.now().plus(self.0.connect_timeout);
        let opened = within(&*self.0.clock, deadline, self.open(target)).await;
        let opened = opened.unwrap_or_else(|| Err("timed out".into()));
        opened.map_err(|error| SendError::NotConnected(target.to_string(), chain(&*error)))
    }

    async fn open(&self, target: &Target) -> Result<Connection, BoxError> {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        if target.tls { speak(self.0.tls.connect(&target.host, tcp).await?).await } else { speak(tcp).await }
    }
}

async fn speak<T>(stream: T) -> Result<Connection, BoxError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, driver) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
    // An error of the connection reaches the request that is on it.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(connection)
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
