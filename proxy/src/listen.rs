//! The miners' ports: plain and TLS, with or without a load balancer in front.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConnection;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::certificate::Certificate;
use crate::config::Network;
use crate::connection::Connection;
use crate::fault::{Code, Fault};
use crate::hub::Hub;
use crate::metrics::labels;
use crate::session::{Phase, Session};
use crate::wire::Wire;

/// Connections that may wait to be accepted: a pool's miners come back all at once.
const BACKLOG: i32 = 8192;

/// After an error of `accept` (no file descriptors left, most often).
const PAUSE: Duration = Duration::from_millis(50);

/// Opens a port.
///
/// # Errors
/// [`Fault`] if the address cannot be listened on.
pub(crate) fn bind(key: &str, address: &str) -> Result<TcpListener, Fault> {
    let failed = |error: io::Error| Fault::new(Code::Listen, format!("{key} {address}: {error}"));
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| Fault::new(Code::OutOfRange, format!("{key} {address}: no address")))?;
    let open = || {
        let socket = Socket::new(Domain::for_address(parsed), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&parsed.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(failed)
}

/// Accepts miners for as long as it is polled.
pub(crate) async fn accept(hub: Arc<Hub>, listener: TcpListener, tls: Option<Arc<Certificate>>) {
    let balancers = hub.config.balancers();
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if let Err(error) = admit(&hub, socket, peer, tls.as_deref(), &balancers) {
                    tracing::debug!(%peer, %error, "not accepted");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn admit(
    hub: &Arc<Hub>,
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<&Certificate>,
    balancers: &[Network],
) -> io::Result<()> {
    if hub.is_stopping() {
        return Ok(());
    }
    let address = peer.ip().to_canonical();
    let balanced = balancers.iter().any(|network| network.contains(address));
    let (place, phase) = if balanced {
        if hub.addresses.connections() >= hub.config.limits.connections {
            hub.metrics.limit_hit("connections");
            return Ok(());
        }
        (None, Phase::Header)
    } else {
        let Some(place) = hub.addresses.admit(address) else { return Ok(()) };
        (Some(place), Phase::Opening)
    };
    socket.set_nodelay(true)?;
    let connection = match tls {
        Some(certificate) => {
            let server = ServerConnection::new(certificate.server()).map_err(io::Error::other)?;
            Some(Box::new(server))
        }
        None => None,
    };
    let listener = if tls.is_some() { "tls" } else { "plain" };
    let label = labels([("listener", listener)]);
    hub.metrics.sessions.get_or_create(&label).inc();
    hub.metrics.sessions_opened.get_or_create(&label).inc();
    let (read, write) = socket.into_split();
    let wire = Wire::new(write, connection);
    let session = Session::new(hub.next_id(), wire, address, place, phase);
    hub.joined(&session);
    tokio::spawn(Connection::new(Arc::clone(hub), session, read));
    Ok(())
}
