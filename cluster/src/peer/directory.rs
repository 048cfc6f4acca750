//! The peers: two connections to each, made when they are first needed and remade when they break.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, timeout};

use crate::engine::{Confirmed, Node};
use crate::handle::{Metrics, NodeId, Timing};
use crate::peer::{Connection, Hello, Kind, Network, RequestError, Welcome};
use crate::store::Seat;
use crate::tls::Protocol;
use crate::watch;

/// Everyone we talk to.
pub(crate) struct Peers {
    network: Arc<dyn Network>,
    timing: Timing,
    metrics: Arc<Metrics>,
    seat: Arc<RwLock<Option<Seat>>>,
    /// The newest ledger format that this member reads.
    format: u8,
    known: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

/// One of them.
pub(crate) struct Peer {
    /// Its Raft id.
    pub(crate) id: NodeId,
    node: RwLock<Node>,
    /// What it has confirmed of the log while this node leads.
    pub(crate) confirmed: Mutex<Confirmed>,
    raft: Channel,
    bulk: Channel,
    /// Urgent connections made so far.
    met: AtomicU64,
    network: Arc<dyn Network>,
    timing: Timing,
    metrics: Arc<Metrics>,
    seat: Arc<RwLock<Option<Seat>>>,
    our_format: u8,
}

#[derive(Default)]
struct Channel {
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    open: Option<Arc<Connection>>,
    /// The attempt in progress: everyone who needs the connection waits for the same one.
    attempt: Option<watch::Receiver<Attempt>>,
    /// No new attempt before this.
    retry_at: Option<(Instant, RequestError)>,
}

type Attempt = Option<Result<Arc<Connection>, RequestError>>;

impl Peers {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        timing: Timing,
        metrics: Arc<Metrics>,
        seat: Arc<RwLock<Option<Seat>>>,
        format: u8,
    ) -> Self {
        Self { network, timing, metrics, seat, format, known: Mutex::default() }
    }

    /// The peer of this id, which is to be found at this place.
    pub(crate) fn at(&self, id: NodeId, node: &Node) -> Arc<Peer> {
        let mut known = self.known.lock();
        let peer = known.entry(id).or_insert_with(|| {
            Arc::new(Peer {
                id,
                node: RwLock::new(node.clone()),
                confirmed: Mutex::default(),
                raft: Channel::default(),
                bulk: Channel::default(),
                met: AtomicU64::new(0),
                network: self.network.clone(),
                timing: self.timing,
                metrics: self.metrics.clone(),
                seat: self.seat.clone(),
                our_format: self.format,
            })
        });
        if *peer.node.read() != *node {
            *peer.node.write() = node.clone();
            peer.raft.forget();
            peer.bulk.forget();
        }
        peer.clone()
    }

    /// A peer that was met before.
    pub(crate) fn find(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.known.lock().get(&id).cloned()
    }

    /// Forgets those that are no members.
    pub(crate) fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.known.lock().retain(|id, _| keep(*id));
    }

    /// The cluster that the node at an address belongs to.
    pub(crate) async fn cluster_of(&self, address: &str) -> Result<Option<[u8; 16]>, RequestError> {
        Ok(self.introduce(address).await?.1.cluster)
    }

    /// A request to an address whose node is not known yet.
    pub(crate) async fn ask(
        &self,
        address: &str,
        kind: Kind,
        body: &[u8],
        limit: Duration,
    ) -> Result<Bytes, RequestError> {
        self.introduce(address).await?.0.request(kind, body, limit).await
    }

    async fn introduce(&self, address: &str) -> Result<(Connection, Welcome), RequestError> {
        let hello = Hello::new(self.seat.read().as_ref(), None, self.format);
        let (connection, _, welcome) = Connection::open(
            self.network.as_ref(),
            address,
            Protocol::Bulk,
            &hello,
            &self.timing,
            &self.metrics,
        )
        .await?;
        Ok((connection, welcome))
    }
}

impl Peer {
    /// Its name, for people.
    pub(crate) fn name(&self) -> String {
        self.node.read().name.clone()
    }

    /// The urgent connection to it that stands, by number from 1.
    pub(crate) fn connection_number(&self) -> Option<u64> {
        let slot = self.raft.slot.lock();
        slot.open.as_ref().filter(|open| open.is_open()).map(|_| self.met.load(Ordering::Relaxed))
    }

