//! An HTTP server that can cut a connection without a response.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::StartError;

/// Where a server listens: always on 127.0.0.1, since programs accept plain HTTP there only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listen {
    /// The port. Zero stands for any free one.
    pub port: u16,
    /// An address of this machine at which others reach it, too. 0.0.0.0 stands for all.
    pub also: Option<IpAddr>,
}

impl From<u16> for Listen {
    fn from(port: u16) -> Self {
        Self { port, also: None }
    }
}

impl Listen {
    /// Binds the port on 127.0.0.1, and the same one on the other address. Returns the address on 127.0.0.1.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub async fn bind(self) -> Result<(Vec<TcpListener>, SocketAddr), (SocketAddr, io::Error)> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let addresses = match self.also {
            // Includes loopback. Bound to both, the addresses would collide.
            Some(all) if all.is_unspecified() => vec![all],
            Some(also) if also != loopback => vec![loopback, also],
            _ => vec![loopback],
        };
        let (mut port, mut listeners) = (self.port, Vec::new());
        for address in addresses {
            let failed = |source| (SocketAddr::new(address, port), source);
            let listener = TcpListener::bind((address, port)).await.map_err(failed)?;
            port = listener.local_addr().map_err(failed)?.port();
            listeners.push(listener);
        }
        Ok((listeners, SocketAddr::new(loopback, port)))
    }
}

/// A running server. It stops listening and cuts its connections when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: Vec<JoinHandle<()>>,
    // Every connection ends when this sender is dropped.
    _running: watch::Sender<()>,
}

impl Server {
    /// Serves `routes`. Handlers may extract `ConnectInfo<Peer>`.
    pub async fn start(
        service: &'static str,
        listen: impl Into<Listen>,
        routes: Router,
    ) -> Result<Self, StartError> {
        let bound = listen.into().bind().await;
        let (listeners, address) =
            bound.map_err(|(address, source)| StartError::Listen { service, address, source })?;
        let (running, stopped) = watch::channel(());
        let accept = |tcp| {
            let listener = CuttableListener { tcp, stopped: stopped.clone() };
            let service = routes.clone().into_make_service_with_connect_info::<Peer>();
            // Never returns: axum retries after an error.
            tokio::spawn(async move {
                let _ = axum::serve(listener, service).await;
            })
        };
        Ok(Self { address, accepting: listeners.into_iter().map(accept).collect(), _running: running })
    }

    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}

/// How a connection ends without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With a FIN, as when a process exits.
    Closed,
    /// With an RST, as when a process is killed or a middlebox drops the connection.
    Reset,
}

/// The other end of the connection that a request came in on.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address.
    pub address: IpAddr,
    ending: Arc<OnceLock<Ending>>,
}

impl Peer {
    /// Closes the connection without a response. The handler must return the response that this returns. It is never
    /// sent, because the attempt to write it ends the connection.
    pub fn close(&self) -> Response {
        self.end(Ending::Closed)
    }

    /// Resets the connection without a response. Otherwise like [`Peer::close`].
    pub fn reset(&self) -> Response {
        self.end(Ending::Reset)
    }

    fn end(&self, ending: Ending) -> Response {
        // Only the first ending of a connection counts.
        let _ = self.ending.set(ending);
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        Self { address: stream.remote_addr().ip(), ending: Arc::clone(&stream.io().ending) }
    }
}

struct CuttableListener {
    tcp: TcpListener,
    stopped: watch::Receiver<()>,
}

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (tcp, address) = Listener::accept(&mut self.tcp).await;
        // Failing costs the emulator some latency.
        let _ = tcp.set_nodelay(true);
        let mut stopped = self.stopped.clone();
        let stream = CuttableStream {
            tcp,
            ending: Arc::default(),
            stopped: Box::pin(async move { while stopped.changed().await.is_ok() {} }),
        };
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection whose next write fails once it has an ending, and whose reads fail once the server has stopped.
struct CuttableStream {
    tcp: TcpStream,
    ending: Arc<OnceLock<Ending>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl CuttableStream {
    fn check(&self) -> io::Result<()> {
        match self.ending.get() {
            None => Ok(()),
            Some(ending) => {
                if *ending == Ending::Reset {
                    self.tcp.set_zero_linger()?;
                }
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Shutting down would send a FIN before the RST.
        self.check()?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
