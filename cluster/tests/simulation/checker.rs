//! Knows every submit and every answer, and what they mean for the ledger.

use std::collections::{BTreeMap, BTreeSet};

use seam_cluster::Unavailable;
use seam_cluster::ledger::{Command, Outcome, Share, ShareOutcome, State};

use crate::counts::Counts;

/// What the miners know.
#[derive(Default)]
pub struct Checker {
    /// Every share that was ever submitted: by the number of its hash, then by session.
    submitted: BTreeMap<u64, BTreeMap<u32, Share>>,
    /// The session that was told that a hash is its credit.
    acknowledged: BTreeMap<u64, u32>,
    /// Hashes that were answered `Counted`.
    counted: BTreeSet<u64>,
    /// Ledger hash at each index, and who had it first.
    digests: BTreeMap<u64, ([u8; 32], usize)>,
    /// Terms and who led in them.
    leaders: BTreeSet<(u64, usize)>,
    pub answers: u64,
    pub counts: Counts,
    pub violations: Vec<String>,
    /// Follows from everything that was seen, in its order.
    pub trace: u64,
}

impl Checker {
    pub fn submitted(&mut self, number: u64, share: Share) {
        self.submitted.entry(number).or_default().insert(share.session, share);
    }

    pub fn answered(
        &mut self,
        at: u128,
        number: u64,
        session: u32,
        answer: Result<ShareOutcome, Unavailable>,
    ) {
        self.answers += 1;
        self.counts.add(
            match answer {
                Ok(ShareOutcome::Counted) => "shares answered: counted",
                Ok(ShareOutcome::Replayed) => "shares answered: counted before",
                Ok(ShareOutcome::Duplicate) => "shares answered: another session's",
                Ok(_) => "shares answered: otherwise",
                Err(Unavailable) => "shares answered: unavailable",
            },
            1,
        );
        let kind = match answer {
            Ok(outcome) => outcome as u64,
            Err(Unavailable) => 99,
        };
        self.mix(at as u64);
        self.mix(number);
        self.mix(u64::from(session) << 8 | kind);
        let owner = self.acknowledged.get(&number).copied();
        match answer {
            Ok(ShareOutcome::Counted) => {
                if !self.counted.insert(number) {
                    self.violation(format!("share {number} was counted twice"));
                }
                // `Replayed` may overtake it: the same share, at the same time, on another node.
                if owner.is_some_and(|owner| owner != session) {
                    self.violation(format!("share {number} was credited to two sessions"));
                }
                self.acknowledged.insert(number, session);
            }
            Ok(ShareOutcome::Replayed) => {
                if owner.is_some_and(|owner| owner != session) {
                    self.violation(format!("share {number} was credited to two sessions"));
                }
                self.acknowledged.insert(number, session);
            }
            Ok(ShareOutcome::Duplicate) => {
                if owner == Some(session) {
                    self.violation(format!("share {number} was refused to its own session"));
                }
            }
            Ok(other) => self.violation(format!("share {number} was answered {other:?}")),
            Err(Unavailable) => {}
        }
    }

    /// A look at a node's ledger.
    pub fn observed(&mut self, node: usize, state: &State) {
        let (index, digest) = (state.applied(), state.digest());
        let first = *self.digests.entry(index).or_insert((digest, node));
        if first.0 != digest {
            self.violation(format!(
                "the ledgers of node {node} and node {} differ at index {index}",
                first.1
            ));
        }
        self.mix(index);
        self.mix(u64::from_le_bytes(*digest.first_chunk().unwrap()));
    }

    /// A node says that it leads. A term may have several leaders, one after the other: openraft orders them by term
    /// and node.
    pub fn leads(&mut self, term: u64, node: usize) {
        if self.leaders.insert((term, node)) {
            self.counts.add("leaders elected", 1);
        }
    }

    /// The ledger when everything is over.
    pub fn finish(&mut self, state: &State) {
        let mut kept = (0, 0);
        let submitted = std::mem::take(&mut self.submitted);
        for (number, sessions) in &submitted {
            let mut holder = None;
            for share in sessions.values() {
                let again = Command::Shares { time: share.time, batch: vec![*share] };
                let outcome = state.clone().apply(state.applied() + 1, &again);
                let Outcome::Shares(outcomes) = outcome else { unreachable!("{outcome:?}") };
                if outcomes[0] == ShareOutcome::Replayed {
                    holder = Some(share);
                }
            }
            if let Some(owner) = self.acknowledged.get(number)
                && holder.map(|share| share.session) != Some(*owner)
            {
                self.violation(format!("share {number} was acknowledged and is not in the ledger"));
            }
            if let Some(share) = holder {
                kept.0 += 1;
                kept.1 += u128::from(share.work);
            }
        }
        let counted = state.counted();
        if (counted.shares, counted.work) != kept {
            self.violation(format!(
                "the ledger counts {} shares of work {}, of those submitted it holds {} of work {}",
                counted.shares, counted.work, kept.0, kept.1
            ));
        }
        self.submitted = submitted;
    }

    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn mix(&mut self, value: u64) {
        self.trace = crate::mix(self.trace ^ value);
    }
}
