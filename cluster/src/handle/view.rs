//! How the cluster looks from here.

use std::sync::Arc;

use crate::handle::NodeId;

/// A snapshot of the cluster's state, published whenever it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// This member's name.
    pub name: String,
    /// Its Raft id, once it has one.
    pub id: Option<NodeId>,
    /// The cluster's id in hex, once the node belongs to one.
    pub cluster_id: Option<String>,
    /// What this member is.
    pub role: MemberRole,
    /// The leader, when one is known.
    pub leader: Option<NodeId>,
    /// Raft's term.
    pub term: u64,
    /// A leader is known and, as far as can be seen from here, has a quorum.
    pub quorum: bool,
    /// One more voter may fail and the cluster goes on. Known to the leader; followers report
    /// what the leader last told them.
    pub can_lose_one: bool,
    /// All members, in the order of their ids.
    pub members: Arc<Vec<MemberView>>,
    /// The ledger format that the members have agreed on, as far as it has been applied here.
    pub format: u8,
    /// Index of the last log entry that was applied here.
    pub applied: u64,
    /// Index of the last log entry that is known to be committed.
    pub committed: u64,
    /// Why this member cannot serve miners, for people; `None` when it can.
    pub unready: Option<String>,
    /// The store failed; nothing is acknowledged by this process any more. Says what to do.
    pub failed: Option<String>,
}

impl ClusterView {
    /// Whether sessions may be served: member of a cluster with a quorum and caught up.
    pub fn ready(&self) -> bool {
        self.id.is_some() && self.unready.is_none()
    }

    /// The member of this id.
    pub fn member(&self, id: NodeId) -> Option<&MemberView> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether this process leads.
    pub fn is_leader(&self) -> bool {
        self.id.is_some() && self.id == self.leader
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Its Raft id, never used for another disk.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where its cluster port is, `host:port`.
    pub address: String,
    /// Whether it votes; a learner does not yet.
    pub voter: bool,
    /// The newest ledger format that it reads, while a connection to it stands.
    pub reads: Option<u8>,
    /// Log index up to which it has synced the log (known to the leader).
    pub matched: Option<u64>,
    /// Log entries it lacks (known to the leader).
    pub lag: Option<u64>,
    /// A connection to it stands (always true for this member itself).
    pub reachable: bool,
    /// The connection to it that stands, by number: another number means that it may be another process, which
    /// has to be told anew what the one before was told. None for this member itself.
    pub connection: Option<u64>,
}

/// What a process is in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberRole {
    /// Empty disk: waits for `cluster init` or asks its seeds to join.
    #[default]
    Outside,
    /// Receives the log, does not vote.
    Learner,
    /// Votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Was removed from the cluster.
    Removed,
}

impl MemberRole {
    /// Name for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            MemberRole::Outside => "outside",
            MemberRole::Learner => "learner",
            MemberRole::Follower => "follower",
            MemberRole::Candidate => "candidate",
            MemberRole::Leader => "leader",
            MemberRole::Removed => "removed",
        }
    }
}
