//! Where bytes come from: TCP under TLS, or what a simulation puts in its place.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls::{Identity, Protocol, Role, Tls, identify, node_server_name};

/// An ordered, reliable stream of bytes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// A connection, whatever carries it.
pub type Stream = Box<dyn Duplex>;

/// Makes and takes connections whose ends are known to each other.
pub trait Network: Send + Sync + 'static {
    /// Opens a connection to a node. The identity is the one that its certificate proved.
    fn connect(
        &self,
        address: String,
        protocol: Protocol,
    ) -> BoxFuture<'static, io::Result<(Stream, Identity)>>;

    /// Listens.
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Called now and then, so that changed certificates are noticed.
    fn refresh(&self) {}
}

/// Takes connections.
pub trait Listener: Send {
    /// The next connection, its handshake still to be done.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Incoming>>;

    /// Address that is listened on.
    fn local_address(&self) -> io::Result<std::net::SocketAddr>;
}

/// A handshake in progress; its result is the connection, what it speaks and who speaks.
pub type Incoming = BoxFuture<'static, io::Result<(Stream, Protocol, Identity)>>;

/// TCP and mutual TLS.
pub struct TlsNetwork {
    tls: Arc<Tls>,
}

impl TlsNetwork {
    /// Connections with this identity.
    pub fn new(tls: Arc<Tls>) -> Self {
        Self { tls }
    }
}

impl Network for TlsNetwork {
    fn connect(
        &self,
        address: String,
        protocol: Protocol,
    ) -> BoxFuture<'static, io::Result<(Stream, Identity)>> {
        let config = self.tls.client(protocol);
        Box::pin(async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let tls = TlsConnector::from(config).connect(node_server_name(), tcp).await?;
            let session = tls.get_ref().1;
            let identity = identify(session.peer_certificates()).map_err(io::Error::other)?;
            if session.alpn_protocol() != Some(protocol.alpn()) {
                return Err(io::Error::other(format!("{address} does not speak {protocol:?}")));
            }
            Ok((Box::new(tls) as Stream, identity))
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let tls = self.tls.clone();
        Box::pin(async move {
            let tcp = TcpListener::bind(&address).await?;
            Ok(Box::new(TlsListener { tcp, tls }) as Box<dyn Listener>)
        })
    }

    fn refresh(&self) {
        match self.tls.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => tracing::info!("certificates reloaded"),
            Err(error) => tracing::error!(%error, "certificates not reloaded, old ones stay"),
        }
    }
}

struct TlsListener {
    tcp: TcpListener,
    tls: Arc<Tls>,
}

impl Listener for TlsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let (tcp, _) = self.tcp.accept().await?;
            let config = self.tls.server();
            Ok(Box::pin(async move {
                tcp.set_nodelay(true)?;
                let tls = TlsAcceptor::from(config).accept(tcp).await?;
                let session = tls.get_ref().1;
                let identity = identify(session.peer_certificates()).map_err(io::Error::other)?;
                let protocol = session
                    .alpn_protocol()
                    .and_then(Protocol::from_alpn)
                    .ok_or_else(|| io::Error::other("the peer named no protocol"))?;
                Ok((Box::new(tls) as Stream, protocol, identity))
            }) as Incoming)
        })
    }

    fn local_address(&self) -> io::Result<std::net::SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Nodes speak to nodes; only proxies open links.
pub(crate) fn check_role(protocol: Protocol, identity: &Identity) -> Result<(), String> {
    let expected = match protocol {
        Protocol::Raft | Protocol::Bulk => Role::Node,
        Protocol::Link => Role::Proxy,
    };
    if identity.role != expected {
        return Err(format!(
            "{:?} has the role {:?} and may not speak {protocol:?}",
            identity.name, identity.role
        ));
    }
    Ok(())
}
