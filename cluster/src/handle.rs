//! [`Cluster`]: the one thing that a node holds of all this.

mod backup;
mod blocks;
mod change;
mod config;
mod error;
mod exchange;
mod host;
pub(crate) mod inner;
mod metrics;
pub(crate) mod propose;
mod service;
mod users;
mod view;

pub use config::{Config, Limits, Timing};
pub use error::{AuthorizeError, ChangeError, FetchError, Full, MemberError, StartError};
pub use host::{BlockStatus, Completion, Host, Unavailable};
pub use metrics::{BUCKETS_US, Counter, Gauge, Histogram, Metrics};
pub use view::{ClusterView, MemberRole, MemberView};

pub(crate) use blocks::BlockFiles;
pub(crate) use propose::Proposer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::handle::inner::Inner;
use crate::ledger::{Share, State};
use crate::member::{MembershipRequest, Reply};
use crate::peer::{Kind, Network, TlsNetwork, decode, encode, serve};
use crate::store::{DiskStorage, MemoryStorage, Storage};
use crate::tls::{Role, Tls};

/// A member's Raft id: the name of one disk, never used for another.
pub type NodeId = u64;

/// Bytes of transactions in one answer to [`Cluster::fetch_transactions`].
pub(crate) const MAX_TRANSACTIONS_BYTES: usize = 6 << 20;

/// A member of the cluster. Cheap to clone; nothing in it blocks.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

/// What a member stands on. The real one is made by [`Cluster::start`]; simulations bring theirs.
pub struct Environment {
    network: Arc<dyn Network>,
    storage: Arc<dyn Storage>,
    metrics: Arc<Metrics>,
    /// Without it blocks wait for the ledger in memory.
    files: Option<Arc<BlockFiles>>,
}

impl Environment {
    /// A simulated world.
    pub fn simulated(network: Arc<dyn Network>, storage: &MemoryStorage) -> Self {
        let storage = Arc::new(storage.clone());
        Self { network, storage, metrics: Arc::default(), files: None }
    }
}

impl Cluster {
    /// Opens the stores, listens on the cluster port and, if this disk has a seat in a cluster,
    /// takes part in it. Does not wait for a quorum.
    ///
    /// # Errors
    ///
    /// Certificates that cannot be used, an address that cannot be listened on, a store that is
    /// damaged or belongs to another member.
    pub async fn start(config: Config, host: Arc<dyn Host>) -> Result<Self, StartError> {
        let tls = Arc::new(Tls::load(config.tls.clone())?);
        let identity = tls.identity();
        if identity.name != config.name {
            return Err(StartError::Name { config: config.name, certificate: identity.name });
        }
        if identity.role != Role::Node {
            return Err(StartError::Role { name: identity.name });
        }
        let metrics = Arc::new(Metrics::default());
        let storage = DiskStorage::open(config.data_dir.join("ledger"), metrics.clone())?;
        let environment = Environment {
            network: Arc::new(TlsNetwork::new(tls)),
            storage: Arc::new(storage),
            metrics,
            files: Some(Arc::new(BlockFiles::open(&config.data_dir)?)),
        };
        Self::start_in(config, host, environment).await
    }

