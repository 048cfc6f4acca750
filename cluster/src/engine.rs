//! openraft behind one module: nothing else in the crate knows its interfaces.

mod clock;
mod confirmed;
mod machine;
mod network;
mod types;

pub use clock::seed_thread;

pub(crate) use clock::random_bytes;
pub(crate) use confirmed::{Confirmed, WHAT_TO_DO};
pub(crate) use machine::{Ledger, Machine};
pub(crate) use types::{
    AppendRequest, AppendResult, Applied, Entry, LogId, Node, Proposal, Snapshot, SnapshotMeta,
    StoredMembership, Types, Vote,
};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardReason, ForwardToLeader, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::raft::{SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::{ChangeMembers, RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy};

use crate::handle::{Limits, MemberRole, NodeId, Timing};
use crate::ledger::Outcome;
use crate::peer::Peers;
use crate::store::{Log, LogAdaptor};
use crate::watch;

/// A running Raft node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Raft {
    inner: openraft::Raft<Types, Machine>,
    standing: watch::Receiver<Standing>,
}

/// Who leads whom. Changes seldom.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    pub(crate) me: NodeId,
    pub(crate) leader: Option<NodeId>,
    pub(crate) role: MemberRole,
    pub(crate) term: u64,
    /// All members, and whether they vote.
    pub(crate) nodes: BTreeMap<NodeId, (Node, bool)>,
    /// The last change of the membership is committed, and it was a whole one.
    pub(crate) settled: bool,
}

impl Standing {
    fn of(metrics: &RaftServerMetrics<Types>) -> Self {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let nodes: BTreeMap<_, _> = membership
            .nodes()
            .map(|(id, node)| (*id, (node.clone(), voters.contains(id))))
            .collect();
        let role = match metrics.state {
            ServerState::Leader => MemberRole::Leader,
            ServerState::Candidate => MemberRole::Candidate,
            ServerState::Follower => MemberRole::Follower,
            ServerState::Learner | ServerState::Shutdown => MemberRole::Learner,
        };
        Self {
            me: metrics.id,
            leader: metrics.current_leader,
            role,
            term: metrics.vote.leader_id.term,
            nodes,
            settled: metrics.membership_config == metrics.committed_membership_config
                && membership.get_joint_config().len() <= 1,
        }
    }

    /// How many vote.
    pub(crate) fn voters(&self) -> usize {
        self.nodes.values().filter(|(_, voter)| *voter).count()
    }
}

/// Why a proposal did not give an outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposeError {
    /// Someone else leads, or nobody. The proposal was not accepted.
    #[error("this node does not lead")]
    NotLeader(Option<NodeId>),
    /// This node leads, but has yet to hear from a quorum. The proposal was not accepted.
    #[error("no quorum has confirmed this leader yet")]
    NotYet,
    /// Accepted, then a leader changed: it may be committed or not.
    #[error("the leader changed; whether it was committed is unknown")]
    Unknown,
    /// Raft has stopped for good.
    #[error("{0}")]
    Stopped(String),
}

/// Metrics of Raft.
pub(crate) type Metrics = RaftMetrics<Types>;

impl Raft {
    /// Starts a node from what it keeps.
    pub(crate) async fn start(
        id: NodeId,
        timing: &Timing,
        limits: &Limits,
        peers: Arc<Peers>,
        log: Arc<dyn Log>,
        machine: Machine,
    ) -> Result<Self, String> {
        let config = config(timing, limits)?;
        let network = network::Factory::new(id, peers, timing);
        let adaptor = LogAdaptor::new(log);
        let inner = openraft::Raft::new(id, Arc::new(config), network, adaptor, machine)
            .await
            .map_err(|fatal| fatal.to_string())?;
        let mut server = inner.server_metrics();
        let (tx, standing) = watch::channel(Standing::of(&server.borrow_and_update()));
        tokio::spawn(async move {
            while server.changed().await.is_ok() {
                tx.send_replace(Standing::of(&server.borrow_and_update()));
            }
            // Raft has stopped: whoever waits for a change goes on waiting, and does not spin.
            tx.closed().await;
        });
        Ok(Self { inner, standing })
    }

    /// Who leads whom, and when it changes.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Forms a cluster of this node alone.
    pub(crate) async fn initialize(&self, id: NodeId, node: Node) -> Result<(), String> {
        self.inner.initialize(BTreeMap::from([(id, node)])).await.map_err(|e| e.to_string())
    }

    /// Proposes an encoded command, on the leader.
    pub(crate) async fn propose(&self, command: Bytes) -> Result<Outcome, ProposeError> {
        match self.inner.client_write(Proposal(command)).await {
            Ok(written) => written
                .data
                .0
                .ok_or_else(|| ProposeError::Stopped("a command gave no outcome".into())),
            Err(error) => Err(ProposeError::from(error)),
        }
    }

