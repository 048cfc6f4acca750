//! [`Log`] as openraft wants it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::engine::{Entry, LogId, Types, Vote};
use crate::store::{Change, Log};

/// A shared log.
#[derive(Clone)]
pub(crate) struct LogAdaptor {
    log: Arc<dyn Log>,
}

impl LogAdaptor {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    async fn synced(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.log.sync(Box::new(move |result| {
            // Raft was stopped, if nobody waits.
            let _ = tx.send(result);
        }));
        rx.await.unwrap_or_else(|_| Err(io::Error::other("the log was closed")))
    }
}

impl RaftLogReader<Types> for LogAdaptor {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(from) => from + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(to) => to + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        let mut entries = Vec::new();
        while from < to {
            let part = self.log.read(from, to)?;
            let Some(last) = part.last() else { break };
            from = last.log_id.index + 1;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.vote())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.log.read(start, end)
    }
}

impl RaftLogStorage<Types> for LogAdaptor {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let extent = self.log.extent();
        Ok(LogState {
            last_purged_log_id: extent.purged,
            last_log_id: extent.last.or(extent.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.write(Change::Vote(*vote))?;
        self.synced().await
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log.write(Change::Append(entries.into_iter().collect()))?;
        self.log.sync(Box::new(move |result| done.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        // Synced with what is appended next: until then the old tail is merely longer.
        self.log.write(Change::TruncateAfter(last))
    }

    async fn purge(&mut self, up_to: LogId) -> Result<(), io::Error> {
        self.log.write(Change::PurgeUpTo(up_to))?;
        // Frees the disk; nobody has to wait for it.
        self.log.sync(Box::new(|_| {}));
        Ok(())
    }
}
