//! Makes damaged inputs out of whole ones. Everything follows from the seed.

/// Numbers that lie where parsers change their mind.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

pub(crate) struct Mutator<'a> {
    state: u64,
    words: &'a [&'a [u8]],
    limit: usize,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, words: &'a [&'a [u8]], limit: usize) -> Self {
        Self { state: seed, words, limit }
    }

    /// An input made from some of the pool.
    pub(crate) fn make(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(pool).clone();
        for _ in 0..1 + self.below(4) {
            self.damage(&mut input, pool);
        }
        input.truncate(self.limit);
        input
    }

    fn damage(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let place = self.below(input.len() + 1);
        let end = (place + 1 + self.below(16)).min(input.len());
        match self.below(12) {
            0 | 1 if place < input.len() => input[place] ^= 1 << self.below(8),
            2 | 3 if place < input.len() => input[place] = self.next() as u8,
            4 => drop(input.drain(place.min(end)..end)),
            5 => input.truncate(place),
            6 => {
                let bytes: Vec<u8> = (0..1 + self.below(16)).map(|_| self.next() as u8).collect();
                self.insert(input, place, &bytes);
            }
            7 => {
                let number = NUMBERS[self.below(NUMBERS.len())].wrapping_sub(self.next() % 2);
                let bytes = match self.below(2) {
                    0 => number.to_le_bytes(),
                    _ => number.to_be_bytes(),
                };
                let width = [1, 2, 4, 8][self.below(4)];
                self.overwrite(input, place, &bytes[..width]);
            }
            8 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                match self.below(2) {
                    0 => self.insert(input, place, word),
                    _ => self.overwrite(input, place, word),
                }
            }
            9 => {
                // A piece again, often many times: depth and length.
                let piece = input[place.min(end)..end].to_vec();
                let times = 1 << self.below(12);
                let room = (self.limit.saturating_sub(input.len())) / piece.len().max(1);
                let pieces = piece.repeat(times.min(room));
                self.insert(input, place, &pieces);
            }
            10 => {
                // The beginning of this one and the end of another.
                let other = self.pick(pool).clone();
                let from = self.below(other.len() + 1);
                input.truncate(place);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_string();
                self.insert(input, place, number.as_bytes());
            }
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>, place: usize, bytes: &[u8]) {
        if input.len() + bytes.len() <= self.limit {
            input.splice(place..place, bytes.iter().copied());
        }
    }

    fn overwrite(&mut self, input: &mut [u8], place: usize, bytes: &[u8]) {
        for (old, new) in input[place..].iter_mut().zip(bytes) {
            *old = *new;
        }
    }

    fn pick<'p>(&mut self, pool: &'p [Vec<u8>]) -> &'p Vec<u8> {
        &pool[self.below(pool.len())]
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_follow_from_the_seed_and_stay_within_the_limit() {
        let pool = vec![b"mining.submit".to_vec(), vec![0; 100]];
        let make = |seed| {
            let mut mutator = Mutator::new(seed, &[b"word"], 120);
            (0..1_000).map(|_| mutator.make(&pool)).collect::<Vec<_>>()
        };
        let inputs = make(7);
        assert_eq!(inputs, make(7));
        assert_ne!(inputs, make(8));
        assert!(inputs.iter().all(|input| input.len() <= 120));
        let different: std::collections::HashSet<_> = inputs.iter().collect();
        assert!(different.len() > 900, "{}", different.len());
    }
}
