//! How a node is reached: mutual TLS in a process, anything else in a test.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use seam_cluster::tls::{Protocol, Role, Tls, identify, node_server_name};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::metrics::{Metrics, labels};

/// A stream to a node.
pub type Stream = Box<dyn ReadWrite>;

/// What a link needs of a stream.
pub trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ReadWrite for T {}

/// Opens streams to nodes.
pub trait Dial: Send + Sync + 'static {
    /// Reaches the node at `address` (`host:port`), which must be the member `name` if that is
    /// known.
    fn dial<'a>(
        &'a self,
        address: &'a str,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Stream, DialError>>;
}

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The connection failed.
    #[error("connect: {0}")]
    Connect(#[from] io::Error),
    /// It did not come up in time.
    #[error("connect: no answer in time")]
    Timeout,
    /// Its certificate names another member, or none.
    #[error("the certificate there is of {0}")]
    OtherName(String),
}

/// Mutual TLS with the cluster's certificates.
#[derive(Debug)]
pub struct TlsDial {
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
}

impl TlsDial {
    /// Dials with these certificates; reloading them changes later connections.
    pub fn new(tls: Arc<Tls>, metrics: Arc<Metrics>) -> Self {
        Self { tls, metrics }
    }

    async fn open(&self, address: &str, name: Option<&str>) -> Result<Stream, DialError> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(self.tls.client(Protocol::Link));
        let handshake = connector.connect(node_server_name(), socket).await;
        let result = if handshake.is_ok() { "done" } else { "failed" };
        self.metrics
            .tls_handshakes
            .get_or_create(&labels([("listener", "cluster"), ("result", result)]))
            .inc();
        let stream = handshake.inspect_err(|_| self.refuse("tls"))?;
        let identity = identify(stream.get_ref().1.peer_certificates())
            .map_err(|error| DialError::OtherName(error.to_string()))?;
        if identity.role != Role::Node {
            self.refuse("role");
            return Err(DialError::OtherName(format!("{}, which is no node", identity.name)));
        }
        if name.is_some_and(|name| name != identity.name) {
            self.refuse("name");
            return Err(DialError::OtherName(identity.name));
        }
        Ok(Box::new(stream))
    }

    fn refuse(&self, reason: &'static str) {
        self.metrics.peer_refused.get_or_create(&labels([("reason", reason)])).inc();
    }
}

impl Dial for TlsDial {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Stream, DialError>> {
        Box::pin(self.open(address, name))
    }
}

/// Without TLS: for tests within one process.
#[derive(Clone, Copy, Debug)]
pub struct PlainDial;

impl Dial for PlainDial {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        _name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Stream, DialError>> {
        Box::pin(async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(socket) as Stream)
        })
    }
}
