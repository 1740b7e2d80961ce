//! Sends requests.

use super::{
    body::{Body, BoxError, chain},
    pool::{Connection, Pool},
    target::Target,
    tls::{Roots, Tls},
};
use crate::{Clock, clock::within};
use http::{Request, Response, Uri, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service as _;

/// Some servers send more than hyper's 100 headers.
const MOST_HEADERS: usize = 256;
/// How much of a response waits in memory for its reader. Also the longest head.
const LONGEST_BUFFER: usize = 64 * 1024;

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
        /// Whether the connection had carried another request, so that the server may have closed it as idle.
        reused: bool,
    },
}

/// A response, and how it arrived.
pub type Sent = Response<Incoming>;

/// Opens connections and reuses them. Clones share them.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    tls: Tls,
    dialer: HttpConnector,
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
        Self(Arc::new(Shared {
            tls: Tls::new(roots),
            dialer: dialer(GaiResolver::new(), connect_timeout),
            pool: Pool::default(),
            clock: Box::new(clock),
            connect_timeout,
        }))
    }

    /// Sends the request to the target. Its URI is a path; the header `Host` is set here.
    ///
    /// # Errors
    /// No connection, or one that broke before the response began.
    pub async fn send(&self, target: &Target, request: Request<Body>) -> Result<Sent, SendError> {
        self.send_over(target, request, true).await
    }

    /// Like [`HttpClient::send`], over a new connection.
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
                // Boxed, because connections are opened rarely, and the state would enlarge that of every request.
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
                // Nothing was sent: the connection was closed while idle.
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

    /// The connection is ready again when the response's body has been read completely.
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
        let scheme = if target.tls { "https" } else { "http" };
        let url = Uri::builder().scheme(scheme).authority(target.authority.as_bytes()).path_and_query("/");
        let tcp = self.0.dialer.clone().call(url.build()?).await?.into_inner();
        if target.tls { speak(self.0.tls.connect(&target.host, tcp).await?).await } else { speak(tcp).await }
    }
}

/// hyper-util's connector tries all addresses of a name: both families at once, and the addresses of a family in turn,
/// each for its share of the time.
fn dialer<R>(resolver: R, connect_timeout: Duration) -> HttpConnector<R> {
    let mut dialer = HttpConnector::new_with_resolver(resolver);
    dialer.enforce_http(false);
    dialer.set_nodelay(true);
    dialer.set_connect_timeout(Some(connect_timeout));
    dialer
}

async fn speak<T>(stream: T) -> Result<Connection, BoxError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_BUFFER)
        // Other clients take such responses too.
        .ignore_invalid_headers_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true);
    let (connection, driver) = builder.handshake(TokioIo::new(stream)).await?;
    // An error of the connection reaches its current request.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use emulators::fakes::{Server, Silent, respond};
    use hyper_util::client::legacy::connect::dns::Name;
    use std::{
        convert::Infallible,
        future::{Ready, ready},
        net::SocketAddr,
        task::{Context, Poll},
        vec,
    };

    const LIMIT: Duration = Duration::from_secs(4);

    /// Every name has these addresses.
    #[derive(Clone)]
    struct Addresses(Vec<SocketAddr>);

    impl tower_service::Service<Name> for Addresses {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            ready(Ok(self.0.clone().into_iter()))
        }
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried_within_the_limit() {
        let server = Server::script(async |_| respond(200, "")).await;
        let answers: SocketAddr = server.url().trim_start_matches("http://").parse().unwrap();
        // The ports of the addresses count, because the URL has none.
        let listeners = Silent::start().await;
        for silent in listeners.cases() {
            let addresses = silent.iter().copied().chain([answers]).collect();
            let mut dialer = dialer(Addresses(addresses), LIMIT);
            let connected = dialer.call(Uri::from_static("http://api.example/"));
            let connected = tokio::time::timeout(LIMIT, connected).await;
            let tcp = connected.expect("within the limit").expect("a connection").into_inner();
            assert_eq!(tcp.peer_addr().unwrap(), answers, "{silent:?}");
        }
    }
}
