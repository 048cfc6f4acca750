//! Double SHA-256 from its compression function, with resumable midstates.

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;
use sha2::digest::typenum::U64;

type Block = GenericArray<u8, U64>;

const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A SHA-256 state after any number of bytes.
#[derive(Clone)]
pub(crate) struct Engine {
    state: [u32; 8],
    tail: [u8; 64],
    length: u64,
}

impl Engine {
    pub(crate) fn new() -> Self {
        Self { state: INITIAL, tail: [0; 64], length: 0 }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let used = (self.length % 64) as usize;
        self.length += bytes.len() as u64;
        if used > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(64 - used));
            self.tail[used..used + head.len()].copy_from_slice(head);
            if used + head.len() < 64 {
                return;
            }
            compress(&mut self.state, &self.tail);
            bytes = rest;
        }
        let mut blocks = bytes.chunks_exact(64);
        for block in &mut blocks {
            compress256(&mut self.state, core::slice::from_ref(Block::from_slice(block)));
        }
        let rest = blocks.remainder();
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    /// The double SHA-256 of everything put in.
    pub(crate) fn finish_double(mut self) -> [u8; 32] {
        let used = (self.length % 64) as usize;
        self.tail[used] = 0x80;
        if used >= 56 {
            self.tail[used + 1..].fill(0);
            compress(&mut self.state, &self.tail);
            self.tail.fill(0);
        } else {
            self.tail[used + 1..56].fill(0);
        }
        self.tail[56..].copy_from_slice(&(self.length * 8).to_be_bytes());
        compress(&mut self.state, &self.tail);
        rehash(&self.state)
    }
}

/// The double SHA-256 of 64 bytes: an inner node of a merkle tree.
pub(crate) fn double_64(bytes: &[u8; 64]) -> [u8; 32] {
    const PADDING: [u8; 64] = {
        let mut block = [0; 64];
        block[0] = 0x80;
        block[62] = 0x02; // 512 bits
        block
    };
    let mut state = INITIAL;
    compress256(&mut state, &[Block::from(*bytes), Block::from(PADDING)]);
    rehash(&state)
}

/// The state after the first 64 bytes of a header.
pub(crate) fn header_midstate(header: &[u8; 80]) -> [u32; 8] {
    let mut state = INITIAL;
    compress256(&mut state, core::slice::from_ref(Block::from_slice(&header[..64])));
    state
}

/// The double SHA-256 of a header from its midstate and its last 16 bytes.
pub(crate) fn header_hash_from(midstate: &[u32; 8], tail: &[u8; 16]) -> [u8; 32] {
    let mut state = *midstate;
    compress(&mut state, &header_tail(tail));
    rehash(&state)
}

/// The second block of a header, padded.
fn header_tail(tail: &[u8; 16]) -> [u8; 64] {
    let mut block = [0; 64];
    block[..16].copy_from_slice(tail);
    block[16] = 0x80;
    block[62..].copy_from_slice(&640u16.to_be_bytes());
    block
}

/// The double SHA-256 of a block header.
pub(crate) fn header_hash(header: &[u8; 80]) -> [u8; 32] {
    let mut tail = [0; 16];
    tail.copy_from_slice(&header[64..]);
    let mut state = INITIAL;
    let head = Block::clone_from_slice(&header[..64]);
    compress256(&mut state, &[head, Block::from(header_tail(&tail))]);
    rehash(&state)
}

fn compress(state: &mut [u32; 8], block: &[u8; 64]) {
    let block: &Block = block.into();
    compress256(state, core::slice::from_ref(block));
}

/// The second round: SHA-256 of a 32-byte digest given as state.
fn rehash(first: &[u32; 8]) -> [u8; 32] {
    let mut block = [0; 64];
    for (bytes, word) in block.chunks_exact_mut(4).zip(first) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    block[32] = 0x80;
    block[62] = 0x01; // 256 bits
    let mut state = INITIAL;
    compress(&mut state, &block);
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn reference(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(Sha256::digest(bytes)).into()
    }

    proptest! {
        #[test]
        fn any_split_hashes_like_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut engine = Engine::new();
            let mut from = 0;
            for cut in cuts {
                engine.update(&bytes[from..cut]);
                from = cut;
            }
            engine.update(&bytes[from..]);
            prop_assert_eq!(engine.finish_double(), reference(&bytes));
        }

        #[test]
        fn fixed_sizes_hash_like_the_general_case(bytes: [[u8; 16]; 5]) {
            let header: [u8; 80] = bytes.concat().try_into().unwrap();
            prop_assert_eq!(header_hash(&header), reference(&header));
            let node: [u8; 64] = header[..64].try_into().unwrap();
            prop_assert_eq!(double_64(&node), reference(&node));
        }
    }
}
