//! Every submit and its answer, as a file a checker compares with a ledger.
//!
//! CSV with one line a submit, written when its fate is known:
//! `hash,user,session,work,answer,code,due_unix_ms,answered_unix_ms`.
//!
//! - `hash`: header hash as people read it (most significant byte first): the share's identity.
//! - `user`: without worker. `session`: number of the generator's session.
//! - `work`: credit of the share in expected hashes at the difficulty its job came with.
//! - `answer`: `true`, `false` (with the stratum error `code`, 0 where there was none) or `none`: the
//!   connection closed, or the run ended, before an answer came.
//!
//! What a ledger must hold: every hash answered `true`, once. What it may hold: any hash of
//! `none`, once. Nothing else.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use seam_stratum::job::display_hash;

/// The first line of the file.
pub const HEADER: &str = "hash,user,session,work,answer,code,due_unix_ms,answered_unix_ms";

/// The fate of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Answered `true`.
    Accepted,
    /// Answered with an error of this code, or with `false` (0).
    Rejected(i64),
    /// Never answered.
    Unanswered,
}

/// One submit.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Header hash, in the order SHA-256 gives it.
    pub hash: &'a [u8; 32],
    /// User without worker.
    pub user: &'a str,
    /// Number of the session.
    pub session: u32,
    /// Expected hashes.
    pub work: u128,
    /// What became of it.
    pub fate: Fate,
    /// When it was due, milliseconds since 1970.
    pub due_unix_ms: u64,
    /// When the answer was read, or was given up.
    pub answered_unix_ms: u64,
}

/// The file being written.
#[derive(Debug)]
pub struct Account {
    file: BufWriter<File>,
}

impl Account {
    /// Creates (or empties) the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 16, File::create(path)?);
        writeln!(file, "{HEADER}")?;
        Ok(Self { file })
    }

    /// Adds a line.
    pub fn add(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let (answer, code) = match entry.fate {
            Fate::Accepted => ("true", 0),
            Fate::Rejected(code) => ("false", code),
            Fate::Unanswered => ("none", 0),
        };
        writeln!(
            self.file,
            "{},{},{},{},{answer},{code},{},{}",
            display_hash(entry.hash),
            entry.user,
            entry.session,
            entry.work,
            entry.due_unix_ms,
            entry.answered_unix_ms
        )
    }

    /// Hands everything to the system, so that a reader sees whole lines.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
