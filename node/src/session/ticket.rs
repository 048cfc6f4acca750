//! What survives a session's connection or node.

use seam_cluster::ledger::UserId;
use seam_stratum::{Difficulty, Extranonce1, JobId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Session, User};
use crate::pool::Pool;

/// A session's state, as another node or connection goes on with it. It travels sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its extranonce1.
    pub extranonce1: Extranonce1,
    /// What it may roll.
    pub version_mask: Option<u32>,
    /// Whether `mining.subscribe` was answered.
    pub subscribed: bool,
    /// Whether it takes `mining.set_extranonce`.
    pub extranonce_subscribed: bool,
    /// The difficulty that its next job shall have.
    pub difficulty: Difficulty,
    /// The miner set it (`d=`): vardiff leaves it alone.
    pub pinned: bool,
    /// The least that it accepts.
    pub minimum: Option<Difficulty>,
    /// Which difficulty holds from which job on.
    pub segments: SmallVec<[(JobId, Difficulty); 2]>,
    /// Who is logged in.
    pub users: SmallVec<[(Box<str>, UserId); 1]>,
}

impl Ticket {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Only a type that cannot be serialised fails, and this one can.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// From its bytes; none for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl Session {
    /// The session as it is; none before it has an extranonce1.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        Some(Ticket {
            extranonce1: self.extranonce1?,
            version_mask: self.version_mask,
            subscribed: self.subscribed,
            extranonce_subscribed: self.extranonce_subscribed,
            difficulty: self.difficulty.wanted(),
            pinned: self.difficulty.is_pinned(),
            minimum: self.difficulty.minimum(),
            segments: self.difficulty.segments().iter().copied().collect(),
            users: self.users.iter().map(|user| (user.name.clone(), user.id)).collect(),
        })
    }

    /// Goes on where another node left it: the miner notices nothing.
    pub(super) fn restore(&mut self, pool: &Pool, ticket: &Ticket, now: u64) {
        self.extranonce1 = self.extranonce1.or(Some(ticket.extranonce1));
        self.version_mask = ticket.version_mask.or(self.version_mask);
        self.subscribed = ticket.subscribed;
        self.extranonce_subscribed |= ticket.extranonce_subscribed;
        self.difficulty.restore(&pool.settings, ticket, now);
        self.users =
            ticket.users.iter().map(|(name, id)| User { name: name.clone(), id: *id }).collect();
    }

    /// A new connection of the same miner: it logs in again, but need not find its difficulty
    /// again. What it negotiated on this connection wins.
    pub(super) fn resume(&mut self, pool: &Pool, ticket: &Ticket) {
        let now = pool.clock.monotonic_millis();
        self.version_mask = self.version_mask.or(ticket.version_mask);
        if !self.difficulty.was_asked_for() {
            self.difficulty.restore(&pool.settings, ticket, now);
            self.difficulty.forget_sent();
        }
    }
}
