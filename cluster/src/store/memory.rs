//! A disk in memory for simulations: it knows what was written and what was synced, and a crash
//! loses the difference.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::engine::{Entry, LogId, SnapshotMeta, Vote, random_bytes};
use crate::ledger::State;
use crate::store::image::encode_state;
use crate::store::{Change, Extent, Log, Seat, Snapshots, Storage, StoreError, Synced};

/// A disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    shared: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    seat: Option<Seat>,
    token: Option<[u8; 16]>,
    /// What a reader sees.
    written: LogImage,
    /// What a crash leaves.
    synced: LogImage,
    /// Changes that are in `written` and not in `synced`.
    unsynced: Vec<Change>,
    /// Number of the first of them, counted from the beginning.
    unsynced_from: u64,
    snapshot: Option<(SnapshotMeta, Bytes)>,
    sync_time: Duration,
    full: bool,
    lying: bool,
}

#[derive(Clone, Default)]
struct LogImage {
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
}

impl MemoryStorage {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a sync takes so long.
    pub fn set_sync_time(&self, time: Duration) {
        self.shared.lock().sync_time = time;
    }

    /// From now on syncs fail, or succeed again.
    pub fn set_full(&self, full: bool) {
        self.shared.lock().full = full;
    }

    /// From now on syncs are reported at once, and happen later.
    pub fn set_lying(&self, lying: bool) {
        self.shared.lock().lying = lying;
    }

    /// Whether it has a seat in a cluster.
    pub fn has_seat(&self) -> bool {
        self.shared.lock().seat.is_some()
    }

    /// How many written changes are not synced.
    pub fn unsynced(&self) -> usize {
        self.shared.lock().unsynced.len()
    }

    /// The power fails. Of what was not synced, the first `survivors` changes happen to have
    /// reached the disk.
    pub fn crash(&self, survivors: usize) {
        let disk = &mut *self.shared.lock();
        let changes = std::mem::take(&mut disk.unsynced);
        disk.unsynced_from += changes.len() as u64;
        for change in changes.into_iter().take(survivors) {
            disk.synced.apply(change);
        }
        disk.written = disk.synced.clone();
    }

    /// Everything is gone: a new disk in the same place.
    pub fn wipe(&self) {
        *self.shared.lock() = Disk::default();
    }
}

impl Storage for MemoryStorage {
    fn seat(&self) -> Result<Option<Seat>, StoreError> {
        Ok(self.shared.lock().seat.clone())
    }

    fn take_seat(&self, seat: &Seat) -> Result<(), StoreError> {
        self.shared.lock().seat = Some(seat.clone());
        Ok(())
    }

    fn token(&self) -> Result<[u8; 16], StoreError> {
        Ok(*self.shared.lock().token.get_or_insert_with(random_bytes))
    }

    fn keep_token(&self, token: [u8; 16]) -> Result<(), StoreError> {
        self.shared.lock().token = Some(token);
        Ok(())
    }

    fn open_log(&self) -> Result<Arc<dyn Log>, StoreError> {
        Ok(Arc::new(self.clone()))
    }

    fn snapshots(&self) -> Arc<dyn Snapshots> {
        Arc::new(self.clone())
    }
}

impl Log for MemoryStorage {
    fn extent(&self) -> Extent {
        self.shared.lock().written.extent()
    }

    fn vote(&self) -> Option<Vote> {
        self.shared.lock().written.vote
    }

    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let disk = self.shared.lock();
        Ok(disk.written.entries.range(from..to.max(from)).map(|(_, e)| e.clone()).collect())
    }

    fn write(&self, change: Change) -> io::Result<()> {
        let disk = &mut *self.shared.lock();
        disk.written.apply(change.clone());
        disk.unsynced.push(change);
        Ok(())
    }

    fn sync(&self, done: Synced) {
        let (up_to, mut time, lying) = {
            let disk = self.shared.lock();
            let up_to = disk.unsynced_from + disk.unsynced.len() as u64;
            (up_to, disk.sync_time, disk.lying)
        };
        let mut done = Some(done);
        if lying && let Some(done) = done.take() {
            time += Duration::from_millis(300);
            done(Ok(()));
        }
        let shared = self.shared.clone();
        // A host that crashes loses this task, and with it the sync.
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let result = {
                let disk = &mut *shared.lock();
                if disk.full {
                    Err(io::ErrorKind::StorageFull.into())
                } else {
                    let ripe = up_to.saturating_sub(disk.unsynced_from) as usize;
                    disk.unsynced_from = disk.unsynced_from.max(up_to);
                    for change in disk.unsynced.drain(..ripe) {
                        disk.synced.apply(change);
                    }
                    Ok(())
                }
            };
            if let Some(done) = done {
                done(result);
            }
        });
    }
}

impl LogImage {
    fn extent(&self) -> Extent {
        let last = self.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Extent { purged: self.purged, last: last.or(self.purged) }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(entries) => {
                self.entries.extend(entries.into_iter().map(|e| (e.log_id.index, e)));
            }
            Change::TruncateAfter(last) => {
                self.entries.split_off(&last.map_or(0, |last| last.index + 1));
            }
            Change::PurgeUpTo(id) => {
                self.entries = self.entries.split_off(&(id.index + 1));
                self.purged = self.purged.max(Some(id));
            }
            Change::Vote(vote) => self.vote = Some(vote),
        }
    }
}

impl Snapshots for MemoryStorage {
    fn save(&self, meta: SnapshotMeta, state: Bytes) -> BoxFuture<'static, Result<(), StoreError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let time = shared.lock().sync_time;
            tokio::time::sleep(time).await;
            let disk = &mut *shared.lock();
            if disk.full {
                return Err(StoreError::new("snapshot", io::ErrorKind::StorageFull.into()));
            }
            let newest = disk.snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
            if newest <= meta.last_log_id {
                disk.snapshot = Some((meta, state));
            }
            Ok(())
        })
    }

    fn encode(&self, state: State) -> BoxFuture<'static, Bytes> {
        Box::pin(async move { encode_state(&state) })
    }

    fn load(&self) -> BoxFuture<'static, Result<Option<(SnapshotMeta, Bytes)>, StoreError>> {
        let snapshot = self.shared.lock().snapshot.clone();
        Box::pin(async move { Ok(snapshot) })
    }
}
