//! What nodes tell each other beside the ledger: jobs, and solved blocks.

use bytes::Bytes;
use seam_cluster::ledger::BlockFound;
use seam_stratum::job::Job;
use serde::{Deserialize, Serialize};

/// A job with the list of its transactions.
#[derive(Clone, Serialize, Deserialize)]
pub struct Package {
    /// The job.
    pub job: Job,
    /// The witness ids of its transactions, in the order of the block, without the coinbase.
    pub wtxids: Vec<[u8; 32]>,
}

/// A solved block, and what the ledger shall know of it: whoever gets it may have to tell, if its
/// finder dies.
#[derive(Clone, Serialize, Deserialize)]
pub struct SolvedBlock {
    /// What the ledger records.
    pub found: BlockFound,
    /// The whole block.
    #[serde(with = "raw")]
    pub block: Bytes,
}

impl Package {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// From its bytes, checked as far as it can be without the chain.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let package: Self = postcard::from_bytes(bytes).ok()?;
        (package.wtxids.len() <= MAX_TRANSACTIONS).then_some(package)
    }
}

impl SolvedBlock {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// From its bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

fn encode(value: &impl Serialize) -> Bytes {
    // Only types that have no serialisation fail, and these have.
    Bytes::from(postcard::to_stdvec(value).unwrap_or_default())
}

/// Bytes as one piece, not as a list of numbers.
mod raw {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

/// A block of nothing but the smallest transactions has fewer.
const MAX_TRANSACTIONS: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_package() {
        for bytes in [&b""[..], b"\0", &[0xff; 100], &[0; 300]] {
            assert!(Package::decode(bytes).is_none());
            assert!(SolvedBlock::decode(bytes).is_none());
        }
    }
}
