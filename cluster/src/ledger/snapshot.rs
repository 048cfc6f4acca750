//! Snapshots: the canonical encoding of a state, in sections, each with its checksum.
//!
//! ```text
//! "SEAMLEDG" · format u8
//! section*   · tag u8 · length u32 · bytes · CRC-32C u32 of tag, length and bytes
//! end        · tag 0 · length 32 · the ledger hash · CRC-32C
//! ```
//!
//! Numbers are little-endian. A state is written section by section, so that writing takes little
//! memory beyond the state, and equal states are written alike.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::credit::{Credit, Detail};
use super::digest::{self, Digest};
use super::rounds::{MAX_ROUNDS, Round};
use super::seen::Seen;
use super::users::User;
use super::{FORMAT, Identity, Leases, Members, State};

const MAGIC: [u8; 8] = *b"SEAMLEDG";

/// How a cluster that has agreed on a format writes its snapshots: as the newest format up to that
/// one which laid them out anew. So members of an older build read them while a rolling update
/// lasts.
fn layout(_agreed: u8) -> u8 {
    1
}

/// Bytes of a section at most.
const MAX_SECTION: u32 = 1 << 30;

const END: u8 = 0;
const HEAD: u8 = 1;
const USERS: u8 = 2;
const CURRENT: u8 = 3;
const ROUND: u8 = 4;
const SEEN: u8 = 5;

/// Why a snapshot can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read at all.
    #[error("reading the snapshot: {0}")]
    Io(#[from] io::Error),
    /// It is not a snapshot of a ledger.
    #[error("this is not a ledger snapshot")]
    NotASnapshot,
    /// A newer build wrote it.
    #[error(
        "snapshot of format {0}, this build knows formats up to {FORMAT}: update this node's build"
    )]
    NewerFormat(u8),
    /// It was changed after it was written, or cut off.
    #[error(
        "the snapshot is damaged ({0}): restore the file from a backup, or empty this node's \
         ledger directory and let it join again after `seamctl member remove`"
    )]
    Damaged(&'static str),
}

/// All that is small.
#[derive(Serialize, Deserialize)]
struct Head {
    applied: u64,
    format: u8,
    counted: Credit,
    identity: Identity,
    leases: Leases,
    members: Members,
    settings: std::collections::BTreeMap<String, String>,
    horizon: u32,
}

#[derive(Serialize, Deserialize)]
struct CurrentRound {
    number: u64,
    started: Option<u32>,
    last: Option<u32>,
    detail: Detail,
}

impl State {
    /// Writes a snapshot.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        writer.write_all(&MAGIC)?;
        writer.write_all(&[layout(self.format)])?;
        write_section(writer, HEAD, &self.head())?;
        for chunk in self.users.chunks() {
            write_section(writer, USERS, &chunk.encode())?;
        }
        write_section(writer, CURRENT, &self.current())?;
        for round in &self.rounds.closed {
            write_section(writer, ROUND, &digest::encode(&**round))?;
        }
        for (minute, bucket) in self.seen.buckets() {
            write_section(writer, SEEN, &bucket_section(minute, bucket.encode()))?;
        }
        write_section(writer, END, &self.digest())
    }

    /// Reads a snapshot of this or any earlier format.
    ///
    /// # Errors
    ///
    /// When it can't be read, is damaged, or comes from a newer build.
    pub fn read_from(reader: &mut impl Read) -> Result<Self, SnapshotError> {
        let mut start = [0; MAGIC.len() + 1];
        reader.read_exact(&mut start).map_err(|_| SnapshotError::NotASnapshot)?;
        let (magic, format) = (&start[..MAGIC.len()], start[MAGIC.len()]);
        match format {
            _ if magic != MAGIC => Err(SnapshotError::NotASnapshot),
            0 => Err(SnapshotError::NotASnapshot),
            1 => read_format_1(reader),
            _ => Err(SnapshotError::NewerFormat(format)),
        }
    }

    /// The ledger hash: SHA-256 over the tags and SHA-256s of the sections of the snapshot. The
    /// hashes of users and share hashes that did not change since the last call are remembered, so
    /// that it costs about as much as the current round and the newest minutes are large. Call it
    /// on a clone, out of the way of shares.
    pub fn digest(&self) -> Digest {
        let mut hasher = digest::Hasher::default();
        hasher.section(HEAD, digest::of(&self.head()));
        for chunk in self.users.chunks() {
            hasher.section(USERS, chunk.digest());
        }
        hasher.section(CURRENT, digest::of(&self.current()));
        for round in &self.rounds.closed {
            hasher.section(ROUND, digest::of(&digest::encode(&**round)));
        }
        for (minute, bucket) in self.seen.buckets() {
            hasher.section(SEEN, digest::of(&bucket_section(minute, bucket.digest().to_vec())));
        }
        hasher.finish()
    }

    fn head(&self) -> Vec<u8> {
        digest::encode(&Head {
            applied: self.applied,
            format: self.format,
            counted: self.counted,
            identity: self.identity.clone(),
            leases: self.leases.clone(),
            members: self.members.clone(),
            settings: self.settings.clone(),
            horizon: self.seen.horizon(),
        })
    }

    fn current(&self) -> Vec<u8> {
        let current = self.rounds.current();
        digest::encode(&CurrentRound {
            number: current.number,
            started: current.started,
            last: current.last,
            detail: current.table.pack(),
        })
    }
}