    /// Log index up to which a state has to be applied to be linearizable. Only on the leader.
    pub(crate) async fn read_index(&self) -> Result<u64, ProposeError> {
        match self.inner.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((id, _)) => Ok(id.index()),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
            Err(RaftError::APIError(error)) => {
                use openraft::errors::LinearizableReadError::*;
                Err(match error {
                    ForwardToLeader(forward) => forward.into(),
                    QuorumNotEnough(_) => ProposeError::NotYet,
                })
            }
        }
    }

    /// Takes a stream of log entries from the leader.
    pub(crate) fn append_stream(
        &self,
        requests: impl Stream<Item = AppendRequest> + Send + 'static,
    ) -> impl Stream<Item = Result<AppendResult, String>> + Send + 'static {
        self.inner.stream_append(requests).map(|result| result.map_err(|fatal| fatal.to_string()))
    }

    pub(crate) async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResult, String> {
        let previous = request.prev_log_id;
        let response = self.inner.append_entries(request).await.map_err(|e| e.to_string())?;
        Ok(response.into_stream_result(previous, previous))
    }

    pub(crate) async fn vote(
        &self,
        request: VoteRequest<Types>,
    ) -> Result<VoteResponse<Types>, String> {
        self.inner.vote(request).await.map_err(|e| e.to_string())
    }

    pub(crate) async fn pre_vote(
        &self,
        request: VoteRequest<Types>,
    ) -> Result<VoteResponse<Types>, String> {
        self.inner.pre_vote(request).await.map_err(|e| e.to_string())
    }

    pub(crate) async fn take_leadership(
        &self,
        request: TransferLeaderRequest<Types>,
    ) -> Result<openraft::raft::TransferLeaderResponse<Types>, String> {
        self.inner.handle_transfer_leader(request).await.map_err(|e| e.to_string())
    }

    pub(crate) async fn install_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, String> {
        self.inner.install_full_snapshot(vote, snapshot).await.map_err(|e| e.to_string())
    }

    /// Builds a snapshot in the background.
    pub(crate) async fn build_snapshot(&self) -> Result<(), String> {
        self.inner.trigger().snapshot().await.map_err(|e| e.to_string())
    }

    /// Changes the membership and waits until the change is committed.
    pub(crate) async fn change_membership(
        &self,
        change: ChangeMembers<NodeId, Node>,
    ) -> Result<(), MembershipError> {
        match self.inner.change_membership(change, true).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(fatal)) => Err(MembershipError::Failed(fatal.to_string())),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(_) => MembershipError::NotLeader,
                error => MembershipError::Failed(error.to_string()),
            }),
        }
    }

    pub(crate) async fn add_learner(&self, id: NodeId, node: Node) -> Result<(), MembershipError> {
        self.change_membership(ChangeMembers::AddNodes(BTreeMap::from([(id, node)]))).await
    }

    pub(crate) async fn promote(&self, id: NodeId) -> Result<(), MembershipError> {
        self.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    pub(crate) async fn move_node(&self, id: NodeId, node: Node) -> Result<(), MembershipError> {
        self.change_membership(ChangeMembers::SetNodes(BTreeMap::from([(id, node)]))).await
    }

    pub(crate) async fn remove(&self, id: NodeId, voter: bool) -> Result<(), MembershipError> {
        let ids = BTreeSet::from([id]);
        if voter {
            // `retain` is true in `change_membership`: it becomes a learner first.
            self.change_membership(ChangeMembers::RemoveVoters(ids.clone())).await?;
        }
        self.change_membership(ChangeMembers::RemoveNodes(ids)).await
    }

    /// Asks that this node should take the leadership over. What came of it is in the metrics.
    pub(crate) async fn transfer_to(&self, id: NodeId) -> Result<(), String> {
        self.inner.trigger().transfer_leader(id).await.map_err(|e| e.to_string())
    }

    /// The newest metrics.
    pub(crate) fn metrics_now(&self) -> Metrics {
        self.inner.metrics().borrow_watched().clone()
    }

    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.inner.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
    }
}

/// Why the membership is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MembershipError {
    #[error("this node does not lead")]
    NotLeader,
    #[error("{0}")]
    Failed(String),
}

impl From<RaftError<Types, ClientWriteError<Types>>> for ProposeError {
    fn from(error: RaftError<Types, ClientWriteError<Types>>) -> Self {
        match error {
            RaftError::Fatal(fatal) => Self::from(fatal),
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => forward.into(),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Self::Unknown,
            RaftError::APIError(error) => Self::Stopped(error.to_string()),
        }
    }
}

impl From<Fatal<Types>> for ProposeError {
    fn from(fatal: Fatal<Types>) -> Self {
        Self::Stopped(fatal.to_string())
    }
}

impl From<ForwardToLeader<Types>> for ProposeError {
    fn from(forward: ForwardToLeader<Types>) -> Self {
        match forward.reason {
            ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer => Self::NotYet,
            ForwardReason::NotLeader => Self::NotLeader(forward.leader_id),
        }
    }
}

/// Entries of one append request at most. It is the bytes of a read that bound a request of large
/// ones; of small ones a slow disk, or a distant one, takes this many a sync.
const APPEND_ENTRIES: u64 = 1_024;

fn config(timing: &Timing, limits: &Limits) -> Result<openraft::Config, String> {
    let ms = |duration: Duration| duration.as_millis() as u64;
    // openraft counts its election timeout from the end of the leader's lease, which is as long as
    // the longest timeout: a silence of `election_max` is half lease, half timeout.
    let lease = timing.election_max / 2;
    let shortest = timing.election_min.saturating_sub(lease).max(timing.heartbeat * 3 / 2);
    openraft::Config {
        cluster_name: "seam".into(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(shortest),
        election_timeout_max: ms(lease),
        enable_pre_vote: Some(true),
        // A restarted leader is elected anew: its ledger is older than what it acknowledged.
        enable_leader_restore: Some(false),
        // The snapshot task of `handle` decides, by bytes rather than by entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: limits.kept_entries,
        purge_batch_size: 256,
        max_payload_entries: APPEND_ENTRIES,
        install_snapshot_timeout: ms(SNAPSHOT_TIMEOUT),
        backoff: "100ms 200ms ..500ms".into(),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| error.to_string())
}

/// What a snapshot says of its place in the log when it begins the log of a restored cluster.
pub(crate) fn restored_meta(id: NodeId, node: Node, applied: u64) -> SnapshotMeta {
    let leader = openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: id };
    let last = LogId::new(leader, applied.max(1));
    let members =
        openraft::Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, node)]))
            .expect("the only voter is the only node");
    SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), members),
    }
}

/// How long sending and installing a snapshot may take.
pub(crate) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);
