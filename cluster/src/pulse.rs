//! What a member says about itself once a second: to its peers, and to the proxies that are linked to it.
//!
//! For people only: nothing is decided by it. So it may be old or missing, and members of different
//! versions may know different fields; it travels as JSON.

use serde::{Deserialize, Serialize};

/// How often it is sent, in seconds.
pub const EVERY_SECONDS: u64 = 1;

/// Older than this, in seconds, it says nothing about now any more.
pub const LIFETIME_SECONDS: f64 = 5.0;

/// The most bytes that are taken from another process.
pub const MAX_BYTES: usize = 4096;

/// A member in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pulse {
    /// Takes sessions.
    pub ready: bool,
    /// The conditions that do not hold, by their names in `seam_ready_condition`.
    pub not_ready: Vec<String>,
    /// Hands its sessions over.
    pub draining: bool,
    /// Sessions that it serves.
    pub sessions: u64,
    /// Expected hashes a second that it credited over the last minute.
    pub hashrate: f64,
    /// Height of its chain's tip, once its Bitcoin Core runs.
    pub height: Option<u32>,
    /// Hash of the tip, as people read it.
    pub tip: Option<String>,
    /// Name of the leader that it follows, or its own.
    pub leader: Option<String>,
    /// The leader has a quorum, as far as it knows.
    pub quorum: bool,
    /// Any one voter may stop, as far as it knows.
    pub can_lose_one: bool,
}

impl Pulse {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Only maps with other keys than text and floats that are no numbers fail, and the second becomes null.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From its bytes, if they are one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulse_comes_through_whole() {
        let pulse = Pulse {
            ready: true,
            not_ready: vec!["chain".into()],
            draining: true,
            sessions: 7,
            hashrate: 1.5e15,
            height: Some(9),
            tip: Some("00ab".into()),
            leader: Some("node-1".into()),
            quorum: true,
            can_lose_one: true,
        };
        assert_eq!(Pulse::decode(&pulse.encode()), Some(pulse));
    }

    #[test]
    fn pulse_of_another_version_is_read_as_far_as_it_is_known() {
        let read = Pulse::decode(br#"{"sessions": 3, "colour": "blue"}"#).unwrap();
        assert_eq!(read, Pulse { sessions: 3, ..Pulse::default() });
        for nonsense in [&b""[..], b"[]]", b"{\"sessions\": -1}", &[b' '; MAX_BYTES + 1]] {
            assert_eq!(Pulse::decode(nonsense), None);
        }
    }
}
