//! What the other nodes said last about themselves.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use seam_cluster::NodeId;
use seam_cluster::pulse::Pulse;

/// The newest pulse of each, and when it came (monotonic milliseconds).
#[derive(Default)]
pub struct Pulses {
    known: Mutex<BTreeMap<NodeId, (Pulse, u64)>>,
}

impl Pulses {
    /// One came.
    pub fn heard(&self, from: NodeId, pulse: Pulse, now: u64) {
        let mut known = self.known.lock();
        known.insert(from, (pulse, now));
        // Those who left are forgotten first: a member that lives is heard every second.
        while known.len() > MAX_KNOWN {
            let oldest = known.iter().min_by_key(|(_, (_, at))| *at).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            known.remove(&oldest);
        }
    }

    /// The newest of a member, and its age in seconds.
    #[must_use]
    pub fn of(&self, id: NodeId, now: u64) -> Option<(Pulse, f64)> {
        let known = self.known.lock();
        let (pulse, at) = known.get(&id)?;
        Some((pulse.clone(), now.saturating_sub(*at) as f64 / 1_000.0))
    }
}

/// More members than any cluster has.
const MAX_KNOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_word_of_each_is_kept_and_the_oldest_is_forgotten() {
        let pulses = Pulses::default();
        let sessions = |sessions| Pulse { sessions, ..Pulse::default() };
        for id in 0..=MAX_KNOWN as u64 {
            pulses.heard(id, sessions(1), id);
        }
        assert_eq!(pulses.of(0, 100), None);
        pulses.heard(1, sessions(2), 1_000);
        assert_eq!(pulses.of(1, 2_500), Some((sessions(2), 1.5)));
    }
}
