//! Which difficulty a session has, from which job on.

use seam_stratum::vardiff::Vardiff;
use seam_stratum::{Difficulty, JobId};
use smallvec::SmallVec;

use super::Ticket;
use crate::pool::Settings;

/// What was sent, and what shall be sent next.
pub(super) struct Assigned {
    vardiff: Vardiff,
    /// The miner named it (`d=`): vardiff leaves it alone.
    pinned: bool,
    /// The miner suggested or named one on this connection.
    asked: bool,
    minimum: Option<Difficulty>,
    segments: SmallVec<[(JobId, Difficulty); 2]>,
    sent: Option<Difficulty>,
}

impl Assigned {
    pub(super) fn new(settings: &Settings, minimum: Option<Difficulty>, now: u64) -> Self {
        let mut assigned = Self {
            vardiff: Vardiff::new(settings.start, now),
            pinned: false,
            asked: false,
            minimum: None,
            segments: SmallVec::new(),
            sent: None,
        };
        if let Some(minimum) = minimum {
            assigned.set_minimum(settings, minimum);
        }
        assigned
    }

    /// What the miner was last told; shares of the newest job have it.
    pub(super) fn sent(&self) -> Option<Difficulty> {
        self.sent
    }

    /// The miner has to be told again: it is a new connection.
    pub(super) fn forget_sent(&mut self) {
        self.sent = None;
    }

    /// What the next job shall have.
    pub(super) fn wanted(&self) -> Difficulty {
        self.minimum.map_or(self.vardiff.difficulty(), |low| self.vardiff.difficulty().max(low))
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pinned
    }

    pub(super) fn was_asked_for(&self) -> bool {
        self.asked
    }

    pub(super) fn minimum(&self) -> Option<Difficulty> {
        self.minimum
    }

    pub(super) fn segments(&self) -> &[(JobId, Difficulty)] {
        &self.segments
    }

    /// The difficulty that `job` was sent with; none if this session was never sent such a job.
    pub(super) fn of_job(&self, job: JobId) -> Option<Difficulty> {
        self.segments
            .iter()
            .rev()
            .find(|(from, _)| from.lease() == job.lease() && *from <= job)
            .map(|(_, difficulty)| *difficulty)
    }

    /// `job` goes out now: from it on holds what was wanted. True if the segments changed.
    pub(super) fn at_job(
        &mut self,
        settings: &Settings,
        job: JobId,
        new_tip: bool,
        now: u64,
    ) -> bool {
        if !self.pinned {
            self.vardiff.on_tick(&settings.vardiff, now);
        }
        let wanted = self.wanted();
        let same = self
            .segments
            .last()
            .is_some_and(|(from, difficulty)| from.lease() == job.lease() && *difficulty == wanted);
        let many = self.segments.len();
        if new_tip && many > 1 {
            // Older jobs are stale: their difficulty is of no more use.
            self.segments.drain(..many - 1);
        }
        if !same {
            if new_tip {
                self.segments.clear();
            } else if many >= MAX_SEGMENTS {
                self.segments.remove(0);
            }
            self.segments.push((job, wanted));
        }
        self.sent = Some(wanted);
        !same || (new_tip && many > 1)
    }

    /// A good share of `difficulty` arrived.
    pub(super) fn on_share(&mut self, settings: &Settings, difficulty: Difficulty, now: u64) {
        if !self.pinned {
            self.vardiff.on_share(&settings.vardiff, difficulty, now);
        }
    }

    /// The miner suggests one. False if that changes nothing.
    pub(super) fn suggest(&mut self, settings: &Settings, wish: Difficulty, now: u64) -> bool {
        if self.pinned {
            return false;
        }
        let before = self.wanted();
        self.asked = true;
        self.vardiff.restart(settings.clamp(wish), now);
        self.wanted() != before
    }

    /// The miner names one in its password: it stays.
    pub(super) fn pin(&mut self, settings: &Settings, wish: Difficulty, now: u64) -> bool {
        let before = self.wanted();
        self.asked = true;
        self.pinned = true;
        self.vardiff.restart(settings.clamp(wish), now);
        self.wanted() != before
    }

    /// The miner accepts nothing below `minimum` (`mining.configure`).
    pub(super) fn set_minimum(&mut self, settings: &Settings, minimum: Difficulty) {
        self.minimum = Some(settings.clamp(minimum));
    }

    /// Goes on from a ticket. The miner knows the difficulty of its newest segment.
    pub(super) fn restore(&mut self, settings: &Settings, ticket: &Ticket, now: u64) {
        self.vardiff.restart(settings.clamp(ticket.difficulty), now);
        self.pinned = ticket.pinned;
        self.minimum = self.minimum.or(ticket.minimum);
        self.segments = ticket.segments.iter().copied().take(MAX_SEGMENTS).collect();
        self.sent = self.segments.last().map(|(_, difficulty)| *difficulty);
    }
}

/// Changes between two blocks that are remembered: vardiff makes at most one a minute, and shares
/// on jobs before that are rare.
const MAX_SEGMENTS: usize = 8;
