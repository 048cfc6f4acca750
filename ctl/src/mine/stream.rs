//! Plain and TLS connections to a pool, alike.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::failure::Failure;

/// A connection of either kind.
pub(super) type Stream = Box<dyn Both>;

/// Reads and writes.
pub(super) trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

/// How to connect.
#[derive(Clone)]
pub(super) enum Connector {
    /// As it is.
    Plain,
    /// With TLS.
    Tls(Arc<ClientConfig>),
}

impl Connector {
    /// TLS that trusts the CAs in a PEM file.
    pub(super) fn tls(ca: &Path) -> Result<Self, Failure> {
        let unusable = |why: String| Failure::Usage(format!("{} as CA: {why}", ca.display()));
        let pem = fs::read(ca).map_err(|error| unusable(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("there is no certificate in it".to_owned()));
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self::Tls(Arc::new(config)))
    }

    /// Connects to `host:port`.
    pub(super) async fn connect(&self, address: &str) -> std::io::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        // Shares are small and urgent.
        stream.set_nodelay(true)?;
        match self {
            Self::Plain => Ok(Box::new(stream)),
            Self::Tls(config) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                let connector = TlsConnector::from(Arc::clone(config));
                Ok(Box::new(connector.connect(name, stream).await?))
            }
        }
    }
}
