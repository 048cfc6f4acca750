//! A follower that confirms log entries and later lacks them has lost synced writes: its disk lies,
//! or its files were replaced by older ones. Raft counts on what was confirmed, so such a member is
//! refused instead of quietly being sent the entries again.

use std::fmt;

use openraft::raft::StreamAppendError;

use crate::engine::{AppendResult, Vote};

/// What a follower has confirmed to this leader.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    /// The leader's vote: under another one, a follower may have dropped entries rightly.
    vote: Option<Vote>,
    index: u64,
    lost: bool,
}

/// It has lost entries.
#[derive(Debug)]
pub(crate) struct Lost {
    /// Log index up to which it had confirmed.
    confirmed: u64,
    /// Log index that it lacks.
    missing: u64,
    /// Nobody has been told yet.
    pub(crate) is_new: bool,
}

impl Confirmed {
    /// Log index up to which it has confirmed the log to the leader of this vote.
    pub(crate) fn up_to(&self, vote: &Vote) -> u64 {
        if self.vote.as_ref() == Some(vote) { self.index } else { 0 }
    }

    /// Whether it has lost what it had confirmed.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost
    }

    /// Takes an answer to a request that was sent when the follower had confirmed up to
    /// `confirmed_when_sent`.
    pub(crate) fn judge(
        &mut self,
        vote: Vote,
        confirmed_when_sent: u64,
        result: &AppendResult,
    ) -> Result<(), Lost> {
        match result {
            Ok(Some(id)) => {
                let index = self.up_to(&vote).max(id.index);
                self.vote = Some(vote);
                self.index = index;
                Ok(())
            }
            Err(StreamAppendError::Conflict(id)) if id.index <= confirmed_when_sent => {
                let is_new = !std::mem::replace(&mut self.lost, true);
                Err(Lost { confirmed: confirmed_when_sent, missing: id.index, is_new })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it confirmed that the log up to entry {} was synced, and lacks entry {}: {WHAT_TO_DO}",
            self.confirmed, self.missing
        )
    }
}

/// For the operator.
pub(crate) const WHAT_TO_DO: &str = "its disk loses synced writes, or its files were replaced by older ones; remove the member \
     with `seamctl member remove NAME`, replace the disk, and start the node with an empty one";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LogId;

    fn id(index: u64) -> LogId {
        LogId::new(openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 1 }, index)
    }

    fn vote(term: u64) -> Vote {
        Vote::new_committed(term, 1)
    }

    #[test]
    fn lost_entries_are_noticed_only_when_they_had_been_confirmed_to_this_leader() {
        let mut confirmed = Confirmed::default();
        confirmed.judge(vote(1), 0, &Ok(Some(id(10)))).unwrap();
        assert_eq!(confirmed.up_to(&vote(1)), 10);
        // A late answer to a request from before.
        confirmed.judge(vote(1), 0, &Err(StreamAppendError::Conflict(id(7)))).unwrap();
        // It never had those.
        confirmed.judge(vote(1), 10, &Err(StreamAppendError::Conflict(id(11)))).unwrap();
        // Another leader may have made it drop them.
        let sent = confirmed.up_to(&vote(3));
        confirmed.judge(vote(3), sent, &Err(StreamAppendError::Conflict(id(7)))).unwrap();
        assert!(!confirmed.has_lost());
        let sent = confirmed.up_to(&vote(1));
        let lost = confirmed.judge(vote(1), sent, &Err(StreamAppendError::Conflict(id(7))));
        assert!(lost.unwrap_err().is_new);
        assert!(confirmed.has_lost());
    }
}
