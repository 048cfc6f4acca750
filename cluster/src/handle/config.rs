//! What a cluster member has to be told.

use std::path::PathBuf;
use std::time::Duration;

use crate::ledger::FORMAT;
use crate::tls;

/// Everything [`crate::Cluster::start`] needs. [`Config::new`] fills in what is seldom changed.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's name: the common name of its certificate.
    pub name: String,
    /// Directory below which `ledger/` and `outbox/` are kept.
    pub data_dir: PathBuf,
    /// Address the cluster port listens on, `host:port`.
    pub listen: String,
    /// Address at which the others reach it, `host:port`.
    pub advertise: String,
    /// Members to ask for membership, `host:port`.
    pub seeds: Vec<String>,
    /// Certificates.
    pub tls: tls::Files,
    /// Raft's clocks.
    pub timing: Timing,
    /// Bounds of queues and files.
    pub limits: Limits,
    /// The newest ledger format that it reads. A test says another to stand for another build.
    pub newest_format: u8,
}

impl Config {
    /// A configuration with the usual clocks and limits.
    pub fn new(
        name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        listen: impl Into<String>,
        advertise: impl Into<String>,
        seeds: Vec<String>,
        tls: tls::Files,
    ) -> Self {
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            listen: listen.into(),
            advertise: advertise.into(),
            seeds,
            tls,
            timing: Timing::default(),
            limits: Limits::default(),
            newest_format: FORMAT,
        }
    }
}

/// Raft's clocks and the deadlines of requests.
///
/// What else is done again and again, or given up after a while, is measured in heartbeats.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often the leader says that it lives.
    pub heartbeat: Duration,
    /// Shortest silence after which a follower calls an election. The leader's lease, half of
    /// `election_max`, is part of it. What is left is how long a vote may take, its sync included:
    /// a voter whose disk takes longer does not count.
    pub election_min: Duration,
    /// Longest such silence; the followers draw between the two.
    pub election_max: Duration,
    /// How long a share may wait for a quorum before it is answered `Unavailable`. Longer than an
    /// election, shorter than a miner's patience.
    pub share_deadline: Duration,
    /// How long any other change or linearizable read may take.
    pub request_deadline: Duration,
    /// How often the leader asks the node what became of our blocks.
    pub block_poll: Duration,
}

impl Timing {
    /// All clocks `factor` times as fast: simulations have no time to lose.
    pub fn faster(self, factor: u32) -> Self {
        Self {
            heartbeat: self.heartbeat / factor,
            election_min: self.election_min / factor,
            election_max: self.election_max / factor,
            share_deadline: self.share_deadline / factor,
            request_deadline: self.request_deadline / factor,
            block_poll: self.block_poll / factor,
        }
    }

    /// A connection says something at least this often (0.5 s).
    pub(crate) fn ping(&self) -> Duration {
        self.heartbeat * 5 / 2
    }

    /// A connection on which nothing arrived for so long is dead (1.8 s).
    pub(crate) fn silence(&self) -> Duration {
        self.heartbeat * 9
    }

    /// A connection that takes longer to be made is given up (3 s).
    pub(crate) fn handshake(&self) -> Duration {
        self.heartbeat * 15
    }

    /// Pause after a failed attempt, so that a dead peer costs little (100 ms).
    pub(crate) fn retry(&self) -> Duration {
        self.heartbeat / 2
    }

    /// How often a node asks for membership, and a follower asks the leader how things are (0.5 s).
    pub(crate) fn ask(&self) -> Duration {
        self.heartbeat * 5 / 2
    }

    /// An answer to that counts for so long (2.5 s).
    pub(crate) fn status_lifetime(&self) -> Duration {
        self.heartbeat * 25 / 2
    }

    /// How often changed certificates are looked for (5 s).
    pub(crate) fn refresh(&self) -> Duration {
        self.heartbeat * 25
    }

    /// A follower that has not answered an append for so long is asked again on a new stream (5 s).
    /// Its disk may be slow: much longer than a sync should take; heartbeats do not wait for it.
    pub(crate) fn append(&self) -> Duration {
        self.heartbeat * 25
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(1_700),
            election_max: Duration::from_millis(2_000),
            share_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(10),
            block_poll: Duration::from_secs(5),
        }
    }
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Shares that may wait for their batch; `submit` is `Full` beyond it.
    pub queued_shares: usize,
    /// Shares in one batch.
    pub batch_shares: usize,
    /// Batches of this node that are on their way to a commit.
    pub batches_in_flight: usize,
    /// Log bytes written since the last snapshot that make the next one due, if the last one was not
    /// larger. An entry counts 512 more than it holds.
    pub snapshot_log_bytes: u64,
    /// Log entries that stay behind a snapshot, so that a follower that was away for a moment
    /// needs no snapshot.
    pub kept_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queued_shares: 65_536,
            batch_shares: 4_096,
            batches_in_flight: 3,
            snapshot_log_bytes: 64 << 20,
            kept_entries: 5_000,
        }
    }
}
