//! The called end: takes connections, checks who calls, answers requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::handle::{Metrics, NodeId, Timing};
use crate::peer::connection::{decode, encode};
use crate::peer::network::check_role;
use crate::peer::wire::Reader;
use crate::peer::{
    AppendLane, Hello, Kind, Listener, MAX_CONNECTIONS, MAX_HANDSHAKES, MAX_REQUESTS_IN_FLIGHT,
    Outbox, Stream, WIRE_VERSION, Welcome,
};
use crate::tls::{Identity, Protocol};

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// What its certificate says.
    pub(crate) identity: Identity,
    /// Its Raft id, if it has one.
    pub(crate) id: Option<NodeId>,
    /// It belongs to our cluster. If not, it may only ask to join.
    pub(crate) member: bool,
    /// The newest ledger format that it reads.
    pub(crate) format: u8,
}

/// What answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether this caller may call, and what to tell it.
    fn welcome(&self, identity: &Identity, hello: &Hello) -> Result<Welcome, String>;

    /// Answers a request.
    fn answer(
        self: Arc<Self>,
        remote: Arc<Remote>,
        kind: Kind,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Takes the log entries of one connection, in its order.
    fn appends(&self, answers: Arc<Outbox>) -> Option<AppendLane>;

    /// Takes a session link.
    fn link(&self, identity: Identity, stream: Stream);
}

/// Takes connections until told to stop.
pub(crate) async fn serve(
    mut listener: Box<dyn Listener>,
    service: Arc<dyn Service>,
    timing: Timing,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let incoming = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            incoming = listener.accept() => incoming,
        };
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(error) => {
                // Out of file descriptors, most often: others have to close first.
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (Ok(handshake), Ok(connection)) =
            (handshakes.clone().try_acquire_owned(), connections.clone().try_acquire_owned())
        else {
            metrics.connections_refused.increment();
            continue;
        };
        let service = service.clone();
        let metrics = metrics.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let shaken = timeout(timing.handshake(), incoming).await;
            drop(handshake);
            let (stream, protocol, identity) = match shaken {
                Ok(Ok(shaken)) => shaken,
                Ok(Err(error)) => {
                    metrics.connections_refused.increment();
                    tracing::info!(%error, "connection refused");
                    return;
                }
                Err(_) => {
                    metrics.connections_refused.increment();
                    return;
                }
            };
            if protocol == Protocol::Link {
                if let Err(reason) = check_role(protocol, &identity) {
                    metrics.connections_refused.increment();
                    tracing::warn!(peer = %identity.name, %reason, "link refused");
                    return;
                }
                // The host keeps its own account of links.
                service.link(identity, stream);
                return;
            }
            let name = identity.name.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                result = converse(service, stream, protocol, identity, timing, &metrics) => {
                    if let Err(error) = result {
                        tracing::debug!(peer = %name, %error, "connection of a peer ended");
                    }
                }
            }
            drop(connection);
        });
    }
}

async fn converse(
    service: Arc<dyn Service>,
    stream: Stream,
    protocol: Protocol,
    identity: Identity,
    timing: Timing,
    metrics: &Arc<Metrics>,
) -> io::Result<()> {
    let (read, write) = tokio::io::split(stream);
    let mut reader = Reader::new(read);
    let first =
        timeout(timing.handshake(), reader.next()).await??.ok_or(io::ErrorKind::UnexpectedEof)?;
    let outbox = Arc::new(Outbox::default());
    let write = {
        let outbox = outbox.clone();
        let metrics = metrics.clone();
        async move { outbox.drain(write, |bytes| metrics.peer_bytes_sent.add(bytes as u64)).await }
    };
    let read = async {
        let welcome = |hello: &Hello| {
            check_role(protocol, &identity)?;
            service.welcome(&identity, hello)
        };
        let outcome = match hello(&first, welcome) {
            Ok((remote, welcome)) => {
                let remote = Remote { identity: identity.clone(), ..remote };
                push(&outbox, Kind::Done, first.id, &encode(&welcome))?;
                requests(service, &mut reader, Arc::new(remote), timing, &outbox).await
            }
            Err(reason) => {
                metrics.connections_refused.increment();
                tracing::warn!(peer = %identity.name, %reason, "peer refused");
                push(&outbox, Kind::Refused, first.id, reason.as_bytes())?;
                // It closes once it has read why.
                let _ = timeout(timing.handshake(), reader.next()).await;
                Ok(())
            }
        };
        outbox.close();
        outcome
    };
    tokio::pin!(read, write);
    tokio::select! {
        biased;
        read = &mut read => read,
        written = &mut write => written,
    }
}

fn hello(
    first: &crate::peer::wire::Frame,
    welcome: impl FnOnce(&Hello) -> Result<Welcome, String>,
) -> Result<(Remote, Welcome), String> {
    if first.kind != Kind::Hello {
        return Err("a connection begins with a hello".into());
    }
    let hello: Hello = decode(&first.body)?;
    if hello.version != WIRE_VERSION {
        return Err(format!(
            "wire version {} met version {WIRE_VERSION}: update the older node",
            hello.version
        ));
    }
    let welcome = welcome(&hello)?;
    let remote = Remote {
        identity: Identity { name: String::new(), role: crate::tls::Role::Node },
        id: hello.id,
        member: hello.cluster.is_some() && hello.cluster == welcome.cluster,
        format: hello.format,
    };
    Ok((remote, welcome))
}

async fn requests(
    service: Arc<dyn Service>,
    reader: &mut Reader<impl tokio::io::AsyncRead + Unpin>,
    remote: Arc<Remote>,
    timing: Timing,
    outbox: &Arc<Outbox>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_REQUESTS_IN_FLIGHT));
    let mut lane: Option<AppendLane> = None;
    loop {
        let Ok(next) = timeout(timing.silence(), reader.next()).await else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        let Some(frame) = next? else { return Ok(()) };
        match frame.kind {
            Kind::Ping => push(outbox, Kind::Pong, frame.id, &[])?,
            Kind::Append if remote.member => {
                if lane.is_none() {
                    lane = service.appends(outbox.clone());
                }
                match &mut lane {
                    Some(lane) => lane.push(frame.id, &frame.body).await,
                    None => {
                        push(outbox, Kind::Refused, frame.id, b"this node has no ledger yet")?;
                    }
                }
            }
            // Parts of a snapshot are put together in the order in which they come.
            Kind::SnapshotPart => {
                let answer = service.clone().answer(remote.clone(), frame.kind, frame.body).await;
                match answer {
                    Ok(body) => push(outbox, Kind::Done, frame.id, &body)?,
                    Err(reason) => push(outbox, Kind::Refused, frame.id, reason.as_bytes())?,
                }
            }
            kind => {
                let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
                let service = service.clone();
                let remote = remote.clone();
                let outbox = outbox.clone();
                tokio::spawn(async move {
                    let answer = service.answer(remote, kind, frame.body).await;
                    // A caller that is gone needs no answer.
                    let _ = match answer {
                        Ok(body) => outbox.push(Kind::Done, frame.id, &body),
                        Err(reason) => outbox.push(Kind::Refused, frame.id, reason.as_bytes()),
                    };
                    drop(permit);
                });
            }
        }
    }
}

fn push(outbox: &Outbox, kind: Kind, id: u64, body: &[u8]) -> io::Result<()> {
    outbox.push(kind, id, body).map_err(|error| io::Error::other(format!("{error:?}")))
}
