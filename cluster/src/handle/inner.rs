//! What `Cluster` shares with its tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::Instant as _;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::batch::Batcher;
use crate::engine::{Ledger, Machine, Raft, WHAT_TO_DO};
use crate::handle::blocks::Unrecorded;
use crate::handle::exchange::Exchange;
use crate::handle::service::Arriving;
use crate::handle::{
    BlockFiles, ClusterView, Config, Environment, Host, MemberError, MemberRole, MemberView,
    Metrics, NodeId, Proposer, StartError,
};
use crate::ledger::State;
use crate::password::{Passwords, Settings};
use crate::peer::{Kind, Network, Peers, decode};
use crate::store::{Seat, Storage};

/// A follower that lacks more entries than this cannot replace another one.
const CLOSE_BEHIND: u64 = 10_000;

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) seat: Arc<RwLock<Option<Seat>>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) exchange: Exchange,
    pub(crate) passwords: Passwords,
    pub(crate) files: Option<Arc<BlockFiles>>,
    pub(crate) unrecorded: Unrecorded,
    /// When the newest linearizable read began that logins share.
    pub(crate) newest_read: tokio::sync::Mutex<Option<Instant>>,
    pub(crate) view: watch::Sender<ClusterView>,
    /// The leader that spoke last, and when.
    pub(crate) heard: Mutex<Option<(NodeId, Instant)>>,
    /// What the leader said last, and when.
    status: Mutex<Option<(LeaderStatus, Instant)>>,
    pub(crate) arriving: Arriving,
    /// Why this node is not (yet) a member.
    pub(crate) outside_reason: Mutex<Option<String>>,
    failed: Mutex<Option<String>>,
    /// The leader said that this member was removed.
    pub(crate) removed: AtomicBool,
    /// The ledger is as new as what this node may have acknowledged before it was restarted.
    recovered: AtomicBool,
    /// Held while the membership changes: one change at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) stop: CancellationToken,
}

/// What a leader knows and its followers do not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LeaderStatus {
    quorum: bool,
    can_lose_one: bool,
    /// Synced log index of each member.
    matched: Vec<(NodeId, u64)>,
    last: u64,
    /// Members that have lost what they had confirmed.
    lost: Vec<NodeId>,
}

impl Inner {
    pub(crate) fn new(
        config: Config,
        host: Arc<dyn Host>,
        environment: Environment,
        seat: Option<Seat>,
    ) -> Result<Self, StartError> {
        let Environment { network, storage, metrics, files } = environment;
        let seat = Arc::new(RwLock::new(seat));
        let ledger = Arc::new(Ledger::new(config.newest_format));
        let peers = Arc::new(Peers::new(
            network.clone(),
            config.timing,
            metrics.clone(),
            seat.clone(),
            config.newest_format,
        ));
        let proposer =
            Arc::new(Proposer::new(ledger.clone(), peers.clone(), config.timing, metrics.clone()));
        let batcher = Arc::new(Batcher::new(config.limits, metrics.clone()));
        let view = ClusterView {
            name: config.name.clone(),
            unready: Some("starts".into()),
            ..ClusterView::default()
        };
        Ok(Self {
            passwords: Passwords::new(Settings::default())?,
            files,
            unrecorded: Unrecorded::default(),
            newest_read: tokio::sync::Mutex::default(),
            exchange: Exchange::new(metrics.clone()),
            config,
            host,
            metrics,
            network,
            storage,
            seat,
            ledger,
            peers,
            proposer,
            batcher,
            view: watch::Sender::new(view),
            heard: Mutex::default(),
            status: Mutex::default(),
            arriving: Arriving::default(),
            outside_reason: Mutex::default(),
            failed: Mutex::default(),
            removed: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Starts Raft on a seat.
    pub(crate) async fn start_raft(&self, seat: &Seat) -> Result<(), String> {
        let log = self.storage.open_log().map_err(|error| error.to_string())?;
        let machine =
            Machine::new(self.ledger.clone(), self.storage.snapshots(), self.metrics.clone());
        let raft = Raft::start(
            seat.id,
            &self.config.timing,
            &self.config.limits,
            self.peers.clone(),
            log,
            machine,
        )
        .await
        .map_err(|error| self.ledger.contradiction().unwrap_or(error))?;
        self.proposer.start(raft);
        Ok(())
    }

    /// Runs a task until the cluster stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The store failed: nothing is acknowledged any more, and everyone can see why.
    pub(crate) fn fail(&self, reason: String) {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            tracing::error!(%reason, "the ledger has failed");
            *failed = Some(reason);
        }
    }

    /// Keeps the view up to date.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            let view = self.look();
            self.view.send_if_modified(|old| {
                let changed = *old != view;
                *old = view;
                changed
            });
            sleep(self.config.timing.retry()).await;
        }
    }

