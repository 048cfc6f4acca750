//! Sealed session state: what a proxy keeps for a session and can neither read nor change.
//!
//! ```text
//! version u8 = 1 · key id u32 LE · nonce 24 · XChaCha20-Poly1305(payload)
//! ```
//!
//! Version, key id and the cluster's id are authenticated with the payload, so that a ticket of
//! another cluster does not open even where keys were copied. Nonces are random; 192 bits of them
//! make a repeat under one key impossible in practice. What the payload holds is the node's
//! business.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::ledger::{Identity, TicketKey};

/// Bytes of a payload at most.
pub const MAX_PAYLOAD: usize = 8 * 1024;

/// Bytes that sealing adds.
pub const OVERHEAD: usize = HEADER + NONCE + 16;

const VERSION: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 24;

/// Why a ticket was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The cluster is not formed, so there is no key.
    #[error("there is no ticket key: the cluster is not formed yet")]
    NoKey,
    /// More than [`MAX_PAYLOAD`].
    #[error("a ticket holds at most {MAX_PAYLOAD} bytes, this session has {0}")]
    TooLarge(usize),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandomness,
    /// Not a ticket, or cut off, or changed, or of another cluster.
    #[error("this is not a ticket of this cluster")]
    Forged,
    /// A newer build sealed it.
    #[error("ticket of version {0}, this build knows {VERSION}: update this node's build")]
    NewerVersion(u8),
    /// Its key was retired, or has not arrived here yet.
    #[error("the ticket's key {0} is retired or has not reached this node yet")]
    UnknownKey(u32),
}

/// The keys of a cluster. Make a new one when [`Identity::ticket_keys`] changes.
#[derive(Clone)]
pub struct Tickets {
    cluster: [u8; 16],
    /// The newest last.
    keys: Vec<(u32, XChaCha20Poly1305)>,
}

impl Tickets {
    /// Takes the keys from the ledger.
    pub fn new(identity: &Identity) -> Self {
        Self::with_keys(identity.cluster().unwrap_or_default(), identity.ticket_keys())
    }

    fn with_keys(cluster: [u8; 16], keys: &[TicketKey]) -> Self {
        let cipher = |key: &TicketKey| XChaCha20Poly1305::new(&key.key.0.into());
        Self { cluster, keys: keys.iter().map(|key| (key.id, cipher(key))).collect() }
    }

    /// The key that tickets are sealed with now; a ticket with another is due to be sealed again.
    pub fn newest(&self) -> Option<u32> {
        self.keys.last().map(|(id, _)| *id)
    }

    /// Seals a session's state with the newest key.
    ///
    /// # Errors
    ///
    /// When there is no key, or the payload is too large.
    pub fn seal(&self, payload: &[u8]) -> Result<Vec<u8>, TicketError> {
        let (id, cipher) = self.keys.last().ok_or(TicketError::NoKey)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(TicketError::TooLarge(payload.len()));
        }
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| TicketError::NoRandomness)?;
        let aad = self.aad(*id);
        let sealed = cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: payload, aad: &aad })
            .map_err(|_| TicketError::TooLarge(payload.len()))?;
        let mut ticket = Vec::with_capacity(HEADER + NONCE + sealed.len());
        ticket.extend_from_slice(&aad[..HEADER]);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        Ok(ticket)
    }

    /// Opens a ticket with whichever key it names.
    ///
    /// # Errors
    ///
    /// When it is not one of this cluster, or its key is not here.
    pub fn open(&self, ticket: &[u8]) -> Result<Vec<u8>, TicketError> {
        if ticket.len() > MAX_PAYLOAD + OVERHEAD {
            return Err(TicketError::Forged);
        }
        let (&version, rest) = ticket.split_first().ok_or(TicketError::Forged)?;
        if version != VERSION {
            let newer = version > VERSION;
            return Err(if newer {
                TicketError::NewerVersion(version)
            } else {
                TicketError::Forged
            });
        }
        let (id, rest) = rest.split_first_chunk().ok_or(TicketError::Forged)?;
        let id = u32::from_le_bytes(*id);
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(TicketError::Forged)?;
        let key = self.keys.iter().find(|(key, _)| *key == id);
        let (_, cipher) = key.ok_or(TicketError::UnknownKey(id))?;
        cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &self.aad(id) })
            .map_err(|_| TicketError::Forged)
    }

    fn aad(&self, id: u32) -> [u8; HEADER + 16] {
        let mut aad = [0; HEADER + 16];
        aad[0] = VERSION;
        aad[1..HEADER].copy_from_slice(&id.to_le_bytes());
        aad[HEADER..].copy_from_slice(&self.cluster);
        aad
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("newest", &self.newest()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Secret;

    fn key(id: u32) -> TicketKey {
        TicketKey { id, key: Secret([id as u8; 32]), time: 0 }
    }

    #[test]
    fn sealed_state_opens_on_every_node_of_the_cluster() {
        let one = Tickets::with_keys([1; 16], &[key(1), key(2)]);
        let other = Tickets::with_keys([1; 16], &[key(2), key(3)]);
        let ticket = one.seal(b"state").unwrap();
        assert_eq!(ticket.len(), 5 + OVERHEAD);
        assert_eq!(other.open(&ticket).unwrap(), b"state");
    }

    #[test]
    fn retired_key_opens_nothing() {
        let ticket = Tickets::with_keys([1; 16], &[key(1)]).seal(b"state").unwrap();
        let later = Tickets::with_keys([1; 16], &[key(2), key(3)]);
        assert_eq!(later.open(&ticket), Err(TicketError::UnknownKey(1)));
    }

    #[test]
    fn ticket_of_another_cluster_does_not_open_even_with_the_same_key() {
        let ticket = Tickets::with_keys([1; 16], &[key(1)]).seal(b"state").unwrap();
        let other = Tickets::with_keys([2; 16], &[key(1)]);
        assert_eq!(other.open(&ticket), Err(TicketError::Forged));
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_refused() {
        let tickets = Tickets::with_keys([1; 16], &[key(1)]);
        let ticket = tickets.seal(b"state").unwrap();
        for position in 0..ticket.len() {
            let mut bad = ticket.clone();
            bad[position] ^= 0x40;
            assert!(tickets.open(&bad).is_err());
            assert!(tickets.open(&ticket[..position]).is_err());
        }
    }

    #[test]
    fn payload_is_bounded() {
        let tickets = Tickets::with_keys([1; 16], &[key(1)]);
        assert!(tickets.seal(&[0; MAX_PAYLOAD]).is_ok());
        let error = tickets.seal(&[0; MAX_PAYLOAD + 1]).unwrap_err();
        assert_eq!(error, TicketError::TooLarge(MAX_PAYLOAD + 1));
        assert_eq!(Tickets::with_keys([0; 16], &[]).seal(b""), Err(TicketError::NoKey));
    }
}
