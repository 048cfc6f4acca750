//! What the cluster agreed on when it was formed, and the keys that all nodes share.

use serde::{Deserialize, Serialize};

use super::command::Secret;
use super::outcome::Refusal;

/// Ticket keys that are kept. A ticket lives as long as its session's connection and is renewed
/// when it changes, so that rotating faster than sessions do would lose some.
pub const MAX_TICKET_KEYS: usize = 3;

/// A key that tickets are sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKey {
    /// Numbers from 1 on; what is sealed names it.
    pub id: u32,
    /// The key.
    pub key: Secret,
    /// When it was made, in Unix seconds.
    pub time: u32,
}

/// Who the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    cluster: Option<[u8; 16]>,
    sid_key: Option<Secret>,
    ticket_keys: Vec<TicketKey>,
    next_ticket_key: u32,
}

impl Identity {
    /// The cluster's id, once it is formed.
    pub fn cluster(&self) -> Option<[u8; 16]> {
        self.cluster
    }

    /// The key of session ids' tags, once the cluster is formed.
    pub fn sid_key(&self) -> Option<Secret> {
        self.sid_key
    }

    /// The ticket keys, the newest last: seal with that one, open with any.
    pub fn ticket_keys(&self) -> &[TicketKey] {
        &self.ticket_keys
    }

    pub(super) fn form(
        &mut self,
        cluster: [u8; 16],
        sid_key: Secret,
        ticket_key: Secret,
        time: u32,
    ) -> Result<(), Refusal> {
        if self.cluster.is_some() {
            return Err(Refusal::AlreadyFormed);
        }
        self.cluster = Some(cluster);
        self.sid_key = Some(sid_key);
        self.rotate(ticket_key, time).map(drop)
    }

    pub(super) fn rotate(&mut self, key: Secret, time: u32) -> Result<u32, Refusal> {
        let id = self.next_ticket_key.checked_add(1).ok_or(Refusal::Exhausted)?;
        self.next_ticket_key = id;
        if self.ticket_keys.len() >= MAX_TICKET_KEYS {
            self.ticket_keys.remove(0);
        }
        self.ticket_keys.push(TicketKey { id, key, time });
        Ok(id)
    }
}
