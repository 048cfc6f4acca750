//! What reaches a session from elsewhere, and how it finds its way there.

use std::sync::Arc;

use seam_cluster::ledger::{ShareOutcome, UserId};
use seam_cluster::{Completion, Unavailable};

/// Something that a session waits for has happened.
#[derive(Debug)]
pub enum Event {
    /// The ledger judged a share.
    Share(Result<ShareOutcome, Unavailable>),
    /// Bitcoin Core judged the block that a share solved.
    Block(BlockFate),
    /// A login was checked.
    Login(LoginResult),
    /// `mining.add_user` was carried out, or why not.
    UserAdded(Result<(), String>),
    /// Another connection came with this session's sid.
    TakenOver,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// As this user.
    Accepted(UserId),
    /// Unknown or disabled user, or a wrong password.
    Refused,
    /// Nobody could be asked.
    Unavailable,
}

/// What Bitcoin Core made of a solved block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockFate {
    /// It is the new tip.
    Accepted,
    /// It is valid, but not on the best chain.
    Stale,
    /// It was there already.
    Known,
    /// It is not valid; Core's reason.
    Rejected(String),
    /// Core could not be asked.
    Unknown,
}

impl BlockFate {
    /// As the miner is told.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Accepted => "accepted",
            Self::Stale => "stale",
            Self::Known => "known",
            Self::Rejected(_) => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

/// Where events of sessions go; the owner hands them to [`Session::event`](super::Session::event).
pub trait Inbox: Completion {
    /// Must not wait.
    fn post(&self, token: u64, event: Event);
}

/// The right to post one event. If it is dropped unused, the session is told that nobody knows.
pub struct Reply {
    inbox: Option<Arc<dyn Inbox>>,
    token: u64,
    lost: fn() -> Event,
}

impl Reply {
    pub(super) fn new(inbox: Arc<dyn Inbox>, token: u64) -> Self {
        Self { inbox: Some(inbox), token, lost: || Event::Block(BlockFate::Unknown) }
    }

    pub(super) fn or_lost(mut self, lost: fn() -> Event) -> Self {
        self.lost = lost;
        self
    }

    /// Posts it.
    pub fn send(mut self, event: Event) {
        if let Some(inbox) = self.inbox.take() {
            inbox.post(self.token, event);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            inbox.post(self.token, (self.lost)());
        }
    }
}
