//! Answers, in the order of the requests.

use std::collections::VecDeque;

use seam_stratum::message::{Id, IdBuf};
use seam_stratum::{Reject, write};

use super::event::BlockFate;
use super::login::PendingLogin;
use crate::metrics::ShareAnswer;

/// Requests that are not answered yet, each known by its place in the order: ids repeat.
#[derive(Default)]
pub(super) struct Answers {
    queue: VecDeque<Pending>,
    /// Sequence number of the queue's front.
    first: u32,
    settled: u32,
}

/// A request that waits.
pub(super) struct Pending {
    pub(super) id: IdBuf,
    pub(super) wait: Wait,
}

/// What it waits for.
pub(super) enum Wait {
    /// A share's commit, and perhaps a block.
    Share(PendingShare),
    /// A password's check.
    Login(Box<PendingLogin>),
    /// A user's creation.
    AddUser,
    /// Only for its turn: the line, empty if it wants no answer.
    Turn(Box<[u8]>),
}

/// A share on its way through the ledger.
pub(super) struct PendingShare {
    /// Its place in the session's memory of shares.
    pub(super) seen: u64,
    /// Expected hashes of its difficulty.
    pub(super) work: u64,
    /// When it arrived, in monotonic milliseconds.
    pub(super) arrived: u64,
    /// The verdict, once known.
    pub(super) verdict: Option<Result<ShareAnswer, Reject>>,
    /// What became of the block it solved: none if it solved none.
    pub(super) block: Option<Option<BlockFate>>,
}

impl Answers {
    /// Answers at once, or as soon as all earlier requests have been.
    pub(super) fn answer(
        &mut self,
        out: &mut Vec<u8>,
        id: Id<'_>,
        write: impl FnOnce(&mut Vec<u8>, Id<'_>),
    ) {
        if self.queue.is_empty() {
            write(out, id);
            self.first = self.first.wrapping_add(1);
            self.settled += 1;
        } else {
            let mut line = Vec::new();
            write(&mut line, id);
            self.push(id, Wait::Turn(line.into_boxed_slice()));
        }
    }

    pub(super) fn reject(&mut self, out: &mut Vec<u8>, id: Id<'_>, reject: &Reject) {
        self.answer(out, id, |out, id| write::reject(out, id, reject));
    }

    /// A line that wants no answer still has its turn.
    pub(super) fn settle_silently(&mut self) {
        if self.queue.is_empty() {
            self.first = self.first.wrapping_add(1);
            self.settled += 1;
        } else {
            self.push(Id::NULL, Wait::Turn(Box::default()));
        }
    }

    /// Keeps a request until [`Answers::get`] finds it decided. Returns its sequence number.
    pub(super) fn push(&mut self, id: Id<'_>, wait: Wait) -> u32 {
        let sequence = self.next();
        self.queue.push_back(Pending { id: id.into(), wait });
        sequence
    }

    /// The sequence number that the next request will have.
    pub(super) fn next(&self) -> u32 {
        self.first.wrapping_add(self.queue.len() as u32)
    }

    /// A waiting request.
    pub(super) fn get(&mut self, sequence: u32) -> Option<&mut Pending> {
        let index = sequence.wrapping_sub(self.first);
        self.queue.get_mut(index as usize)
    }

    /// Replaces what a request waits for by its line.
    pub(super) fn decide(&mut self, sequence: u32, write: impl FnOnce(&mut Vec<u8>, Id<'_>)) {
        if let Some(pending) = self.get(sequence) {
            let mut line = Vec::new();
            write(&mut line, pending.id.as_id());
            pending.wait = Wait::Turn(line.into_boxed_slice());
        }
    }

    /// Appends every answer whose turn has come.
    pub(super) fn flush(
        &mut self,
        out: &mut Vec<u8>,
        mut write_share: impl FnMut(&mut Vec<u8>, Id<'_>, &PendingShare),
    ) {
        while let Some(front) = self.queue.front() {
            match &front.wait {
                Wait::Turn(line) => out.extend_from_slice(line),
                Wait::Share(share) if share.is_decided() => {
                    write_share(out, front.id.as_id(), share);
                }
                _ => break,
            }
            self.queue.pop_front();
            self.first = self.first.wrapping_add(1);
            self.settled += 1;
        }
        if self.queue.is_empty() && self.queue.capacity() > IDLE_CAPACITY {
            self.queue = VecDeque::new();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MAX_PENDING
    }

    pub(super) fn take_settled(&mut self) -> u32 {
        std::mem::take(&mut self.settled)
    }

    pub(super) fn memory(&self) -> usize {
        let lines = self.queue.iter().map(|pending| match &pending.wait {
            Wait::Turn(line) => line.len(),
            _ => 0,
        });
        self.queue.capacity() * size_of::<Pending>() + lines.sum::<usize>()
    }
}

impl PendingShare {
    fn is_decided(&self) -> bool {
        self.verdict.is_some() && !matches!(self.block, Some(None))
    }
}

/// Requests of one session that may wait at a time; beyond it the session is not read.
const MAX_PENDING: usize = 1_024;

/// What an idle session keeps of its queue.
const IDLE_CAPACITY: usize = 4;