    fn look(&self) -> ClusterView {
        let seat = self.seat.read().clone();
        let mut view = ClusterView {
            name: self.config.name.clone(),
            id: seat.as_ref().map(|seat| seat.id),
            cluster_id: seat.as_ref().map(|seat| hex::encode(seat.cluster)),
            ..ClusterView::default()
        };
        if let Some(raft) = self.proposer.raft() {
            self.look_at_raft(&raft, &mut view);
        }
        view.failed.clone_from(&self.failed.lock());
        view.unready = self.unready(&view);
        view
    }

    fn look_at_raft(&self, raft: &Raft, view: &mut ClusterView) {
        let metrics = raft.metrics_now();
        if let Some(reason) = self.ledger.contradiction() {
            self.fail(reason);
        }
        if let Err(fatal) = &metrics.running_state
            && !self.stop.is_cancelled()
        {
            self.fail(format!(
                "ledger failed: {fatal}: this node acknowledges nothing more; check its disk, then \
                 restart it"
            ));
        }
        let now = raft.standing().borrow().clone();
        view.term = now.term;
        view.applied = *self.ledger.applied().borrow();
        view.format = self.ledger.read(State::format);
        view.committed = metrics.local_committed.map_or(0, |id| id.index);
        // What our own log says of us is no proof: it may be old.
        view.role = match self.removed.load(Ordering::Relaxed) {
            true => MemberRole::Removed,
            false => now.role,
        };
        let status = if now.leader == Some(now.me) {
            view.leader = now.leader;
            self.leader_status(raft).ok()
        } else {
            let heard = *self.heard.lock();
            let fresh = heard.filter(|(id, at)| {
                now.leader == Some(*id) && at.elapsed() < self.config.timing.election_max
            });
            view.leader = fresh.map(|(id, _)| id);
            let status = self.status.lock().clone();
            status
                .filter(|(_, at)| {
                    view.leader.is_some() && at.elapsed() < self.config.timing.status_lifetime()
                })
                .map(|(status, _)| status)
        };
        let status = status.unwrap_or_default();
        view.quorum = status.quorum;
        view.can_lose_one = status.can_lose_one;
        let members = now.nodes.iter().map(|(id, (node, voter))| {
            let matched = status.matched.iter().find(|(of, _)| of == id).map(|(_, index)| *index);
            let connection = self.peers.find(*id).and_then(|peer| peer.connection_number());
            MemberView {
                id: *id,
                name: node.name.clone(),
                address: node.address.clone(),
                voter: *voter,
                reads: self.newest_format_of(now.me, *id),
                matched,
                lag: matched.map(|matched| status.last.saturating_sub(matched)),
                reachable: *id == now.me || connection.is_some(),
                connection,
            }
        });
        view.members = Arc::new(members.collect());
    }

    /// This node leads, or has heard from whoever does a short while ago.
    pub(crate) fn hears_a_leader(&self) -> bool {
        let Some(raft) = self.proposer.raft() else { return false };
        let now = raft.standing().borrow().clone();
        let heard = *self.heard.lock();
        let lifetime = self.config.timing.status_lifetime();
        now.role == MemberRole::Leader || heard.is_some_and(|(_, at)| at.elapsed() < lifetime)
    }

