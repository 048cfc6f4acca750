//! Work: from a notify to headers and hashes, for any server's extranonce.

use crate::job::header_bytes;
use crate::merkle;
use crate::sha256::{self, Engine};

use super::Notify;

/// A notify with its coinbase half hashed, good for any number of nonce2 values.
#[derive(Clone)]
pub struct Work {
    /// Job id, as the server wrote it.
    pub job_id: String,
    /// Header version before rolling.
    pub version: u32,
    /// Compact network target.
    pub nbits: u32,
    /// Seconds since 1970, as notified.
    pub ntime: u32,
    prev_hash: [u8; 32],
    prefix: Engine,
    coinbase2: Vec<u8>,
    merkle_branch: Vec<[u8; 32]>,
}

impl Work {
    /// Takes a notify over.
    pub fn new(notify: Notify<'_>) -> Self {
        let mut prefix = Engine::new();
        prefix.update(&notify.coinbase1);
        Self {
            job_id: notify.job_id.into_owned(),
            version: notify.version,
            nbits: notify.nbits,
            ntime: notify.ntime,
            prev_hash: notify.prev_hash,
            prefix,
            coinbase2: notify.coinbase2,
            merkle_branch: notify.merkle_branch,
        }
    }

    /// The merkle root for a session's extranonce1 and a nonce2, of whatever lengths.
    pub fn merkle_root(&self, extranonce1: &[u8], nonce2: &[u8]) -> [u8; 32] {
        let mut engine = self.prefix.clone();
        engine.update(extranonce1);
        engine.update(nonce2);
        engine.update(&self.coinbase2);
        merkle::root(engine.finish_double(), &self.merkle_branch)
    }

    /// A header to search nonces in.
    pub fn header(
        &self,
        extranonce1: &[u8],
        nonce2: &[u8],
        version_bits: u32,
        ntime: u32,
    ) -> HeaderHasher {
        let root = self.merkle_root(extranonce1, nonce2);
        HeaderHasher::new(&header_bytes(
            self.version | version_bits,
            &self.prev_hash,
            &root,
            ntime,
            self.nbits,
            0,
        ))
    }
}

/// A header with its first 64 bytes hashed: each nonce takes two SHA-256 rounds.
#[derive(Clone)]
pub struct HeaderHasher {
    midstate: [u32; 8],
    tail: [u8; 16],
}

impl HeaderHasher {
    /// From any header; its nonce does not matter.
    pub fn new(header: &[u8; 80]) -> Self {
        let mut tail = [0; 16];
        tail.copy_from_slice(&header[64..]);
        Self { midstate: sha256::header_midstate(header), tail }
    }

    /// The block hash with `nonce`, in the order SHA-256 gives it.
    pub fn hash(&mut self, nonce: u32) -> [u8; 32] {
        self.tail[12..].copy_from_slice(&nonce.to_le_bytes());
        sha256::header_hash_from(&self.midstate, &self.tail)
    }
}
