//! Solved blocks that the ledger has not recorded yet, one durable file each.
//!
//! A block that is solved while there is no quorum is submitted all the same; its record waits here
//! until the ledger has it, through as many restarts as that takes.
//!
//! Before it is submitted it is *noted*: should the node die while Core judges the block, and the
//! network have it already, then the next start finds the note, and asks Core what became of it.

use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::BlockHash;

use crate::durable::{self, DurableError};
use crate::ledger::BlockFound;

/// Blocks that can wait at most. A pool that solves this many without a quorum has other troubles;
/// what comes beyond is refused with an error, and still submitted by the node.
pub const MAX_WAITING: usize = 10_000;

const MAGIC: [u8; 8] = *b"SEAMBLK1";

/// What the names of records end with, and of notes.
const RECORD: &str = "block";
const NOTE: &str = "solved";

/// Why a record can't be put into the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The disk refused.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// There are [`MAX_WAITING`] already.
    #[error(
        "the outbox has {MAX_WAITING} solved blocks already: the cluster needs its quorum back"
    )]
    Full,
}

/// The queue. All calls block.
#[derive(Clone, Debug)]
pub struct Outbox {
    dir: PathBuf,
}

/// What waits in an outbox.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Records to be proposed, by height.
    pub blocks: Vec<BlockFound>,
    /// Files that can't be read. They are left where they are: each may be a block whose round has
    /// not been closed.
    pub damaged: Vec<DurableError>,
}

impl Outbox {
    /// Opens the outbox in a directory, which is created if need be.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, DurableError> {
        let dir = dir.into();
        durable::create_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Stores a record; when this returns it survives a crash. Storing it again changes nothing.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or too many wait.
    pub fn put(&self, block: &BlockFound) -> Result<(), OutboxError> {
        let path = self.path(block.height, &block.hash, RECORD);
        if !path.exists() && self.files(RECORD)?.len() >= MAX_WAITING {
            return Err(OutboxError::Full);
        }
        durable::write_checked(&path, MAGIC, &encode(block))?;
        // A note that stays is looked at after the next start, and found to be recorded.
        let _ = fs::remove_file(self.path(block.height, &block.hash, NOTE));
        Ok(())
    }

    /// Notes a block that is about to be submitted. Takes microseconds: it outlives this process, not
    /// the machine. [`Outbox::put`] turns it into a record.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn note(&self, block: &BlockFound) -> Result<(), DurableError> {
        let path = self.path(block.height, &block.hash, NOTE);
        durable::jot_checked(&path, MAGIC, &encode(block))
    }

    /// Removes the note of a block that will not be recorded.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn strike(&self, height: u32, hash: &BlockHash) -> Result<(), DurableError> {
        durable::remove(&self.path(height, hash, NOTE))
    }

    /// Reads all notes.
    ///
    /// # Errors
    ///
    /// When the directory can't be read; files that can't are told in the result.
    pub fn noted(&self) -> Result<Waiting, DurableError> {
        self.read_all(NOTE)
    }

    /// Removes a record that the ledger has.
    ///
    /// # Errors
    ///
    /// When the disk refuses; the record is then proposed once more, which is harmless.
    pub fn remove(&self, height: u32, hash: &BlockHash) -> Result<(), DurableError> {
        durable::remove(&self.path(height, hash, RECORD))
    }

    /// Reads all that waits.
    ///
    /// # Errors
    ///
    /// When the directory can't be read; files that can't are told in the result.
    pub fn waiting(&self) -> Result<Waiting, DurableError> {
        self.read_all(RECORD)
    }

    fn read_all(&self, end: &str) -> Result<Waiting, DurableError> {
        let mut waiting = Waiting::default();
        for path in self.files(end)? {
            match read(&path) {
                Ok(block) => waiting.blocks.push(block),
                Err(error) if error.is_not_found() => {}
                Err(error) => waiting.damaged.push(error),
            }
        }
        waiting.blocks.sort_by_key(|block| (block.height, block.hash));
        Ok(waiting)
    }

    fn path(&self, height: u32, hash: &BlockHash, end: &str) -> PathBuf {
        self.dir.join(format!("{height}-{hash}.{end}"))
    }

    fn files(&self, end: &str) -> Result<Vec<PathBuf>, DurableError> {
        let failed = |source| DurableError::Io { what: "reading", path: self.dir.clone(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|found| found == end) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

fn encode(block: &BlockFound) -> Vec<u8> {
    postcard::to_stdvec(block).expect("a vector takes every record")
}

fn read(path: &Path) -> Result<BlockFound, DurableError> {
    let payload = durable::read_checked(path, MAGIC)?;
    match postcard::take_from_bytes(&payload) {
        Ok((block, [])) => Ok(block),
        _ => Err(DurableError::Damaged { path: path.to_owned(), why: "it does not decode" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::testing::block;

    #[test]
    fn solved_block_survives_until_the_ledger_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path().join("outbox")).unwrap();
        outbox.put(&block(8, 2)).unwrap();
        outbox.put(&block(7, 1)).unwrap();
        outbox.put(&block(7, 1)).unwrap();
        drop(outbox);

        let outbox = Outbox::open(dir.path().join("outbox")).unwrap();
        assert_eq!(outbox.waiting().unwrap().blocks, [block(7, 1), block(8, 2)]);
        outbox.remove(7, &block(7, 1).hash).unwrap();
        assert_eq!(outbox.waiting().unwrap().blocks, [block(8, 2)]);
    }

    #[test]
    fn damaged_record_is_told_and_kept_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.put(&block(7, 1)).unwrap();
        outbox.put(&block(8, 2)).unwrap();
        let path = outbox.path(7, &block(7, 1).hash, RECORD);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();

        let waiting = outbox.waiting().unwrap();
        assert_eq!(waiting.blocks, [block(8, 2)]);
        assert_eq!(waiting.damaged.len(), 1);
        assert!(path.exists());
    }

    #[test]
    fn note_of_a_block_stays_until_it_is_recorded_or_struck() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.note(&block(7, 1)).unwrap();
        outbox.note(&block(8, 2)).unwrap();
        assert!(outbox.waiting().unwrap().blocks.is_empty());
        assert_eq!(outbox.noted().unwrap().blocks, [block(7, 1), block(8, 2)]);

        outbox.put(&block(7, 1)).unwrap();
        assert_eq!(outbox.waiting().unwrap().blocks, [block(7, 1)]);
        assert_eq!(outbox.noted().unwrap().blocks, [block(8, 2)]);
        outbox.strike(8, &block(8, 2).hash).unwrap();
        assert!(outbox.noted().unwrap().blocks.is_empty());
    }
}