    fn unready(&self, view: &ClusterView) -> Option<String> {
        if let Some(failed) = &view.failed {
            return Some(failed.clone());
        }
        if view.id.is_none() {
            let why = self.outside_reason.lock().clone();
            return Some(why.unwrap_or_else(|| {
                "belongs to no cluster yet: run `seamctl cluster init` on one node".into()
            }));
        }
        if view.role == MemberRole::Removed {
            let why = self.outside_reason.lock().clone();
            return Some(why.unwrap_or_else(|| "was removed from the cluster".into()));
        }
        if view.id.is_none_or(|id| view.member(id).is_none()) {
            let why = self.outside_reason.lock().clone();
            return Some(why.unwrap_or_else(|| "waits for the leader to send the ledger".into()));
        }
        if view.leader.is_none() {
            return Some("no leader: the cluster has no quorum that this node is part of".into());
        }
        if !view.quorum {
            return Some("the leader has no quorum".into());
        }
        if !self.recovered.load(Ordering::Relaxed) {
            return Some("catches up with the ledger".into());
        }
        None
    }

    /// What only the leader knows.
    pub(crate) fn leader_status(&self, raft: &Raft) -> Result<LeaderStatus, String> {
        let metrics = raft.metrics_now();
        let now = raft.standing().borrow().clone();
        if now.leader != Some(now.me) || now.role != MemberRole::Leader {
            return Err("this node does not lead".into());
        }
        let last = metrics.last_log_index.unwrap_or(0);
        let mut matched: Vec<(NodeId, u64)> = Vec::new();
        for (id, log) in metrics.replication.iter().flatten() {
            matched.push((*id, log.as_ref().map_or(0, |log| log.index)));
        }
        if !matched.iter().any(|(id, _)| *id == now.me) {
            matched.push((now.me, last));
        }
        let recent = self.config.timing.election_max;
        let voters = now.voters();
        let alive = now
            .nodes
            .iter()
            .filter(|(id, (_, voter))| {
                let acked = metrics.heartbeat.as_ref().and_then(|beats| beats.get(id)?.as_ref());
                let alive = **id == now.me || acked.is_some_and(|at| at.elapsed() < recent);
                let close =
                    matched.iter().any(|(of, index)| of == *id && index + CLOSE_BEHIND >= last);
                *voter && alive && close
            })
            .count();
        let majority = voters / 2 + 1;
        let quorum =
            voters == 1 || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < recent);
        let lost = now.nodes.keys().copied().filter(|id| self.has_lost(*id)).collect();
        Ok(LeaderStatus { quorum, can_lose_one: quorum && alive > majority, matched, last, lost })
    }

    fn has_lost(&self, id: NodeId) -> bool {
        self.peers.find(id).is_some_and(|peer| peer.confirmed.lock().has_lost())
    }

    /// On followers: asks the leader how the cluster is. On all: keeps the peers' addresses.
    pub(crate) async fn follow(self: Arc<Self>) {
        let raft = self.proposer.wait_for_raft().await;
        let mut standing = raft.standing();
        let every = self.config.timing.ask();
        loop {
            let now = standing.borrow_and_update().clone();
            for (id, (node, _)) in &now.nodes {
                if *id != now.me {
                    self.peers.at(*id, node);
                }
            }
            if !now.nodes.is_empty() {
                self.peers.retain(|id| now.nodes.contains_key(&id));
            }
            self.reach_peers();
            if let Some(leader) = now.leader.filter(|leader| *leader != now.me)
                && let Some(peer) = self.peers.find(leader)
                && let Ok(body) = peer.request(Kind::Status, &[], every).await
                && let Ok(status) = decode::<LeaderStatus>(&body)
            {
                if status.lost.contains(&now.me) {
                    self.fail(format!(
                        "this node lacks log entries that it had confirmed: {WHAT_TO_DO}"
                    ));
                    // It must not vote either: what it lacks may be committed.
                    raft.shutdown().await;
                    return;
                }
                *self.status.lock() = Some((status, Instant::now()));
            }
            let _ = timeout(every, standing.changed()).await;
        }
    }

    /// Connects to peers that no connection stands to. Raft needs none between two followers, but who
    /// is in reach is shown to people, and a peer that comes back is sent the jobs that it missed.
    fn reach_peers(&self) {
        for peer in self.others().into_iter().filter(|peer| peer.connection_number().is_none()) {
            // Attempts at the same peer are one, with a pause behind each that fails.
            self.spawn(async move {
                let _ = peer.connection(Kind::Status).await;
            });
        }
    }

    /// After a start: waits until the ledger holds all that this node may have acknowledged.
    pub(crate) async fn recover(self: Arc<Self>) {
        self.proposer.wait_for_raft().await;
        loop {
            let deadline = Instant::now() + self.config.timing.request_deadline;
            if self.proposer.read_linearizable(deadline).await.is_ok() {
                self.recovered.store(true, Ordering::Relaxed);
                return;
            }
            // It fails at once where Raft has stopped.
            sleep(self.config.timing.retry()).await;
        }
    }

    /// Builds a snapshot when the log has grown enough to be worth it.
    pub(crate) async fn snapshots(self: Arc<Self>) {
        let raft = self.proposer.wait_for_raft().await;
        loop {
            sleep(self.config.timing.heartbeat * 5).await;
            let due =
                self.config.limits.snapshot_log_bytes.max(self.metrics.snapshot_bytes.value());
            if self.ledger.bytes_since_snapshot() >= due
                && let Err(error) = raft.build_snapshot().await
            {
                tracing::warn!(%error, "cannot build a snapshot");
            }
        }
    }

    /// Notices changed certificates.
    pub(crate) async fn refresh(self: Arc<Self>) {
        loop {
            sleep(self.config.timing.refresh()).await;
            self.network.refresh();
        }
    }

    /// Every peer of this member, now.
    pub(crate) fn others(&self) -> Vec<Arc<crate::peer::Peer>> {
        let Some(raft) = self.proposer.raft() else { return Vec::new() };
        let now = raft.standing().borrow().clone();
        now.nodes
            .iter()
            .filter(|(id, _)| **id != now.me)
            .map(|(id, (node, _))| self.peers.at(*id, node))
            .collect()
    }

    /// Sends a pulse to the peers in reach, once: the next one is near.
    pub(crate) fn tell_peers(&self, pulse: &Bytes) {
        for peer in self.others().into_iter().filter(|peer| peer.connection_number().is_some()) {
            let pulse = pulse.clone();
            self.spawn(async move {
                if let Err(error) = peer.request(Kind::Pulse, &pulse, PULSE_TIMEOUT).await {
                    tracing::debug!(peer = %peer.name(), %error, "pulse not sent");
                }
            });
        }
    }

    /// Asks the voter that has most of the log to take the leadership. It may not.
    pub(crate) async fn offer_leadership(&self, raft: &Raft) -> Result<(), MemberError> {
        let now = raft.standing().borrow().clone();
        let metrics = raft.metrics_now();
        let matched = |id: &NodeId| {
            let log = metrics.replication.as_ref()?.get(id)?.as_ref()?;
            Some(log.index)
        };
        let others = now.nodes.iter().filter(|(id, (_, voter))| *voter && **id != now.me);
        let Some((heir, _)) = others.max_by_key(|(id, _)| matched(id)) else {
            return Err(MemberError::Refused("there is no other voter".into()));
        };
        raft.transfer_to(*heir).await.map_err(MemberError::Failed)
    }

    /// Sends a block to all peers, trying hard.
    pub(crate) fn push_block(&self, block: Bytes) {
        for peer in self.others() {
            let block = block.clone();
            self.spawn(async move {
                for attempt in 0..BLOCK_ATTEMPTS {
                    match peer.request(Kind::Block, &block, BLOCK_TIMEOUT).await {
                        Ok(_) => return,
                        Err(error) => {
                            tracing::warn!(peer = %peer.name(), attempt, %error, "block not sent");
                        }
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            });
        }
    }
}

/// A solved block is sent to a peer this often before we leave it to Bitcoin's own network.
const BLOCK_ATTEMPTS: u32 = 25;
const BLOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// As often as pulses come, so that at most two are on their way to one peer.
const PULSE_TIMEOUT: Duration = Duration::from_secs(1);