    /// The newest ledger format that it reads, while a connection to it stands: what answers
    /// later may be another build.
    pub(crate) fn format(&self) -> Option<u8> {
        let slot = self.raft.slot.lock();
        slot.open.as_ref().filter(|open| open.is_open()).map(|open| open.format)
    }

    /// A request on the connection of its class.
    pub(crate) async fn request(
        self: &Arc<Self>,
        kind: Kind,
        body: &[u8],
        limit: Duration,
    ) -> Result<Bytes, RequestError> {
        let deadline = Instant::now() + limit;
        let connection = match timeout(limit, self.connection(kind)).await {
            Ok(connection) => connection,
            Err(_) => Err(RequestError::Unreachable(self.name(), "no answer in time".into())),
        };
        let rest = deadline.saturating_duration_since(Instant::now());
        let answer = match connection {
            Ok(connection) => connection.request(kind, body, rest).await,
            Err(error) => Err(error),
        };
        if answer.is_err() {
            self.metrics.peer_errors.increment();
        }
        answer
    }

    /// The connection that carries requests of this kind, made if need be.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        kind: Kind,
    ) -> Result<Arc<Connection>, RequestError> {
        let protocol = match kind >= Kind::SnapshotBegin {
            true => Protocol::Bulk,
            false => Protocol::Raft,
        };
        let mut attempt = {
            let channel = self.channel(protocol);
            let mut slot = channel.slot.lock();
            if let Some(open) = &slot.open
                && open.is_open()
            {
                return Ok(open.clone());
            }
            slot.open = None;
            if let Some((at, error)) = &slot.retry_at
                && Instant::now() < *at
            {
                return Err(error.clone());
            }
            match &slot.attempt {
                Some(attempt) => attempt.clone(),
                None => {
                    let (tx, rx) = watch::channel(None);
                    slot.attempt = Some(rx.clone());
                    tokio::spawn(self.clone().connect(protocol, tx));
                    rx
                }
            }
        };
        let gone = || RequestError::Unreachable(self.name(), "gave up".into());
        attempt.wait_for(Option::is_some).await.map_err(|_| gone())?;
        attempt.borrow().clone().ok_or_else(gone)?
    }

    async fn connect(self: Arc<Self>, protocol: Protocol, done: watch::Sender<Attempt>) {
        let node = self.node.read().clone();
        let to = Some(node.name.clone());
        let hello = Hello::new(self.seat.read().as_ref(), to, self.our_format);
        let opened = Connection::open(
            self.network.as_ref(),
            &node.address,
            protocol,
            &hello,
            &self.timing,
            &self.metrics,
        )
        .await
        .and_then(|(connection, identity, welcome)| {
            if welcome.id != Some(self.id) {
                return Err(RequestError::Refused(format!(
                    "{:?} at {} has the Raft id {:?}, not {}: its disk was replaced",
                    identity.name, node.address, welcome.id, self.id
                )));
            }
            Ok(Arc::new(connection))
        });
        {
            let channel = self.channel(protocol);
            let mut slot = channel.slot.lock();
            slot.attempt = None;
            match &opened {
                Ok(connection) => {
                    if matches!(protocol, Protocol::Raft) {
                        self.met.fetch_add(1, Ordering::Relaxed);
                    }
                    slot.open = Some(connection.clone());
                    slot.retry_at = None;
                }
                Err(error) => {
                    if slot.retry_at.as_ref().map(|(_, old)| old.to_string())
                        != Some(error.to_string())
                    {
                        tracing::info!(peer = %node.name, %error, "no connection");
                    }
                    slot.retry_at = Some((Instant::now() + self.timing.retry(), error.clone()));
                }
            }
        }
        done.send_replace(Some(opened));
    }

    fn channel(&self, protocol: Protocol) -> &Channel {
        match protocol {
            Protocol::Raft | Protocol::Link => &self.raft,
            Protocol::Bulk => &self.bulk,
        }
    }
}

impl Channel {
    fn forget(&self) {
        let mut slot = self.slot.lock();
        slot.open = None;
        slot.retry_at = None;
    }
}
