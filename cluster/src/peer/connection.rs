//! The calling end of a connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::handle::{Metrics, NodeId, Timing};
use crate::peer::wire::{OutboxError, Reader};
use crate::peer::{Kind, Network, Outbox, Stream, WIRE_VERSION};
use crate::store::Seat;
use crate::tls::{Identity, Protocol};

/// What the caller says first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`WIRE_VERSION`] of the caller.
    pub(crate) version: u16,
    /// The cluster it belongs to; `None` on an empty disk.
    pub(crate) cluster: Option<[u8; 16]>,
    /// Its Raft id, if it has one.
    pub(crate) id: Option<NodeId>,
    /// The name it believes to call, if it has a belief.
    pub(crate) to: Option<String>,
    /// The newest ledger format that it reads.
    pub(crate) format: u8,
}

/// What the called node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Its [`WIRE_VERSION`].
    pub(crate) version: u16,
    /// The cluster it belongs to.
    pub(crate) cluster: Option<[u8; 16]>,
    /// Its Raft id.
    pub(crate) id: Option<NodeId>,
    /// The newest ledger format that it reads.
    pub(crate) format: u8,
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// No connection could be made.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// The connection broke; the request may have been carried out.
    #[error("connection to {0} lost")]
    Lost(String),
    /// No answer in time; the request may have been carried out.
    #[error("{0} did not answer in time")]
    TimedOut(String),
    /// The other end does not read what we send.
    #[error("{0} does not take what is sent to it")]
    Busy(String),
    /// The peer said no.
    #[error("{0}")]
    Refused(String),
}

/// A connection that we opened. Dropping the last reference closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    outbox: Arc<Outbox>,
    answers: Arc<Answers>,
    next_id: AtomicU64,
    /// Who is at the other end, for messages.
    name: String,
    /// The newest ledger format that the other end reads.
    pub(crate) format: u8,
}

#[derive(Debug, Default)]
struct Answers {
    // Ordered, so that a simulation wakes the waiters in the same order each time.
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Result<Bytes, String>>>>,
}

impl Connection {
    /// Connects and introduces ourselves.
    pub(crate) async fn open(
        network: &dyn Network,
        address: &str,
        protocol: Protocol,
        hello: &Hello,
        timing: &Timing,
        metrics: &Arc<Metrics>,
    ) -> Result<(Self, Identity, Welcome), RequestError> {
        let unreachable = |reason: String| RequestError::Unreachable(address.to_owned(), reason);
        let attempt = async {
            let (stream, identity) = network
                .connect(address.to_owned(), protocol)
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            if let Some(expected) = &hello.to
                && *expected != identity.name
            {
                return Err(unreachable(format!(
                    "expected {expected:?} there, found {:?}",
                    identity.name
                )));
            }
            let (welcome, connection) =
                Self::introduce(stream, &identity.name, hello, timing, metrics).await?;
            Ok((connection, identity, welcome))
        };
        match timeout(timing.handshake(), attempt).await {
            Ok(opened) => {
                if opened.is_ok() {
                    metrics.connections_opened.increment();
                }
                opened
            }
            Err(_) => Err(unreachable("no answer in time".into())),
        }
    }

