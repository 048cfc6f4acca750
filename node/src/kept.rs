//! Solved blocks on disk, until Core has them there itself.
//!
//! Core connects a block at once, but writes its block index about once an hour: killed before that,
//! it has forgotten the block. On a large network it gets it back from its peers; a pool that is
//! alone with its chain would have a round without a block. So the bytes of each block of ours are
//! kept, and submitted again by the next start.

use std::fs;
use std::path::PathBuf;

use bitcoin::BlockHash;
use seam_cluster::durable::{self, DurableError};

use crate::exchange::SolvedBlock;

/// The files. All calls block.
pub struct Kept {
    dir: PathBuf,
    /// By height, the lowest first.
    names: Vec<Name>,
}

/// What a kept block is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

impl Kept {
    /// Opens the directory, which is created if need be.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn open(dir: PathBuf) -> Result<Self, DurableError> {
        durable::create_dir(&dir)?;
        let failed = |source| DurableError::Io { what: "reading", path: dir.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().and_then(Name::parse));
        }
        names.sort();
        Ok(Self { dir, names })
    }

    /// All of them, the lowest first.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Keeps a block; when this returns it survives a crash. The oldest gives way when there are
    /// [`MAX_KEPT`], and is returned.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn put(&mut self, solved: &SolvedBlock) -> Result<Option<Name>, DurableError> {
        let name = Name { height: solved.found.height, hash: solved.found.hash };
        let Err(place) = self.names.binary_search(&name) else { return Ok(None) };
        durable::write_checked(&self.path(name), MAGIC, &solved.encode())?;
        self.names.insert(place, name);
        let surplus = (self.names.len() > MAX_KEPT).then(|| self.names[0]);
        if let Some(oldest) = surplus {
            self.remove(oldest)?;
        }
        Ok(surplus)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not what was written.
    pub fn read(&self, name: Name) -> Result<SolvedBlock, DurableError> {
        let path = self.path(name);
        let payload = durable::read_checked(&path, MAGIC)?;
        SolvedBlock::decode(&payload)
            .ok_or(DurableError::Damaged { path, why: "it does not decode" })
    }

    /// Lets go of one.
    ///
    /// # Errors
    ///
    /// When the disk refuses; it is then submitted once more, which is harmless.
    pub fn remove(&mut self, name: Name) -> Result<(), DurableError> {
        self.names.retain(|other| *other != name);
        durable::remove(&self.path(name))
    }

    /// Forgets one for as long as this process runs; its file stays.
    pub fn overlook(&mut self, name: Name) {
        self.names.retain(|other| *other != name);
    }

    fn path(&self, name: Name) -> PathBuf {
        self.dir.join(format!("{}-{}{END}", name.height, name.hash))
    }
}

impl Name {
    fn parse(file: &str) -> Option<Self> {
        let (height, hash) = file.strip_suffix(END)?.split_once('-')?;
        Some(Self { height: height.parse().ok()?, hash: hash.parse().ok()? })
    }
}

/// Blocks that are kept at most: 1 GB of full ones. Far more than Core is let fall behind; what
/// comes near it are blocks that lost their races.
pub const MAX_KEPT: usize = 256;

const MAGIC: [u8; 8] = *b"SEAMKEP1";

const END: &str = ".block";

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash as _;
    use bytes::Bytes;
    use seam_cluster::ledger::{BlockFound, Share, UserId};

    use super::*;

    #[test]
    fn block_survives_a_restart_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path().join("solved")).unwrap();
        kept.put(&block(8)).unwrap();
        kept.put(&block(7)).unwrap();
        kept.put(&block(7)).unwrap();
        drop(kept);

        let mut kept = Kept::open(dir.path().join("solved")).unwrap();
        let heights: Vec<u32> = kept.names().iter().map(|name| name.height).collect();
        assert_eq!(heights, [7, 8]);
        let first = kept.names()[0];
        let read = kept.read(first).unwrap();
        assert_eq!((read.found, read.block), (block(7).found, block(7).block));
        kept.remove(first).unwrap();
        assert_eq!(Kept::open(dir.path().join("solved")).unwrap().names(), kept.names());
        assert_eq!(kept.names().len(), 1);
    }

    #[test]
    fn oldest_gives_way_at_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path().to_owned()).unwrap();
        for height in 1..=MAX_KEPT as u32 {
            assert_eq!(kept.put(&block(height)).unwrap(), None);
        }
        let gone = kept.put(&block(1_000)).unwrap().unwrap();
        assert_eq!(gone.height, 1);
        assert_eq!(kept.names().len(), MAX_KEPT);
        assert!(kept.read(gone).is_err_and(|error| error.is_not_found()));
    }

    #[test]
    fn damaged_block_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path().to_owned()).unwrap();
        kept.put(&block(7)).unwrap();
        let name = kept.names()[0];
        let mut bytes = fs::read(kept.path(name)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(kept.path(name), bytes).unwrap();
        assert!(matches!(kept.read(name), Err(DurableError::Damaged { .. })));
    }

    fn block(height: u32) -> SolvedBlock {
        let found = BlockFound {
            height,
            hash: BlockHash::from_byte_array([height as u8; 32]),
            previous: BlockHash::all_zeros(),
            ts: 1,
            time: 2,
            txid: Txid::all_zeros(),
            address: "address".into(),
            reward: 3,
            network: "regtest".into(),
            node: "node-0".into(),
            job: 4,
            session: 5,
            user: UserId(6),
            share: Some(Share {
                session: 5,
                user: UserId(6),
                work: 7,
                hash16: [8; 16],
                job_time: 9,
                time: 10,
            }),
        };
        SolvedBlock { found, block: Bytes::from(vec![height as u8; 100]) }
    }
}
