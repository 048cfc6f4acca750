//! Files that are promised: either the whole old content or the whole new one is there after a
//! crash, and content that changed on its own is noticed.
//!
//! A file is written beside its place, synced, renamed into place, and its directory is synced.
//! All calls block: keep them off the threads that answer miners.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of a checked file at most: a block with room to spare.
pub const MAX_CHECKED: u64 = 256 << 20;

/// What the name of a file that is still being written ends with. Such files are left by a crash
/// and may be removed.
pub const PART: &str = ".part";

/// Magic, length and checksum of a checked file.
const HEADER: usize = 8 + 8 + 4;

/// Why a durable file can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The file system refused.
    #[error("{what} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error(
        "{} is damaged ({why}): check the disk, then restore the file from a backup or move it away",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        why: &'static str,
    },
}

impl DurableError {
    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<DurableError> for io::Error {
    /// The same kind of error, with its advice.
    fn from(error: DurableError) -> Self {
        let kind = match &error {
            DurableError::Io { source, .. } => source.kind(),
            DurableError::Damaged { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Replaces a file with `bytes`.
///
/// # Errors
///
/// When the file system refuses; the old content is then untouched, unless it was only the last
/// sync of the directory that failed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let mut staged = Staged::create(path)?;
    staged.write_all(bytes).map_err(|source| staged.failed("writing", source))?;
    staged.commit()
}

/// Replaces a file with `payload` behind a header that names what it is and has its checksum.
///
/// # Errors
///
/// Those of [`write()`].
pub fn write_checked(path: &Path, magic: [u8; 8], payload: &[u8]) -> Result<(), DurableError> {
    write(path, &checked(magic, payload))
}

/// As [`write_checked`], in microseconds, but only the end of this process is survived, not that of
/// the machine. A file that was cut off is noticed by [`read_checked`].
///
/// # Errors
///
/// When the file system refuses.
pub fn jot_checked(path: &Path, magic: [u8; 8], payload: &[u8]) -> Result<(), DurableError> {
    fs::write(path, checked(magic, payload)).map_err(|source| DurableError::Io {
        what: "writing",
        path: path.to_owned(),
        source,
    })
}

fn checked(magic: [u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&checksum(&magic, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads what [`write_checked`] wrote with the same `magic`.
///
/// # Errors
///
/// When the file can't be read or is not exactly what was written.
pub fn read_checked(path: &Path, magic: [u8; 8]) -> Result<Vec<u8>, DurableError> {
    let failed = |source| DurableError::Io { what: "reading", path: path.to_owned(), source };
    let damaged = |why| DurableError::Damaged { path: path.to_owned(), why };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > MAX_CHECKED {
        return Err(damaged("it is far too large"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    let (found, rest) = bytes.split_first_chunk::<8>().ok_or(damaged("it is cut off"))?;
    if *found != magic {
        return Err(damaged("it is another kind of file"));
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or(damaged("it is cut off"))?;
    let (sum, payload) = rest.split_first_chunk::<4>().ok_or(damaged("it is cut off"))?;
    if u64::from_le_bytes(*length) != payload.len() as u64 {
        return Err(damaged("its length does not fit"));
    }
    if u32::from_le_bytes(*sum) != checksum(&magic, payload) {
        return Err(damaged("its checksum does not fit"));
    }
    Ok(payload.to_vec())
}

/// Removes a file, durably. That it is gone already is no error.
///
/// # Errors
///
/// When the file system refuses.
pub fn remove(path: &Path) -> Result<(), DurableError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DurableError::Io { what: "removing", path: path.to_owned(), source }),
    }
}

/// Creates a directory and those above it, durably.
///
/// # Errors
///
/// When the file system refuses.
pub fn create_dir(path: &Path) -> Result<(), DurableError> {
    fs::create_dir_all(path).map_err(|source| DurableError::Io {
        what: "creating the directory",
        path: path.to_owned(),
        source,
    })?;
    sync_dir(parent(path))
}

/// Syncs a directory, so that the names in it survive a crash.
///
/// # Errors
///
/// When the file system refuses.
pub fn sync_dir(path: &Path) -> Result<(), DurableError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| DurableError::Io {
        what: "syncing the directory",
        path: path.to_owned(),
        source,
    })
}

/// A file that is being written and takes its place when it is complete. Dropped before, it leaves
/// nothing. Only its owner can read it.
#[derive(Debug)]
pub struct Staged {
    file: File,
    path: PathBuf,
    part: PathBuf,
    committed: bool,
}

impl Staged {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn create(path: &Path) -> Result<Self, DurableError> {
        let mut part = path.as_os_str().to_owned();
        part.push(PART);
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&part) {
            Ok(file) => Ok(Self { file, path: path.to_owned(), part, committed: false }),
            Err(source) => Err(DurableError::Io { what: "creating", path: part, source }),
        }
    }

    /// Puts the file in its place; when this returns it is there, whatever happens next.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn commit(mut self) -> Result<(), DurableError> {
        self.file.sync_all().map_err(|source| self.failed("syncing", source))?;
        fs::rename(&self.part, &self.path).map_err(|source| self.failed("renaming", source))?;
        self.committed = true;
        sync_dir(parent(&self.path))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> DurableError {
        DurableError::Io { what, path: self.path.clone(), source }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing is lost when this fails: the next write truncates it.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn checksum(magic: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(magic), payload)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": make room on this disk; what is waiting goes on by itself"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": the disk is read-only, which the kernel often does after an error: see its log"
        }
        io::ErrorKind::PermissionDenied => ": give the user that the node runs as access to it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"SEAMTEST";

    #[test]
    fn checked_file_comes_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_checked(&path, MAGIC, b"first").unwrap();
        write_checked(&path, MAGIC, b"second").unwrap();
        assert_eq!(read_checked(&path, MAGIC).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_checked(&path, MAGIC, b"payload").unwrap();
        let good = fs::read(&path).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(read_checked(&path, MAGIC), Err(DurableError::Damaged { .. })));
            fs::write(&path, &good[..position]).unwrap();
            assert!(matches!(read_checked(&path, MAGIC), Err(DurableError::Damaged { .. })));
        }
    }

    #[test]
    fn abandoned_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"old").unwrap();
        let mut staged = Staged::create(&path).unwrap();
        staged.write_all(b"new").unwrap();
        drop(staged);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn error_names_the_file_and_what_to_do() {
        let missing = read_checked(Path::new("no/such"), MAGIC).unwrap_err();
        assert!(missing.is_not_found());
        assert!(missing.to_string().contains("reading no/such"));
        let full = DurableError::Io {
            what: "writing",
            path: "x".into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        assert!(full.to_string().contains("make room"));
    }

    #[test]
    fn removing_twice_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"x").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
