//! The ledger hash: equal on two nodes exactly when their states are.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Digest = [u8; 32];

/// The hash of a section's bytes.
pub(super) fn of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The canonical encoding of a part of the state.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a vector takes every part of the state")
}

/// Hashes the sections of a state, each named by its tag and taken in the order of the snapshot.
#[derive(Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    pub(super) fn section(&mut self, tag: u8, digest: Digest) {
        self.0.update([tag]);
        self.0.update(digest);
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}
