//! A way in for containers. Their loopback is their own: they reach this machine at the gateway of their network, and
//! what arrives there is passed on to loopback.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Passes on to these services what comes to their ports at this address.
pub async fn open(address: IpAddr, urls: &[String]) -> Result<(), Box<dyn Error>> {
    for url in urls {
        let service: SocketAddr = url.trim_start_matches("http://").parse()?;
        let port = service.port();
        let listener = TcpListener::bind((address, port))
            .await
            .map_err(|source| format!("cannot listen on {address}:{port}: {source}"))?;
        tokio::spawn(pass_on(listener, service));
    }
    Ok(())
}

async fn pass_on(listener: TcpListener, service: SocketAddr) {
    loop {
        let Ok((mut outside, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            if let Ok(mut inside) = TcpStream::connect(service).await {
                // However it ends, both connections are closed.
                let _ = copy_bidirectional(&mut outside, &mut inside).await;
            }
        });
    }
}
