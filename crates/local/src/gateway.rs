//! Lets containers reach the services. A container has its own loopback and reaches this machine at the gateway of its
//! network, so connections to that address are forwarded to loopback.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Forwards connections to this address to the services, port by port.
pub(crate) async fn open(address: IpAddr, urls: &[String]) -> Result<(), Box<dyn Error>> {
    for url in urls {
        let service: SocketAddr = url.trim_start_matches("http://").parse()?;
        let port = service.port();
        let listener = TcpListener::bind((address, port))
            .await
            .map_err(|source| format!("cannot listen on {address}:{port}: {source}"))?;
        tokio::spawn(forward(listener, service));
    }
    Ok(())
}

async fn forward(listener: TcpListener, service: SocketAddr) {
    loop {
        let Ok((mut outside, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            if let Ok(mut inside) = TcpStream::connect(service).await {
                // Both connections are closed when this ends, also with an error.
                let _ = copy_bidirectional(&mut outside, &mut inside).await;
            }
        });
    }
}