fn read_format_1(reader: &mut impl Read) -> Result<State, SnapshotError> {
    let (tag, bytes) = read_section(reader)?;
    if tag != HEAD {
        return Err(SnapshotError::Damaged("its head is missing"));
    }
    let head: Head = decode(&bytes)?;
    let mut state = State {
        applied: head.applied,
        format: head.format,
        counted: head.counted,
        identity: head.identity,
        leases: head.leases,
        members: head.members,
        settings: head.settings,
        seen: Seen::restored(head.horizon),
        ..State::new()
    };
    let mut previous = HEAD;
    loop {
        let (tag, bytes) = read_section(reader)?;
        if tag == END {
            if previous < CURRENT {
                return Err(SnapshotError::Damaged("its current round is missing"));
            }
            if *bytes != state.digest() {
                return Err(SnapshotError::Damaged("its ledger hash does not fit"));
            }
            return Ok(state);
        }
        if tag < previous || (tag == previous && matches!(tag, HEAD | CURRENT)) {
            return Err(SnapshotError::Damaged("its sections are out of order"));
        }
        previous = tag;
        state.read_section(tag, &bytes)?;
    }
}

impl State {
    fn read_section(&mut self, tag: u8, bytes: &[u8]) -> Result<(), SnapshotError> {
        match tag {
            USERS => {
                let users: Vec<User> = decode(bytes)?;
                self.users.extend(users).map_err(SnapshotError::Damaged)
            }
            CURRENT => {
                let current: CurrentRound = decode(bytes)?;
                let table = current.detail.parse(self.users.len());
                let round = &mut self.rounds.current;
                round.number = current.number;
                round.started = current.started;
                round.last = current.last;
                round.table = table.map_err(SnapshotError::Damaged)?;
                Ok(())
            }
            ROUND => {
                let round: Round = decode(bytes)?;
                let last = self.rounds.closed.back().map(|last| last.number);
                let follows = last.is_none_or(|last| round.number == last.wrapping_add(1));
                if !follows || round.number >= self.rounds.current.number {
                    return Err(SnapshotError::Damaged("its rounds are out of order"));
                }
                if self.rounds.closed.len() >= MAX_ROUNDS {
                    return Err(SnapshotError::Damaged("it has too many rounds"));
                }
                if let Some(detail) = &round.detail {
                    detail.parse(self.users.len()).map_err(SnapshotError::Damaged)?;
                }
                self.rounds.closed.push_back(Arc::new(round));
                Ok(())
            }
            SEEN => {
                let Some((minute, rows)) = bytes.split_first_chunk() else {
                    return Err(SnapshotError::Damaged("a bucket of share hashes is cut off"));
                };
                let minute = u32::from_le_bytes(*minute);
                self.seen.restore(minute, rows).map_err(SnapshotError::Damaged)
            }
            _ => Err(SnapshotError::Damaged("it has an unknown section")),
        }
    }
}

fn bucket_section(minute: u32, mut rows: Vec<u8>) -> Vec<u8> {
    rows.splice(0..0, minute.to_le_bytes());
    rows
}

fn write_section(writer: &mut impl Write, tag: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|&length| length <= MAX_SECTION);
    let length = length.ok_or_else(|| io::Error::other("a snapshot's section is too large"))?;
    let length = length.to_le_bytes();
    writer.write_all(&[tag])?;
    writer.write_all(&length)?;
    writer.write_all(bytes)?;
    writer.write_all(&checksum(tag, length, bytes).to_le_bytes())
}

fn read_section(reader: &mut impl Read) -> Result<(u8, Vec<u8>), SnapshotError> {
    let mut start = [0; 5];
    exact(reader, &mut start)?;
    let [tag, length @ ..] = start;
    let size = u32::from_le_bytes(length);
    if size > MAX_SECTION {
        return Err(SnapshotError::Damaged("a section is too long"));
    }
    // Grows with what is really there, whatever the length claims.
    let mut bytes = Vec::with_capacity(size.min(1 << 16) as usize);
    reader.take(u64::from(size)).read_to_end(&mut bytes)?;
    if bytes.len() != size as usize {
        return Err(SnapshotError::Damaged("it is cut off"));
    }
    let mut sum = [0; 4];
    exact(reader, &mut sum)?;
    if u32::from_le_bytes(sum) != checksum(tag, length, &bytes) {
        return Err(SnapshotError::Damaged("a checksum does not fit"));
    }
    Ok((tag, bytes))
}

fn exact(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), SnapshotError> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Damaged("it is cut off"),
        _ => SnapshotError::Io(error),
    })
}

fn checksum(tag: u8, length: [u8; 4], bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&[tag]);
    let sum = crc32c::crc32c_append(sum, &length);
    crc32c::crc32c_append(sum, bytes)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(SnapshotError::Damaged("a section does not decode")),
    }
}