    async fn introduce(
        stream: Stream,
        name: &str,
        hello: &Hello,
        timing: &Timing,
        metrics: &Arc<Metrics>,
    ) -> Result<(Welcome, Self), RequestError> {
        let lost = |error: io::Error| {
            RequestError::Unreachable(name.to_owned(), format!("refused in the handshake: {error}"))
        };
        let (read, write) = tokio::io::split(stream);
        let outbox = Arc::new(Outbox::default());
        let body = encode(hello);
        outbox.push(Kind::Hello, 0, &body).map_err(|_| RequestError::Lost(name.to_owned()))?;
        let writer = outbox.clone();
        let sent = metrics.clone();
        tokio::spawn(async move {
            let result = writer.drain(write, |bytes| sent.peer_bytes_sent.add(bytes as u64)).await;
            writer.close();
            if let Err(error) = result {
                tracing::debug!(%error, "connection to a peer broke");
            }
        });
        let mut reader = Reader::new(read);
        let closer = CloseOnDrop(outbox.clone());
        let frame = reader
            .next()
            .await
            .map_err(lost)?
            .ok_or_else(|| lost(io::ErrorKind::UnexpectedEof.into()))?;
        let welcome: Welcome = match frame.kind {
            Kind::Done => decode(&frame.body)
                .map_err(|_| RequestError::Refused(format!("{name} speaks another version")))?,
            _ => {
                return Err(RequestError::Refused(
                    String::from_utf8_lossy(&frame.body).into_owned(),
                ));
            }
        };
        let answers = Arc::new(Answers::default());
        tokio::spawn(receive(reader, answers.clone(), closer, timing.silence()));
        tokio::spawn(ping(outbox.clone(), timing.ping()));
        let connection = Self {
            outbox,
            answers,
            next_id: AtomicU64::new(1),
            name: name.to_owned(),
            format: welcome.format,
        };
        Ok((welcome, connection))
    }

    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.outbox.is_closed()
    }

    /// Sends a request. The order of calls is the order on the wire.
    pub(crate) fn send(&self, kind: Kind, body: &[u8]) -> Result<Answer, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        self.answers.waiting.lock().insert(id, tx);
        let answer = Answer { id, rx, answers: self.answers.clone(), name: self.name.clone() };
        match self.outbox.push(kind, id, body) {
            Ok(()) => Ok(answer),
            Err(OutboxError::Closed) => Err(RequestError::Lost(self.name.clone())),
            Err(OutboxError::Full) => Err(RequestError::Busy(self.name.clone())),
            Err(OutboxError::TooLarge) => {
                Err(RequestError::Refused(format!("request of {} bytes is too large", body.len())))
            }
        }
    }

    /// Sends a request and waits for its answer, at most `limit`.
    pub(crate) async fn request(
        &self,
        kind: Kind,
        body: &[u8],
        limit: Duration,
    ) -> Result<Bytes, RequestError> {
        match timeout(limit, self.send(kind, body)?).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::TimedOut(self.name.clone())),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// An answer to come.
pub(crate) struct Answer {
    id: u64,
    rx: oneshot::Receiver<Result<Bytes, String>>,
    answers: Arc<Answers>,
    name: String,
}

impl Future for Answer {
    type Output = Result<Bytes, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.rx).poll(cx).map(|received| match received {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(reason)) => Err(RequestError::Refused(reason)),
            Err(_) => Err(RequestError::Lost(self.name.clone())),
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.answers.waiting.lock().remove(&self.id);
    }
}

/// Closes the outbox, and so the whole connection, when a task of it ends.
struct CloseOnDrop(Arc<Outbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn receive(
    mut reader: Reader<impl tokio::io::AsyncRead + Unpin>,
    answers: Arc<Answers>,
    closer: CloseOnDrop,
    silence: Duration,
) {
    let result: io::Result<()> = async {
        loop {
            let Ok(next) = timeout(silence, reader.next()).await else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            let Some(frame) = next? else { return Ok(()) };
            if closer.0.is_closed() {
                return Ok(());
            }
            let answer = match frame.kind {
                Kind::Done => Ok(frame.body),
                Kind::Refused => Err(String::from_utf8_lossy(&frame.body).into_owned()),
                _ => continue,
            };
            if let Some(waiting) = answers.waiting.lock().remove(&frame.id) {
                // The asker may have gone.
                let _ = waiting.send(answer);
            }
        }
    }
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "connection to a peer lost");
    }
    drop(closer);
    let waiting = std::mem::take(&mut *answers.waiting.lock());
    drop(waiting);
}

async fn ping(outbox: Arc<Outbox>, every: Duration) {
    while outbox.push(Kind::Ping, 0, &[]) != Err(OutboxError::Closed) {
        tokio::time::sleep(every).await;
    }
}

/// Encodes a small message of ours.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("our messages can be encoded")
}

/// Decodes a message of a peer.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    postcard::from_bytes(body).map_err(|error| format!("message cannot be read: {error}"))
}

impl Hello {
    /// A hello of this version.
    pub(crate) fn new(seat: Option<&Seat>, to: Option<String>, format: u8) -> Self {
        let (cluster, id) = (seat.map(|seat| seat.cluster), seat.map(|seat| seat.id));
        Self { version: WIRE_VERSION, cluster, id, to, format }
    }
}
