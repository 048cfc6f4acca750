//! Frames: `length u32 | kind u8 | id u64 | body`, little-endian; the length counts what follows it.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::peer::{MAX_FRAME, MAX_OUTBOX};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// First frame of a connection: who calls whom.
    Hello = 1,
    /// Answer to a request.
    Done = 2,
    /// A request was refused; the body says why, in UTF-8.
    Refused = 3,
    /// Says that the connection lives.
    Ping = 4,
    /// Answer to a ping.
    Pong = 5,
    /// Log entries, in the order of the connection.
    Append = 16,
    /// The leader lives.
    Heartbeat = 17,
    /// Vote for me.
    Vote = 18,
    /// Would you vote for me?
    PreVote = 19,
    /// Take the leadership.
    TransferLeader = 20,
    /// A command for the ledger, to the leader.
    Propose = 21,
    /// Up to which index must I have applied for a linearizable read? To the leader.
    ReadIndex = 22,
    /// What the leader knows and the followers do not.
    Status = 23,
    /// Begin of a snapshot.
    SnapshotBegin = 32,
    /// Part of a snapshot.
    SnapshotPart = 33,
    /// End of a snapshot: install it.
    SnapshotEnd = 34,
    /// A job.
    Job = 35,
    /// A solved block.
    Block = 36,
    /// Send me transactions.
    Transactions = 37,
    /// A node with an empty disk wants a Raft id.
    Join = 38,
    /// A node that has one wants to receive the log, or moved.
    Enrol = 39,
    /// An operator's change of the membership, to the leader.
    Membership = 40,
    /// How the caller is, for people.
    Pulse = 41,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        const ALL: [Kind; 23] = [
            Hello,
            Done,
            Refused,
            Ping,
            Pong,
            Append,
            Heartbeat,
            Vote,
            PreVote,
            TransferLeader,
            Propose,
            ReadIndex,
            Status,
            SnapshotBegin,
            SnapshotPart,
            SnapshotEnd,
            Job,
            Block,
            Transactions,
            Join,
            Enrol,
            Membership,
            Pulse,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame, as it was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) body: Bytes,
}

const HEADER: usize = 4 + 1 + 8;

fn encode(into: &mut Vec<u8>, kind: Kind, id: u64, body: &[u8]) {
    into.reserve(HEADER + body.len());
    into.extend_from_slice(&((1 + 8 + body.len()) as u32).to_le_bytes());
    into.push(kind as u8);
    into.extend_from_slice(&id.to_le_bytes());
    into.extend_from_slice(body);
}

/// Takes the next whole frame out of `buffer`.
pub(crate) fn decode(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if !(1 + 8..=MAX_FRAME).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("frame of {length} bytes, at most {MAX_FRAME} are allowed"),
        ));
    }
    if buffer.len() < 4 + length {
        // Grows as bytes arrive, not as they are announced.
        let more = 4 + length - buffer.len();
        buffer.reserve(more.min(buffer.len().max(64 << 10)));
        return Ok(None);
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(length).freeze();
    let kind = frame.get_u8();
    let id = frame.get_u64_le();
    let kind = Kind::from_byte(kind).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("frame of unknown kind {kind}"))
    })?;
    Ok(Some(Frame { kind, id, body: frame }))
}

/// Reads frames.
pub(crate) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(64 << 10) }
    }

    /// The next frame; `None` when the other end closed between frames. May be dropped and called
    /// again.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.buffer.capacity() - self.buffer.len() < 4 << 10 {
                self.buffer.reserve(64 << 10);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}

/// Frames that wait to be written. Those that gather while a write is on its way leave together.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
}

/// Why a frame could not be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboxError {
    /// The connection is gone.
    Closed,
    /// The other end does not read.
    Full,
    /// The body is larger than a frame may be.
    TooLarge,
}

impl Outbox {
    /// Queues a frame.
    pub(crate) fn push(&self, kind: Kind, id: u64, body: &[u8]) -> Result<(), OutboxError> {
        if body.len() + 9 > MAX_FRAME {
            return Err(OutboxError::TooLarge);
        }
        {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(OutboxError::Closed);
            }
            if waiting.bytes.len() + body.len() > MAX_OUTBOX {
                return Err(OutboxError::Full);
            }
            encode(&mut waiting.bytes, kind, id, body);
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Nothing more is taken; what waits is dropped.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.bytes = Vec::new();
        drop(waiting);
        self.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Writes what is queued until the outbox is closed. Returns the bytes that were written
    /// through `written`.
    pub(crate) async fn drain(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        mut written: impl FnMut(usize),
    ) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.closed {
                    break;
                }
                batch.clear();
                std::mem::swap(&mut batch, &mut waiting.bytes);
            }
            if batch.is_empty() {
                self.changed.notified().await;
                // Whoever else is about to write now writes with it.
                tokio::task::yield_now().await;
                continue;
            }
            stream.write_all(&batch).await?;
            stream.flush().await?;
            written(batch.len());
            if batch.capacity() > 1 << 20 {
                batch = Vec::new();
            }
        }
        stream.shutdown().await
    }
}
