//! An HTTP server by a function.

use crate::{Counter, tls::Identity};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A body of any kind.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How a request ends.
#[derive(Debug)]
pub enum Ending {
    /// With this response.
    Respond(Response<Body>),
    /// The connection is closed without a response.
    Close,
}

/// A body in memory.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A response with a status and a body.
pub fn respond(status: u16, content: impl Into<Bytes>) -> Ending {
    let mut response = Response::new(body(content));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Ending::Respond(response)
}

/// A running server. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    certificate: Option<String>,
    accepting: JoinHandle<()>,
    stop: watch::Sender<()>,
    connections: Counter,
}

impl Server {
    /// Listens on a free port.
    pub async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        Self::start_at(0, handler).await
    }

    /// Listens on a port.
    pub async fn start_at<F, R>(port: u16, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        Self::listen(port, None, handler).await
    }

    /// Listens on a free port for encrypted connections to `localhost`.
    pub async fn start_encrypted<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        Self::listen(0, Some(Identity::new()), handler).await
    }

    async fn listen<F, R>(port: u16, identity: Option<Identity>, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Ending> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let stop = watch::Sender::new(());
        let connections = Counter::default();
        let (certificate, tls) = identity.map(|identity| (identity.certificate, identity.acceptor)).unzip();
        let accepting =
            tokio::spawn(accept(listener, tls, Arc::new(handler), stop.clone(), connections.clone()));
        Self { address, certificate, accepting, stop, connections }
    }

    /// `127.0.0.1` and the port.
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

    /// Closes all connections. New ones are accepted.
    pub fn cut_connections(&self) {
        self.stop.send_replace(());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.stop.send_replace(());
    }
}

async fn accept<F, R>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Arc<F>,
    stop: watch::Sender<()>,
    connections: Counter,
) where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Ending> + Send + 'static,
{
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        tcp.set_nodelay(true).expect("an open connection");
        connections.add();
        let (handler, tls) = (Arc::clone(&handler), tls.clone());
        let mut stopped = stop.subscribe();
        tokio::spawn(async move {
            let served = async {
                match tls {
                    None => serve(tcp, handler).await,
                    Some(tls) => {
                        // A client that does not trust the certificate goes away.
                        if let Ok(stream) = tls.accept(tcp).await {
                            serve(stream, handler).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = served => {}
                _ = stopped.changed() => {}
            }
        });
    }
}

async fn serve<S, F, R>(stream: S, handler: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Ending> + Send + 'static,
{
    let service = service_fn(move |request| {
        let ending = handler(request);
        async move {
            match ending.await {
                Ending::Respond(response) => Ok(response),
                Ending::Close => Err("closed without a response"),
            }
        }
    });
    // A connection that breaks is part of the tests.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