    /// [`Cluster::start`] on another ground.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_in(
        config: Config,
        host: Arc<dyn Host>,
        environment: Environment,
    ) -> BoxFuture<'static, Result<Self, StartError>> {
        // Boxed here, all of Raft is compiled once, with this crate; an `async fn` is compiled
        // again by each crate that awaits it.
        Box::pin(Self::open(config, host, environment))
    }

    async fn open(
        config: Config,
        host: Arc<dyn Host>,
        environment: Environment,
    ) -> Result<Self, StartError> {
        let seat = environment.storage.seat()?;
        if let Some(seat) = &seat
            && seat.name != config.name
        {
            return Err(StartError::Name { config: config.name, certificate: seat.name.clone() });
        }
        let listener = environment
            .network
            .listen(config.listen.clone())
            .await
            .map_err(|source| StartError::Listen { address: config.listen.clone(), source })?;
        let inner = Arc::new(Inner::new(config, host, environment, seat.clone())?);
        match &seat {
            Some(seat) => inner.start_raft(seat).await.map_err(StartError::Ledger)?,
            None => inner.spawn(inner.clone().join()),
        }
        tokio::spawn(serve(
            listener,
            inner.clone(),
            inner.config.timing,
            inner.metrics.clone(),
            inner.stop.clone(),
        ));
        tokio::spawn(inner.batcher.clone().run(
            inner.proposer.clone(),
            inner.host.clone(),
            inner.config.timing.share_deadline,
            inner.stop.clone(),
        ));
        inner.spawn(inner.clone().enrol());
        inner.spawn(inner.clone().keep_members());
        inner.spawn(inner.clone().agree_on_format());
        inner.spawn(inner.clone().follow());
        inner.spawn(inner.clone().recover());
        inner.spawn(inner.clone().snapshots());
        inner.spawn(inner.clone().refresh());
        inner.spawn(inner.clone().watch());
        let cluster = Self { inner };
        cluster.inner.spawn(cluster.clone().record_blocks());
        cluster.inner.spawn(cluster.clone().take_up_notes());
        cluster.inner.spawn(cluster.clone().follow_blocks());
        cluster.inner.spawn(cluster.clone().dump_rounds());
        Ok(cluster)
    }

    /// Takes a share on its way into the ledger. `to` gets the answer, exactly once.
    ///
    /// # Errors
    ///
    /// [`Full`] when too many wait: stop reading until [`Cluster::has_room`] ends.
    pub fn submit(&self, share: Share, to: Arc<dyn Completion>, token: u64) -> Result<(), Full> {
        self.inner.batcher.submit(share, to, token)
    }

    /// Ends when [`Cluster::submit`] would take a share.
    pub async fn has_room(&self) {
        self.inner.batcher.has_room().await;
    }

    /// Sends a job to all peers. When one is slow, the newest win.
    pub fn publish_job(&self, package: Bytes) {
        let inner = &self.inner;
        inner.exchange.publish(&package, inner.others(), |sender| inner.spawn(sender));
    }

    /// Sends a solved block to all peers, at once.
    pub fn push_block(&self, block: Bytes) {
        self.inner.push_block(block);
    }

    /// Tells the peers that are in reach how this node is, for people ([`crate::pulse`]).
    pub fn tell_peers(&self, pulse: Bytes) {
        self.inner.tell_peers(&pulse);
    }

    /// Asks a peer for transactions by witness id. The answer has one place for each.
    ///
    /// # Errors
    ///
    /// When the peer is unknown or does not answer.
    pub async fn fetch_transactions(
        &self,
        from: NodeId,
        wtxids: &[[u8; 32]],
    ) -> Result<Vec<Option<Bytes>>, FetchError> {
        let peer = self.inner.peers.find(from).ok_or(FetchError::UnknownNode(from))?;
        let mut found = Vec::with_capacity(wtxids.len());
        while found.len() < wtxids.len() {
            let body = encode(&wtxids[found.len()..].to_vec());
            let answer = peer
                .request(Kind::Transactions, &body, FETCH_TIMEOUT)
                .await
                .map_err(|error| FetchError::Failed(error.to_string()))?;
            let part: Vec<Option<Vec<u8>>> = decode(&answer).map_err(FetchError::Failed)?;
            if part.is_empty() || part.len() > wtxids.len() - found.len() {
                return Err(FetchError::Failed(format!("{} answered nonsense", peer.name())));
            }
            found.extend(part.into_iter().map(|transaction| transaction.map(Bytes::from)));
        }
        Ok(found)
    }

    /// How the cluster looks from here, and when that changes.
    pub fn view(&self) -> watch::Receiver<ClusterView> {
        self.inner.view.subscribe()
    }

    /// Looks at the ledger as far as it has been applied here. Be quick: shares wait meanwhile.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.inner.ledger.read(look)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Log index and hash of the ledger as it is here. Equal indices have equal hashes.
    pub fn ledger_hash(&self) -> (u64, [u8; 32]) {
        let state = self.inner.ledger.read(State::clone);
        (state.applied(), state.digest())
    }

    /// Forms a cluster of this node alone, once. Returns the cluster's id in hex.
    ///
    /// # Errors
    ///
    /// When this node is a member of a cluster already, or its store fails.
    pub async fn init(&self) -> Result<String, MemberError> {
        self.inner.form().await.map(hex::encode)
    }

    /// Waits until the node of this name, which asks to join by itself, votes.
    ///
    /// # Errors
    ///
    /// When it does not within the time that a catching-up node needs.
    pub async fn add_member(&self, name: &str) -> Result<NodeId, MemberError> {
        let mut view = self.view();
        let votes = view
            .wait_for(|view| view.members.iter().any(|member| member.voter && member.name == name));
        match tokio::time::timeout(ADD_TIMEOUT, votes).await {
            Ok(Ok(view)) => view
                .members
                .iter()
                .find(|member| member.name == name)
                .map(|member| member.id)
                .ok_or_else(|| MemberError::Unavailable("it is gone again".into())),
            _ => Err(MemberError::Unavailable(format!(
                "{name:?} does not vote yet: start it with one of the members among its seeds"
            ))),
        }
    }

    /// Removes a member for good; its name can join again with an empty disk.
    ///
    /// # Errors
    ///
    /// When there is no such member, it leads, it is the last one, or there is no quorum.
    pub async fn remove_member(&self, name: &str) -> Result<(), MemberError> {
        let request = MembershipRequest::Remove(name.to_owned());
        let body = encode(&request);
        let deadline = tokio::time::Instant::now() + REMOVE_TIMEOUT;
        loop {
            let raft = self.inner.proposer.raft().ok_or_else(|| {
                MemberError::Unavailable("this node belongs to no cluster".into())
            })?;
            let now = raft.standing().borrow().clone();
            let reply = match now.leader {
                Some(leader) if leader != now.me => match self.inner.peers.find(leader) {
                    Some(peer) => peer
                        .request(Kind::Membership, &body, REMOVE_TIMEOUT)
                        .await
                        .map_err(|error| error.to_string())
                        .and_then(|body| decode(&body))
                        .unwrap_or_else(Reply::Later),
                    None => Reply::Later("the leader is not known".into()),
                },
                _ => self.inner.membership_requested(request.clone()).await,
            };
            match reply {
                Reply::Granted(()) => return Ok(()),
                Reply::Refused(reason) => return Err(MemberError::Refused(reason)),
                Reply::Later(reason) if tokio::time::Instant::now() > deadline => {
                    return Err(MemberError::Unavailable(reason));
                }
                Reply::Later(_) | Reply::Ask(_) => {
                    tokio::time::sleep(self.inner.config.timing.retry()).await;
                }
            }
        }
    }

    /// Gives the leadership to another member, if this one has it.
    ///
    /// # Errors
    ///
    /// When this member still leads at the deadline, or is the only one.
    pub async fn transfer_leadership(&self, deadline: Duration) -> Result<(), MemberError> {
        let Some(raft) = self.inner.proposer.raft() else { return Ok(()) };
        let attempt = async {
            let mut standing = raft.standing();
            loop {
                let now = standing.borrow_and_update().clone();
                if now.leader.is_some() && now.leader != Some(now.me) {
                    return Ok(());
                }
                if now.role == MemberRole::Leader {
                    // Ignored silently if it comes at the wrong moment: asked until it worked.
                    self.inner.offer_leadership(&raft).await?;
                }
                let _ = tokio::time::timeout(
                    self.inner.config.timing.heartbeat * 3 / 2,
                    standing.changed(),
                )
                .await;
            }
        };
        tokio::time::timeout(deadline, attempt).await.unwrap_or_else(|_| {
            Err(MemberError::Unavailable("this node still leads at the deadline".into()))
        })
    }

    /// Stops taking part. Shares that wait are answered `Unavailable`.
    pub async fn shutdown(self) {
        self.inner.stop.cancel();
        if let Some(raft) = self.inner.proposer.raft() {
            raft.shutdown().await;
        }
    }
}

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const ADD_TIMEOUT: Duration = Duration::from_secs(120);
const REMOVE_TIMEOUT: Duration = Duration::from_secs(20);
