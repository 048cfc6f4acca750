//! What a member keeps: the log, snapshots of the ledger, and its seat in the cluster.
//!
//! The traits tell *written* from *synced*. What is written can be read back at once and is lost in
//! a crash; only what is synced may be acknowledged. The disk implements them for real; a
//! simulation implements them in memory and loses the unsynced part on purpose.

mod adaptor;
mod disk;
mod image;
mod memory;
mod record;

pub(crate) use disk::DiskStorage;
pub use memory::MemoryStorage;

pub(crate) use adaptor::LogAdaptor;
#[cfg(test)]
pub(crate) use image::{parse_image, write_record};
#[cfg(test)]
pub(crate) use record::{Id, Payload, VoteRecord};

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::engine::{Entry, LogId, SnapshotMeta, Vote};
use crate::handle::NodeId;
use crate::ledger::State;

/// A member's place in a cluster, kept on its disk. Made once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// What tells this cluster from every other.
    pub(crate) cluster: [u8; 16],
    /// The member's name.
    pub(crate) name: String,
    /// Its Raft id.
    pub(crate) id: NodeId,
}

/// All that a member keeps.
pub(crate) trait Storage: Send + Sync + 'static {
    /// The seat, if the disk has one.
    fn seat(&self) -> Result<Option<Seat>, StoreError>;

    /// Keeps the seat. Synced when this returns.
    fn take_seat(&self, seat: &Seat) -> Result<(), StoreError>;

    /// Sixteen bytes that tell this disk from every other, made when first asked for.
    fn token(&self) -> Result<[u8; 16], StoreError>;

    /// Replaces those bytes: this disk takes the place of another.
    fn keep_token(&self, token: [u8; 16]) -> Result<(), StoreError>;

    /// Opens the log.
    fn open_log(&self) -> Result<Arc<dyn Log>, StoreError>;

    /// The snapshots.
    fn snapshots(&self) -> Arc<dyn Snapshots>;
}

/// The log and the vote.
pub(crate) trait Log: Send + Sync + 'static {
    /// What the log holds.
    fn extent(&self) -> Extent;

    /// The vote that was written last.
    fn vote(&self) -> Option<Vote>;

    /// Entries `from..to`, those that are there; fewer if they are large, but at least one.
    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>>;

    /// Writes a change: visible at once, lost in a crash until [`Log::sync`].
    fn write(&self, change: Change) -> io::Result<()>;

    /// Syncs all that was written so far, then calls `done`.
    fn sync(&self, done: Synced);
}

/// Called when a sync has ended.
pub(crate) type Synced = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What a log holds: the entries in `(purged, last]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

/// A change of a log.
#[derive(Clone)]
pub(crate) enum Change {
    /// Entries at the end.
    Append(Vec<Entry>),
    /// Nothing stays after this one.
    TruncateAfter(Option<LogId>),
    /// Nothing stays up to this one.
    PurgeUpTo(LogId),
    /// A vote.
    Vote(Vote),
}

/// Snapshots; the newest is kept.
pub(crate) trait Snapshots: Send + Sync + 'static {
    /// Keeps this one in place of the one before. Synced, whole and checksummed when this ends.
    fn save(&self, meta: SnapshotMeta, state: Bytes) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Writes a state down, where that disturbs nobody.
    fn encode(&self, state: State) -> BoxFuture<'static, Bytes>;

    /// The newest one.
    fn load(&self) -> BoxFuture<'static, Result<Option<(SnapshotMeta, Bytes)>, StoreError>>;
}

/// Why the store cannot be used.
#[derive(Debug)]
pub struct StoreError {
    /// What was being done, with the file's name.
    pub action: String,
    /// What went wrong.
    pub source: io::Error,
}

impl StoreError {
    pub(crate) fn new(action: impl Into<String>, source: io::Error) -> Self {
        Self { action: action.into(), source }
    }

    pub(crate) fn corrupt(action: impl Into<String>, reason: impl fmt::Display) -> Self {
        let source = io::Error::new(io::ErrorKind::InvalidData, reason.to_string());
        Self { action: action.into(), source }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.source)?;
        let advice = match self.source.kind() {
            io::ErrorKind::InvalidData => {
                "the file is damaged: `seamctl member remove` this node on another one, empty its \
                 ledger directory and let it join again"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "the disk is full: make room and restart this node"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the disk is read-only: check it and restart this node"
            }
            io::ErrorKind::PermissionDenied => "check who owns the data directory",
            _ => return Ok(()),
        };
        write!(f, " ({advice})")
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
