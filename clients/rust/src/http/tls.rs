//! TLS, set up once for the first connection that needs it.

use super::body::BoxError;
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

/// The trusted certificate authorities. By default it is Mozilla's list, which is compiled in: reading the system's
/// takes longer than the rest of a cold start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

/// Why TLS cannot be set up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// `SSL_CERT_FILE` or `AWS_CA_BUNDLE` names this file.
    #[error("{} cannot be read, or is not a PEM file of certificates", .0.display())]
    UnusableFile(PathBuf),
    /// The files and the folders hold no certificate.
    #[error("SSL_CERT_FILE, SSL_CERT_DIR and AWS_CA_BUNDLE name no certificate")]
    NoAuthority,
    /// The TLS library supports no version of the protocol.
    #[error("the TLS library supports no version of the protocol")]
    NoVersion,
}

impl Roots {
    /// The authorities that `SSL_CERT_FILE`, `SSL_CERT_DIR` (folders separated by colons, as in OpenSSL) and
    /// `AWS_CA_BUNDLE` name.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name| lookup(name).filter(|value| !value.is_empty());
        let folders = value("SSL_CERT_DIR").unwrap_or_default();
        Self {
            files: ["SSL_CERT_FILE", "AWS_CA_BUNDLE"]
                .into_iter()
                .filter_map(value)
                .map(PathBuf::from)
                .collect(),
            folders: std::env::split_paths(&folders)
                .filter(|folder| !folder.as_os_str().is_empty())
                .collect(),
        }
    }

    /// The settings of TLS connections. Clones of them share the authorities.
    ///
    /// # Errors
    /// The environment names authorities that cannot be used.
    pub fn tls_config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::NoVersion)?;
        Ok(builder.with_root_certificates(self.load()?).with_no_client_auth())
    }

    fn load(&self) -> Result<RootCertStore, TlsError> {
        if *self == Self::default() {
            return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        }
        let mut store = RootCertStore::empty();
        for file in &self.files {
            let unusable = || TlsError::UnusableFile(file.clone());
            for certificate in certificates(file).ok_or_else(unusable)? {
                store.add(certificate).map_err(|_| unusable())?;
            }
        }
        // A folder may hold other files too.
        for entry in self.folders.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            store.add_parsable_certificates(certificates(&entry.path()).unwrap_or_default());
        }
        if store.is_empty() { Err(TlsError::NoAuthority) } else { Ok(store) }
    }
}

fn certificates(file: &Path) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file).ok()?.collect::<Result<_, _>>().ok()
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
        let mut config = self.roots.tls_config()?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.connector.get_or_init(|| TlsConnector::from(Arc::new(config))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(variables: &[(&str, &str)]) -> Result<usize, TlsError> {
        let value = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
        let roots = Roots::from_environment(|name| value(name).map(|(_, value)| (*value).to_owned()));
        roots.load().map(|store| store.len())
    }

    #[test]
    fn named_authorities_are_the_only_ones() {
        let authority = rcgen::generate_simple_self_signed(["authority.example".to_owned()]).unwrap();
        let folder = std::env::temp_dir().join(format!("token-broker-roots-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("authority.pem");
        std::fs::write(&file, authority.cert.pem()).unwrap();
        std::fs::write(folder.join("other.txt"), "no certificate").unwrap();
        let (file, folder) = (file.to_str().unwrap(), folder.to_str().unwrap());
        let folders = format!("/does/not/exist:{folder}:");
        for variable in [
            ("SSL_CERT_FILE", file),
            ("AWS_CA_BUNDLE", file),
            ("SSL_CERT_DIR", folder),
            ("SSL_CERT_DIR", folders.as_str()),
        ] {
            assert_eq!(named(&[variable]), Ok(1), "{variable:?}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_compiled_list_is_the_default() {
        let compiled = webpki_roots::TLS_SERVER_ROOTS.len();
        assert_eq!(named(&[]), Ok(compiled));
        assert_eq!(
            named(&[("SSL_CERT_FILE", ""), ("SSL_CERT_DIR", ""), ("AWS_CA_BUNDLE", "")]),
            Ok(compiled)
        );
        for variable in ["SSL_CERT_FILE", "AWS_CA_BUNDLE"] {
            let missing = PathBuf::from("/does/not/exist");
            assert_eq!(named(&[(variable, "/does/not/exist")]), Err(TlsError::UnusableFile(missing)));
        }
        assert_eq!(named(&[("SSL_CERT_DIR", "/does/not/exist")]), Err(TlsError::NoAuthority));
    }
}
