//! What the cluster asks of the process it lives in.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::handle::NodeId;
use crate::ledger::ShareOutcome;
use crate::peer::Stream;
use crate::tls::Identity;

/// Where answers to submitted shares go.
pub trait Completion: Send + Sync {
    /// Called exactly once for each accepted submit, from the cluster's tasks: it must not wait.
    fn complete(&self, token: u64, answer: Result<ShareOutcome, Unavailable>);

    /// Called after a run of `complete` calls, so that a session wakes up once for all of them.
    fn flush(&self) {}
}

/// The share was neither committed nor refused within its deadline. It may still be counted; a
/// replay of it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no quorum of the cluster answered in time")
    }
}

impl std::error::Error for Unavailable {}

/// The node around the ledger.
///
/// The calls that are not `async` must return at once (hand work to a task of your own); those
/// marked *blocking* run on a thread that may wait.
pub trait Host: Send + Sync + 'static {
    /// A peer made a job. `package` is what it gave to [`crate::Cluster::publish_job`].
    fn job_arrived(&self, from: NodeId, package: Bytes);

    /// A peer solved a block: submit it, whether or not the ledger is reachable.
    fn block_arrived(&self, from: NodeId, block: Bytes);

    /// A peer says how it is. `pulse` is what it gave to [`crate::Cluster::tell_peers`].
    fn pulse_arrived(&self, _from: NodeId, _pulse: Bytes) {}

    /// The transactions of these witness ids, in their order, `None` for one we lack. *Blocking.*
    fn transactions(&self, wtxids: &[[u8; 32]]) -> Vec<Option<Bytes>>;

    /// A proxy opened a session link.
    fn link_arrived(&self, proxy: Identity, stream: Stream);

    /// What became of one of our blocks, by its hash in internal byte order. Only asked on the
    /// leader. *Blocking.*
    fn block_status(&self, hash: &[u8; 32], height: u32) -> BlockStatus;

    /// The time, in milliseconds since the Unix epoch, that goes into what this node proposes.
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_millis() as u64
    }
}

/// A block as the leader's Bitcoin Core sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockStatus {
    /// Not known here (yet).
    Unknown,
    /// In the active chain with so many confirmations (the block itself is the first).
    Active {
        /// Confirmations, at least 1.
        confirmations: u32,
    },
    /// Not in the active chain, which has other blocks at its height and above.
    Orphaned {
        /// How many: the tip's height less its height, plus 1.
        buried: u32,
    },
}
