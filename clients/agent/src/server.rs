//! Accepts connections on localhost.

use crate::{
    Agent,
    connections::{Connection, UnauthenticatedConnections, most_connections},
    log::{Level, log},
    stream,
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The pause after the system refuses to accept a connection, for example because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest head of a request. Its guard token may have a few kilobytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// How long a connection may wait for the end of a request's head. Clients keep idle connections for less.
const LONGEST_IDLE: Duration = Duration::from_secs(30);
/// How long a response in the agent's buffer, or the last request, may take when the agent ends.
const LAST_WRITE: Duration = Duration::from_millis(100);
/// How long a caller that has closed its side may wait for responses: it may also have left.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(1);

/// An open port. Connections wait in the system's queue until it is served.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Listens on a port of 127.0.0.1; 0 means any free port.
    ///
    /// # Errors
    /// The port is taken, or may not be used.
    pub async fn on(port: u16) -> io::Result<Self> {
        Self::of(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?)
    }

    /// Takes the connections of this listener.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn of(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `until` is ready. Then it accepts no more connections, and requests in flight have `drain` to
    /// finish.
    pub async fn serve(self, agent: Arc<Agent>, until: impl Future<Output = ()>, drain: Duration) {
        let (stop, stopped) = watch::channel(());
        let most = most_connections();
        let unauthenticated = UnauthenticatedConnections::new(most);
        let mut connections = JoinSet::new();
        let mut until = pin!(until);
        let mut is_refused = false;
        loop {
            tokio::select! {
                () = &mut until => break,
                // At the limit, callers wait in the system's queue.
                accepted = self.listener.accept(), if connections.len() < most => {
                    // Logs changes only.
                    if accepted.is_err() != is_refused {
                        is_refused = !is_refused;
                        match &accepted {
                            Ok(_) => log(Level::Info, "connections are accepted again", &[]),
                            Err(error) => {
                                let error = error.to_string().into();
                                log(Level::Warn, "cannot accept a connection", &[("error", error)]);
                            }
                        }
                    }
                    let Ok((tcp, _)) = accepted else {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    };
                    unauthenticated.accept(|connection| {
                        connections.spawn(serve_connection(tcp, Arc::clone(&agent), connection, stopped.clone()))
                    });
                }
                Some(_ended) = connections.join_next() => {}
            }
        }
        drop((self.listener, stop));
        let ended = async { while connections.join_next().await.is_some() {} };
        // Dropping the set closes the remaining connections.
        let _ = tokio::time::timeout(drain, ended).await;
    }
}

async fn serve_connection(
    tcp: TcpStream,
    agent: Arc<Agent>,
    connection: Connection,
    mut stopped: watch::Receiver<()>,
) {
    // A failure costs latency at worst.
    let _ = tcp.set_nodelay(true);
    let connection = Arc::new(connection);
    let of_requests = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let (agent, connection) = (Arc::clone(&agent), Arc::clone(&of_requests));
        async move { Ok::<_, Infallible>(agent.handle(request, &connection).await) }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(LONGEST_HEAD).timer(TokioTimer::new()).header_read_timeout(LONGEST_IDLE);
    builder.half_close(true);
    let (stream, left) = stream::split(tcp, Arc::clone(&connection));
    let mut serving = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let mut left = pin!(left);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // The caller notices a broken connection itself.
            _ = serving.as_mut() => break,
            () = left.as_mut() => {
                let _ = tokio::time::timeout(LAST_WAIT, serving.as_mut()).await;
                return;
            }
            _ = stopped.changed(), if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            // An incomplete request may never become complete.
            () = tokio::time::sleep(LAST_WRITE), if is_stopping => if !connection.is_busy() { return },
        }
    }
    drop(serving);
    if !is_stopping {
        let _ = tokio::time::timeout(LAST_WAIT, left).await;
    }
}
