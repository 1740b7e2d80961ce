//! An HTTP server that can end a connection without a response.

use crate::{Counter, StartError, tls::Identity};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{Response, StatusCode},
    response::IntoResponse,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Where a server listens: always on 127.0.0.1, because programs accept plain HTTP only there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listen {
    /// The port. Zero means any free port.
    pub port: u16,
    /// Another address of this machine, at which others reach it. 0.0.0.0 means all.
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
    /// The address that could not be bound, and why.
    pub async fn bind(self) -> Result<(Vec<TcpListener>, SocketAddr), (SocketAddr, io::Error)> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let addresses = match self.also {
            // This includes loopback, so binding both addresses would collide.
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
    certificate: Option<String>,
    accepting: Vec<JoinHandle<()>>,
    cut: watch::Sender<()>,
    connections: Counter,
}

/// How a scripted request ends.
#[derive(Debug)]
pub enum Ending {
    /// With this response.
    Respond(Response<Body>),
    /// The connection is closed without a response.
    Close,
}

/// A response with a status and a body.
///
/// # Panics
/// If there is no such status.
pub fn respond(status: u16, content: impl Into<Body>) -> Ending {
    #[expect(clippy::expect_used, reason = "tests name the status")]
    let status = StatusCode::from_u16(status).expect("a status");
    Ending::Respond((status, content.into()).into_response())
}

impl Server {
    /// Serves `routes`. Handlers may extract `ConnectInfo<Peer>`.
    pub async fn start(
        service: &'static str,
        listen: impl Into<Listen>,
        routes: Router,
    ) -> Result<Self, StartError> {
        Self::serve(service, listen.into(), None, routes).await
    }

    /// Serves a function on a free port.
    pub async fn script<F, R>(handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        Self::script_at(0, handler).await
    }

    /// Serves a function on this port.
    ///
    /// # Panics
    /// If the port is taken.
    #[expect(clippy::expect_used, reason = "made for tests, which fail by panicking")]
    pub async fn script_at<F, R>(port: u16, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        Self::serve("a scripted server", port.into(), None, routes_of(handler))
            .await
            .expect("the port is free")
    }

    /// Serves a function on a free port, for encrypted connections to `localhost`.
    ///
    /// # Panics
    /// If there is no free port.
    #[expect(clippy::expect_used, reason = "made for tests, which fail by panicking")]
    pub async fn script_encrypted<F, R>(handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        let identity = Some(Identity::new());
        Self::serve("a scripted server", 0.into(), identity, routes_of(handler)).await.expect("a free port")
    }

    async fn serve(
        service: &'static str,
        listen: Listen,
        identity: Option<Identity>,
        routes: Router,
    ) -> Result<Self, StartError> {
        let bound = listen.bind().await;
        let (listeners, address) =
            bound.map_err(|(address, source)| StartError::Listen { service, address, source })?;
        let (cut, connections) = (watch::Sender::new(()), Counter::default());
        let (certificate, tls) = identity.map(|identity| (identity.certificate, identity.acceptor)).unzip();
        let accept =
            |tcp| tokio::spawn(accept(tcp, tls.clone(), routes.clone(), cut.clone(), connections.clone()));
        let accepting = listeners.into_iter().map(accept).collect();
        Ok(Self { address, certificate, accepting, cut, connections })
    }

    /// 127.0.0.1 and the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        match self.certificate {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// The certificate of a server that encrypts, in PEM.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> &Counter {
        &self.connections
    }

    /// Cuts all connections. New ones are accepted.
    pub fn cut_connections(&self) {
        self.cut.send_replace(());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
        self.cut_connections();
    }
}

fn routes_of<F, R>(handler: F) -> Router
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Ending> + Send + 'static,
{
    let handler = Arc::new(handler);
    Router::new().fallback(move |ConnectInfo(peer): ConnectInfo<Peer>, request: Request| {
        let ending = handler(request);
        async move {
            match ending.await {
                Ending::Respond(response) => response,
                Ending::Close => peer.close(),
            }
        }
    })
}

/// How a connection ends without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ended without a response")]
enum Ended {
    /// With a FIN, as when a process exits.
    Closed,
    /// With an RST, as when a process is killed or a middlebox drops the connection.
    Reset,
}

/// The other end of a request's connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address.
    pub address: IpAddr,
    ended: Arc<OnceLock<Ended>>,
}

impl Peer {
    /// Closes the connection without a response. The handler must return the response from this function, which is
    /// never sent.
    pub fn close(&self) -> Response<Body> {
        self.end(Ended::Closed)
    }

    /// Resets the connection without a response. Otherwise like [`Peer::close`].
    pub fn reset(&self) -> Response<Body> {
        self.end(Ended::Reset)
    }

    fn end(&self, ended: Ended) -> Response<Body> {
        // Only the first ending of a connection counts.
        let _ = self.ended.set(ended);
        StatusCode::NO_CONTENT.into_response()
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    routes: Router,
    cut: watch::Sender<()>,
    connections: Counter,
) {
    loop {
        let Ok((tcp, client)) = listener.accept().await else {
            // There may be too many open files.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // A failure only costs latency.
        let _ = tcp.set_nodelay(true);
        connections.add();
        let peer = Peer { address: client.ip(), ended: Arc::default() };
        let (routes, tls, mut cut) = (routes.clone(), tls.clone(), cut.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = serve(tcp, tls, peer, routes) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn serve(tcp: TcpStream, tls: Option<TlsAcceptor>, peer: Peer, routes: Router) {
    let Some(tls) = tls else {
        let tcp = serve_http(tcp, &peer, routes).await;
        if peer.ended.get() == Some(&Ended::Reset) {
            let _ = tcp.set_zero_linger();
        }
        return;
    };
    // A client that does not trust the certificate disconnects.
    if let Ok(stream) = tls.accept(tcp).await {
        serve_http(stream, &peer, routes).await;
    }
}

/// Serves a connection until one of its ends closes it.
async fn serve_http<S>(stream: S, peer: &Peer, routes: Router) -> S
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|mut request: axum::http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        let response = routes.call(request);
        async {
            let Ok(response) = response.await;
            peer.ended.get().map_or(Ok(response), |ended| Err(*ended))
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A connection that breaks is part of the tests.
    let _ = (&mut connection).await;
    connection.into_parts().io.into_inner()
}
