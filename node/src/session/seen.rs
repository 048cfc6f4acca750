//! Which shares this connection sent for the current tip. The ledger has the last word.

/// A bounded memory of header hashes; the oldest is forgotten first.
#[derive(Default)]
pub(super) struct Seen {
    hashes: Vec<u64>,
    next: u16,
}

impl Seen {
    /// Remembers a hash; false if it was there.
    pub(super) fn insert(&mut self, hash: &[u8; 32]) -> bool {
        let key = key(hash);
        if self.hashes.contains(&key) {
            return false;
        }
        if self.hashes.len() < MAX_SEEN {
            self.hashes.push(key);
        } else {
            self.hashes[usize::from(self.next)] = key;
            self.next = (self.next + 1) % MAX_SEEN as u16;
        }
        true
    }

    /// Forgets one that came to nothing: the miner may send it again.
    pub(super) fn remove(&mut self, key: u64) {
        if let Some(place) = self.hashes.iter().position(|seen| *seen == key) {
            // Its place is not reused before its turn; a zero hash is no share's.
            self.hashes[place] = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        // A new tip comes every ten minutes: memory that nobody uses until then is given back.
        *self = Self::default();
    }

    pub(super) fn memory(&self) -> usize {
        self.hashes.capacity() * size_of::<u64>()
    }
}

/// The random end of a hash.
pub(super) fn key(hash: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// Vardiff aims at 60 shares between two blocks; 256 leave room for luck, in 2 kB.
const MAX_SEEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    #[test]
    fn a_repeat_is_seen_until_forgotten() {
        let mut seen = Seen::default();
        assert!(seen.insert(&hash(1)));
        assert!(!seen.insert(&hash(1)));
        seen.remove(key(&hash(1)));
        assert!(seen.insert(&hash(1)));
        seen.clear();
        assert!(seen.insert(&hash(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Seen::default();
        for number in 1..10_000 {
            assert!(seen.insert(&hash(number)));
        }
        assert!(!seen.insert(&hash(9_999)) && seen.insert(&hash(1)));
        assert!(seen.memory() <= MAX_SEEN * 8);
    }
}
