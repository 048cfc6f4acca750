//! The real disk: `raft-log` for the log, checksummed files for the rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use parking_lot::Mutex;
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Callback, RaftLog};

use crate::engine::{Entry, Vote, random_bytes};
use crate::handle::Metrics;
use crate::store::image::{SnapshotFile, read_record, write_record};
use crate::store::record::{Id, Payload, VoteRecord};
use crate::store::{Change, Extent, Log, Seat, Snapshots, Storage, StoreError, Synced};

/// Bytes of a log file before the next one is begun: small, so that a purge frees the disk soon.
const CHUNK_BYTES: usize = 32 << 20;
const CHUNK_RECORDS: usize = 64 << 10;
/// Entries kept in memory for followers that are nearly up to date.
const CACHE_BYTES: usize = 32 << 20;
const CACHE_ENTRIES: usize = 16 << 10;
/// Bytes of entries that one read returns, more or less.
const READ_BYTES: usize = 1 << 20;

/// A member's files, below one directory.
pub(crate) struct DiskStorage {
    dir: PathBuf,
    metrics: Arc<Metrics>,
    snapshots: Arc<SnapshotFile>,
    /// Held while the token is read and made: joining and forming may ask at once.
    making_token: Mutex<()>,
}

impl DiskStorage {
    /// Uses `dir`, made if need be.
    pub(crate) fn open(dir: impl Into<PathBuf>, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir)
            .map_err(|error| StoreError::new(format!("making {}", dir.display()), error))?;
        let snapshots = Arc::new(SnapshotFile::new(&dir));
        Ok(Self { dir, metrics, snapshots, making_token: Mutex::default() })
    }
}

impl Storage for DiskStorage {
    fn seat(&self) -> Result<Option<Seat>, StoreError> {
        read_record(&self.dir.join("seat"))
    }

    fn take_seat(&self, seat: &Seat) -> Result<(), StoreError> {
        write_record(&self.dir.join("seat"), seat)
    }

    fn token(&self) -> Result<[u8; 16], StoreError> {
        let _making = self.making_token.lock();
        let path = self.dir.join("token");
        if let Some(token) = read_record(&path)? {
            return Ok(token);
        }
        let token: [u8; 16] = random_bytes();
        write_record(&path, &token)?;
        Ok(token)
    }

    fn keep_token(&self, token: [u8; 16]) -> Result<(), StoreError> {
        let _making = self.making_token.lock();
        write_record(&self.dir.join("token"), &token)
    }

    fn open_log(&self) -> Result<Arc<dyn Log>, StoreError> {
        let dir = self.dir.join("log");
        let failed =
            |error| StoreError::new(format!("opening the log in {}", dir.display()), error);
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let mut config = raft_log::Config::new(dir.display());
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        config.wal.chunk_max_size = Some(CHUNK_BYTES);
        config.wal.chunk_max_records = Some(CHUNK_RECORDS);
        config.wal.read_buffer_size = Some(1 << 20);
        config.wal.truncate_incomplete_record = Some(true);
        config.log_cache_max_items = Some(CACHE_ENTRIES);
        config.log_cache_capacity = Some(CACHE_BYTES);
        let log = RaftLog::open(Arc::new(config)).map_err(failed)?;
        Ok(Arc::new(DiskLog(Arc::new(Shared {
            state: Mutex::new(State { log, syncing: false, waiting: Vec::new() }),
            metrics: self.metrics.clone(),
        }))))
    }

    fn snapshots(&self) -> Arc<dyn Snapshots> {
        self.snapshots.clone()
    }
}

struct DiskLog(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

struct State {
    log: RaftLog<LogTypes>,
    /// A sync is on its way. What is written meanwhile is synced by the next one, together.
    syncing: bool,
    waiting: Vec<Synced>,
}

impl Log for DiskLog {
    fn extent(&self) -> Extent {
        let state = self.0.state.lock();
        let state = state.log.log_state();
        Extent { purged: state.purged().map(|id| id.0), last: state.last().map(|id| id.0) }
    }

    fn vote(&self) -> Option<Vote> {
        self.0.state.lock().log.log_state().vote().map(|vote| vote.0)
    }

    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let state = self.0.state.lock();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for read in state.log.read(from, to) {
            let (id, payload) = read?;
            bytes += payload.size();
            entries.push(Entry { log_id: id.0, payload: payload.0 });
            if bytes >= READ_BYTES {
                break;
            }
        }
        Ok(entries)
    }

    fn write(&self, change: Change) -> io::Result<()> {
        let log = &mut self.0.state.lock().log;
        match change {
            Change::Append(entries) => {
                log.append(entries.into_iter().map(|e| (Id(e.log_id), Payload(e.payload))))?
            }
            Change::TruncateAfter(last) => log.truncate(last.map_or(0, |last| last.index + 1))?,
            Change::PurgeUpTo(id) => log.purge(Id(id))?,
            Change::Vote(vote) => log.save_vote(VoteRecord(vote))?,
        };
        Ok(())
    }

    fn sync(&self, done: Synced) {
        let mut state = self.0.state.lock();
        state.waiting.push(done);
        if !state.syncing {
            Shared::begin_sync(&self.0, &mut state);
        }
    }
}

impl Shared {
    fn begin_sync(shared: &Arc<Shared>, state: &mut State) {
        state.syncing = true;
        let sync = Sync {
            shared: Some(shared.clone()),
            waiting: std::mem::take(&mut state.waiting),
            started: Instant::now(),
        };
        // On an error the callback is dropped, which reports it.
        if let Err(error) = state.log.flush(true, Some(sync)) {
            tracing::error!(%error, "the log cannot be synced");
            state.syncing = false;
        }
    }
}

/// One sync on its way.
struct Sync {
    shared: Option<Arc<Shared>>,
    waiting: Vec<Synced>,
    started: Instant,
}

impl Callback for Sync {
    fn send(mut self, result: io::Result<()>) {
        let Some(shared) = self.shared.clone() else { return };
        let metrics = &shared.metrics;
        metrics.syncs.increment();
        metrics.sync_time.record(self.started.elapsed());
        let failed = result.as_ref().err().map(|error| (error.kind(), error.to_string()));
        for done in self.waiting.drain(..) {
            done(match &failed {
                None => Ok(()),
                Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            });
        }
        let mut state = shared.state.lock();
        metrics.log_bytes.set(state.log.on_disk_size());
        if state.waiting.is_empty() {
            state.syncing = false;
        } else {
            Shared::begin_sync(&shared, &mut state);
        }
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        for done in self.waiting.drain(..) {
            done(Err(io::Error::other("the log has stopped after an earlier error")));
        }
        // The last to let go of the log closes it, and that waits for the thread that we are on.
        if let Some(last) = self.shared.take().and_then(Arc::into_inner) {
            std::thread::spawn(move || drop(last));
        }
    }
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sync").finish_non_exhaustive()
    }
}

/// What `raft-log` is told about us.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct LogTypes;

impl raft_log::Types for LogTypes {
    type LogId = Id;
    type LogPayload = Payload;
    type Vote = VoteRecord;
    type Callback = Sync;
    type UserData = u8;

    fn log_index(id: &Id) -> u64 {
        id.0.index
    }

    fn payload_size(payload: &Payload) -> u64 {
        payload.size() as u64
    }
}
