//! Files that are either whole or refused: small records, and the newest snapshot.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::Staged;
use crate::engine::{LogId, SnapshotMeta};
use crate::ledger::State;
use crate::store::{Snapshots, StoreError};

/// First bytes of each of these files.
const MAGIC: &[u8; 8] = b"SEAMIMG1";

/// The newest snapshot, in one file.
pub(crate) struct SnapshotFile {
    path: PathBuf,
    /// Log id of the snapshot that the file holds, if we know.
    newest: Arc<Mutex<Option<LogId>>>,
}

impl SnapshotFile {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join("snapshot"), newest: Arc::default() }
    }
}

impl Snapshots for SnapshotFile {
    fn save(&self, meta: SnapshotMeta, state: Bytes) -> BoxFuture<'static, Result<(), StoreError>> {
        let path = self.path.clone();
        let newest = self.newest.clone();
        Box::pin(async move {
            if meta.last_log_id.is_some() && *newest.lock() >= meta.last_log_id {
                // The same state, or a later one that was built meanwhile.
                return Ok(());
            }
            let id = meta.last_log_id;
            blocking(move || {
                let head = postcard::to_stdvec(&meta)
                    .map_err(|error| StoreError::corrupt("encoding a snapshot", error))?;
                write_image(&path, &head, &state)
            })
            .await?;
            *newest.lock() = id;
            Ok(())
        })
    }

    fn encode(&self, state: State) -> BoxFuture<'static, Bytes> {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || encode_state(&state))
                .await
                .expect("encoding a state does not panic")
        })
    }

    fn load(&self) -> BoxFuture<'static, Result<Option<(SnapshotMeta, Bytes)>, StoreError>> {
        let path = self.path.clone();
        let newest = self.newest.clone();
        Box::pin(async move {
            let read = blocking(move || {
                let Some((head, state)) = read_image(&path)? else { return Ok(None) };
                let meta: SnapshotMeta = postcard::from_bytes(&head).map_err(|error| {
                    StoreError::corrupt(format!("reading {}", path.display()), error)
                })?;
                Ok(Some((meta, state)))
            })
            .await?;
            if let Some((meta, _)) = &read {
                *newest.lock() = meta.last_log_id;
            }
            Ok(read)
        })
    }
}

/// A state as the bytes of a snapshot.
pub(crate) fn encode_state(state: &State) -> Bytes {
    let mut bytes = Vec::new();
    state.write_to(&mut bytes).expect("a vector takes everything");
    Bytes::from(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::new("using the disk", io::Error::other(error))))
}

/// Keeps a small record. Synced when this returns.
pub(crate) fn write_record<T: Serialize>(path: &Path, record: &T) -> Result<(), StoreError> {
    let body = postcard::to_stdvec(record)
        .map_err(|error| StoreError::corrupt(format!("encoding {}", path.display()), error))?;
    write_image(path, &[], &body)
}

/// Reads a small record; `None` if there is none.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some((_, body)) = read_image(path)? else { return Ok(None) };
    postcard::from_bytes(&body)
        .map(Some)
        .map_err(|error| StoreError::corrupt(format!("reading {}", path.display()), error))
}

/// `magic | head length u64 | body length u64 | CRC-32C of lengths, head and body | head | body`.
fn write_image(path: &Path, head: &[u8], body: &[u8]) -> Result<(), StoreError> {
    let write = || -> io::Result<()> {
        let mut file = Staged::create(path)?;
        file.write_all(MAGIC)?;
        file.write_all(&lengths(head, body))?;
        file.write_all(&checksum(head, body).to_le_bytes())?;
        file.write_all(head)?;
        file.write_all(body)?;
        Ok(file.commit()?)
    };
    write().map_err(|error| StoreError::new(format!("writing {}", path.display()), error))
}

fn read_image(path: &Path) -> Result<Option<(Vec<u8>, Bytes)>, StoreError> {
    let action = || format!("reading {}", path.display());
    match std::fs::read(path) {
        Ok(bytes) => match parse_image(bytes.into()) {
            Ok(parts) => Ok(Some(parts)),
            Err(damage) => Err(StoreError::corrupt(action(), damage)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::new(action(), error)),
    }
}

/// Head and body, or what is wrong.
pub(crate) fn parse_image(bytes: Bytes) -> Result<(Vec<u8>, Bytes), &'static str> {
    const SHORT: &str = "too short";
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    if magic != MAGIC {
        return Err("not a file of this program, or of a newer version");
    }
    let (head_length, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    let (body_length, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    let (found, content) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    let head_length = u64::from_le_bytes(*head_length);
    if head_length.checked_add(u64::from_le_bytes(*body_length)) != Some(content.len() as u64) {
        return Err("its length is wrong");
    }
    let (head, body) = content.split_at(head_length as usize);
    if checksum(head, body) != u32::from_le_bytes(*found) {
        return Err("its checksum is wrong");
    }
    Ok((head.to_vec(), bytes.slice_ref(body)))
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&lengths(head, body));
    crc32c::crc32c_append(crc32c::crc32c_append(sum, head), body)
}

fn lengths(head: &[u8], body: &[u8]) -> [u8; 16] {
    let mut lengths = [0; 16];
    lengths[..8].copy_from_slice(&(head.len() as u64).to_le_bytes());
    lengths[8..].copy_from_slice(&(body.len() as u64).to_le_bytes());
    lengths
}
