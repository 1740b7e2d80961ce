//! Accepts connections on localhost.

use crate::{
    Agent,
    log::{Level, log},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
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

/// A pause after the system refused to accept a connection, for example because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest head of a request. A guard token in it may have a few kilobytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// A port that is open. Connections wait in the system's queue until it is served.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Listens on a port of 127.0.0.1; 0 stands for any free one.
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

    /// Serves until `until` is ready. Then no connection is accepted any more, and requests that are under way have
    /// the time `drain` to end.
    pub async fn serve(self, agent: Arc<Agent>, until: impl Future<Output = ()>, drain: Duration) {
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut until = pin!(until);
        loop {
            tokio::select! {
                () = &mut until => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, _)) => {
                        connections.spawn(serve_connection(tcp, Arc::clone(&agent), stopped.clone()));
                    }
                    Err(error) => {
                        log(Level::Warn, "cannot accept a connection", &[("error", error.to_string().into())]);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
        drop((self.listener, stop));
        let ended = async { while connections.join_next().await.is_some() {} };
        // Connections that are still there are closed with the set.
        let _ = tokio::time::timeout(drain, ended).await;
    }
}

async fn serve_connection(tcp: TcpStream, agent: Arc<Agent>, mut stopped: watch::Receiver<()>) {
    // Costs latency at worst.
    let _ = tcp.set_nodelay(true);
    let service = service_fn(move |request| {
        let agent = Arc::clone(&agent);
        async move { Ok::<_, Infallible>(agent.handle(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(LONGEST_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(tcp), service));
    // The caller notices a broken connection itself.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
