//! TLS, set up with the first connection that needs it.

use super::client::BoxError;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// PEM files. With neither files nor a folder, Mozilla's list is used, which is compiled in.
    pub files: Vec<PathBuf>,
    /// A folder of PEM files.
    pub folder: Option<PathBuf>,
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, BoxError> {
        if self.files.is_empty() && self.folder.is_none() {
            return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        }
        let mut store = RootCertStore::empty();
        for file in &self.files {
            let named = |error| format!("{}: {error}", file.display());
            for certificate in certificates(file).map_err(named)? {
                store.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        // A folder may hold other files as well.
        for entry in self.folder.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            store.add_parsable_certificates(certificates(&entry.path()).unwrap_or_default());
        }
        if store.is_empty() { Err("no certificate authority is trusted".into()) } else { Ok(store) }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    read.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

pub(super) struct Tls {
    roots: Roots,
    connector: OnceLock<TlsConnector>,
}

impl Tls {
    pub(super) fn new(roots: Roots) -> Self {
        Self { roots, connector: OnceLock::new() }
    }

    pub(super) async fn connect(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, BoxError> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(self.connector()?.connect(name, tcp).await?)
    }

    fn connector(&self) -> Result<&TlsConnector, BoxError> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.load()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.connector.get_or_init(|| TlsConnector::from(Arc::new(config))))
    }
}
