//! The ledger as Raft's state machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder};
use parking_lot::{Mutex, RwLock};

use crate::engine::{
    AppendRequest, Applied, LogId, Proposal, Snapshot, SnapshotMeta, StoredMembership, Types,
};
use crate::format::older_build;
use crate::handle::Metrics;
use crate::ledger::{Command, DecodeError, Outcome, SnapshotError, State};
use crate::simulation;
use crate::store::Snapshots;
use crate::watch;

/// What an entry costs beside its bytes: its place in the log's index is 200 bytes of memory, and
/// whoever starts or catches up has to take every one.
const ENTRY_COST: u64 = 512;

/// The ledger's state, as far as it has been applied here.
pub(crate) struct Ledger {
    state: RwLock<State>,
    applied: watch::Sender<u64>,
    /// What was applied since the last snapshot, to know when the next one is due: bytes of commands,
    /// and [`ENTRY_COST`] for each.
    since_snapshot: AtomicU64,
    rounds: watch::Sender<()>,
    /// The last applied entry.
    last: Mutex<Option<LogId>>,
    /// The newest format that this member reads.
    newest_format: u8,
    contradiction: Mutex<Option<String>>,
}

impl Ledger {
    pub(crate) fn new(newest_format: u8) -> Self {
        Self {
            state: RwLock::new(State::new()),
            applied: watch::Sender::new(0),
            since_snapshot: AtomicU64::new(0),
            rounds: watch::Sender::new(()),
            last: Mutex::default(),
            newest_format,
            contradiction: Mutex::default(),
        }
    }

    /// Looks at the state.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.read())
    }

    /// Index of the last applied entry, and when it changes.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Changes when a round was closed or its block's status changed.
    pub(crate) fn rounds_changed(&self) -> watch::Receiver<()> {
        self.rounds.subscribe()
    }

    /// Compares what a leader sends with what was applied here. Raft takes it for impossible that
    /// they differ, and it is, unless a quorum's disks have lost synced writes.
    ///
    /// # Errors
    ///
    /// They differ: nothing of that leader may be taken.
    pub(crate) fn agrees_with(&self, request: &AppendRequest) -> Result<(), String> {
        let Some(last) = *self.last.lock() else { return Ok(()) };
        // A leader that was replaced may still send what never was committed: Raft refuses it.
        if request.vote.leader_id < last.leader_id {
            return Ok(());
        }
        let sent = request.prev_log_id.into_iter().chain(request.entries.iter().map(|e| e.log_id));
        // Terms only grow along a log.
        let differs = |id: &LogId| {
            let later = id.leader_id > last.leader_id;
            (id.index <= last.index && later) || (id.index == last.index && *id != last)
        };
        let Some(other) = sent.into_iter().find(differs) else { return Ok(()) };
        let reason = format!(
            "the leader says that log entry {} is of term {}, and one of term {} was committed and \
             applied here: disks of other members have lost synced writes; acknowledged shares \
             may be here only: keep this node's files, restore the cluster from a backup of it",
            other.index, other.leader_id.term, last.leader_id.term
        );
        self.contradiction.lock().get_or_insert(reason.clone());
        Err(reason)
    }

    /// Refuses what a cluster has agreed on that is too new for this build.
    ///
    /// # Errors
    ///
    /// It is: nothing more may be applied, or this member's ledger would be another one.
    fn reads(&self, format: u8) -> io::Result<()> {
        if format <= self.newest_format {
            return Ok(());
        }
        let reason = older_build(format, self.newest_format);
        self.contradiction.lock().get_or_insert(reason.clone());
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }

    /// Why the other members' log cannot be this one's.
    pub(crate) fn contradiction(&self) -> Option<String> {
        self.contradiction.lock().clone()
    }

    /// Bytes of commands applied since the last snapshot, and [`ENTRY_COST`] for each.
    pub(crate) fn bytes_since_snapshot(&self) -> u64 {
        self.since_snapshot.load(Ordering::Relaxed)
    }
}

/// Applies committed entries to the ledger.
#[derive(Clone)]
pub(crate) struct Machine {
    ledger: Arc<Ledger>,
    snapshots: Arc<dyn Snapshots>,
    metrics: Arc<Metrics>,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        snapshots: Arc<dyn Snapshots>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { ledger, snapshots, metrics, last: None, membership: StoredMembership::default() }
    }

    fn apply_command(&self, id: LogId, proposal: &Proposal) -> io::Result<Outcome> {
        let command = Command::decode(&proposal.0).map_err(|error| {
            if let DecodeError::NewerFormat(format) = error
                && let Err(error) = self.ledger.reads(format)
            {
                return error;
            }
            io::Error::new(io::ErrorKind::InvalidData, format!("log entry {}: {error}", id.index))
        })?;
        if let Command::SetFormat(format) = command {
            self.ledger.reads(format)?;
        }
        let command = simulation::as_applied(id.index, command);
        let outcome = self.ledger.state.write().apply(id.index, &command);
        if matches!(command, Command::BlockFound(_) | Command::BlockStatus { .. }) {
            self.ledger.rounds.send_replace(());
        }
        let cost = proposal.0.len() as u64 + ENTRY_COST;
        self.ledger.since_snapshot.fetch_add(cost, Ordering::Relaxed);
        self.metrics.entries_applied.increment();
        Ok(outcome)
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut applied = None;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(proposal) => Some(self.apply_command(entry.log_id, proposal)?),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                    None
                }
            };
            self.last = Some(entry.log_id);
            applied = Some(entry.log_id.index);
            if let Some(responder) = responder {
                responder.send(Applied(outcome));
            }
        }
        *self.ledger.last.lock() = self.last;
        if let Some(index) = applied {
            self.ledger.applied.send_replace(index);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // A clone of the state shares what does not change meanwhile.
        let state = self.ledger.state.read().clone();
        self.ledger.since_snapshot.store(0, Ordering::Relaxed);
        Builder {
            state: Some(state),
            meta: SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() },
            snapshots: self.snapshots.clone(),
            metrics: self.metrics.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let state = State::read_from(&mut &snapshot[..]).map_err(|error| {
            if let SnapshotError::NewerFormat(format) = error
                && let Err(error) = self.ledger.reads(format)
            {
                return error;
            }
            io::Error::new(io::ErrorKind::InvalidData, error.to_string())
        })?;
        self.ledger.reads(state.format())?;
        let known = self.last >= meta.last_log_id && self.last.is_some();
        if !known {
            self.snapshots.save(meta.clone(), snapshot).await.map_err(io::Error::other)?;
        }
        *self.ledger.state.write() = state;
        self.last = meta.last_log_id;
        *self.ledger.last.lock() = self.last;
        self.membership = meta.last_membership.clone();
        self.ledger.since_snapshot.store(0, Ordering::Relaxed);
        self.ledger.applied.send_replace(meta.last_log_id.map_or(0, |id| id.index));
        self.ledger.rounds.send_replace(());
        self.metrics.snapshots_installed.increment();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let newest = self.snapshots.load().await.map_err(io::Error::other)?;
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one snapshot.
pub(crate) struct Builder {
    state: Option<State>,
    meta: SnapshotMeta,
    snapshots: Arc<dyn Snapshots>,
    metrics: Arc<Metrics>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let state = self.state.take().ok_or_else(|| io::Error::other("built already"))?;
        let snapshot = self.snapshots.encode(state).await;
        self.snapshots.save(self.meta.clone(), snapshot.clone()).await.map_err(io::Error::other)?;
        self.metrics.snapshots_built.increment();
        self.metrics.snapshot_bytes.set(snapshot.len() as u64);
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
