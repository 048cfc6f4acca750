//! The two numbers of a submit that the pool or the miner counts up: job id and nonce2.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digits;

/// A job id: the lease a node started with, and a counter within it. Unique in the cluster
/// because leases never repeat.
///
/// It travels as a hexadecimal number without leading zeros (some miners read it as a number and
/// send it back as one); reading takes any case and leading zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl JobId {
    /// Bits of the counter.
    pub const COUNTER_BITS: u32 = 24;

    /// The id of the `counter`-th job of `lease`; `None` once the counter is used up and the
    /// node needs another lease.
    pub fn new(lease: u32, counter: u32) -> Option<Self> {
        (counter >> Self::COUNTER_BITS == 0)
            .then_some(Self((u64::from(lease) << Self::COUNTER_BITS) | u64::from(counter)))
    }

    /// The lease of the node that made the job.
    pub fn lease(self) -> u32 {
        (self.0 >> Self::COUNTER_BITS) as u32
    }

    /// The number of the job within its lease.
    pub fn counter(self) -> u32 {
        (self.0 & ((1 << Self::COUNTER_BITS) - 1)) as u32
    }

    /// Reads a hexadecimal number; `None` for anything that cannot be an id of ours.
    pub fn parse(text: &str) -> Option<Self> {
        digits::number_u64(text).map(Self)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes a miner puts behind extranonce1: at most eight, in the order they stand in the
/// coinbase.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Nonce2Wire", into = "Nonce2Wire")]
pub struct Nonce2 {
    len: u8,
    bytes: [u8; 8],
}

impl Nonce2 {
    /// The most bytes it can have.
    pub const MAX_LEN: usize = 8;

    /// From bytes; `None` for more than eight.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut nonce2 = Self { len: u8::try_from(bytes.len()).ok()?, bytes: [0; 8] };
        nonce2.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(nonce2)
    }

    /// The low `len` (at most 8) bytes of a counter, most significant first.
    pub fn from_counter(counter: u64, len: u8) -> Self {
        let len = len.min(Self::MAX_LEN as u8);
        let mut nonce2 = Self { len, bytes: [0; 8] };
        let from = Self::MAX_LEN - usize::from(len);
        nonce2.bytes[..usize::from(len)].copy_from_slice(&counter.to_be_bytes()[from..]);
        nonce2
    }

    /// Reads hexadecimal digits; `None` for an odd number, more than sixteen, or other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut nonce2 = Self { len: u8::try_from(text.len() / 2).ok()?, bytes: [0; 8] };
        let bytes = nonce2.bytes.get_mut(..text.len() / 2)?;
        digits::bytes(text, bytes)?;
        Some(nonce2)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The number of bytes.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Display for Nonce2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Nonce2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Serialize, Deserialize)]
struct Nonce2Wire(u8, [u8; 8]);

impl TryFrom<Nonce2Wire> for Nonce2 {
    type Error = &'static str;

    fn try_from(Nonce2Wire(len, bytes): Nonce2Wire) -> Result<Self, Self::Error> {
        // Bytes behind the length are zero, so that equal values are equal.
        let (_, rest) = bytes.split_at_checked(usize::from(len)).ok_or("nonce2 too long")?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err("nonce2 with bytes behind its end");
        }
        Ok(Self { len, bytes })
    }
}

impl From<Nonce2> for Nonce2Wire {
    fn from(nonce2: Nonce2) -> Self {
        Self(nonce2.len, nonce2.bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn job_id_reads_back_as_numeric_parsers_write_it() {
        let id = JobId::new(0xab, 0xcdef).unwrap();
        assert_eq!(id.to_string(), "ab00cdef");
        for text in ["ab00cdef", "AB00CDEF", "00000000ab00cdef", "0000000000000000000ab00cdef"] {
            assert_eq!(JobId::parse(text), Some(id));
        }
        assert_eq!((id.lease(), id.counter()), (0xab, 0xcdef));
        assert_eq!(JobId::new(1, 1 << 24), None);
        for text in ["", "x", "-1", "+1", "10000000000000000", " 1"] {
            assert_eq!(JobId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn nonce2_counter_is_big_endian() {
        assert_eq!(Nonce2::from_counter(0x0102_0304_0506, 4).to_string(), "03040506");
        assert_eq!(Nonce2::from_counter(1, 8).to_string(), "0000000000000001");
    }

    proptest! {
        #[test]
        fn nonce2_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..=8)) {
            let nonce2 = Nonce2::new(&bytes).unwrap();
            prop_assert_eq!(Nonce2::parse(&nonce2.to_string()), Some(nonce2));
            prop_assert_eq!(nonce2.as_bytes(), &bytes[..]);
            let wire = postcard::to_stdvec(&nonce2).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Nonce2>(&wire).unwrap(), nonce2);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = JobId::parse(&text);
            if let Some(nonce2) = Nonce2::parse(&text) {
                prop_assert_eq!(nonce2.to_string(), text.to_lowercase());
            }
        }

        #[test]
        fn job_id_round_trips(id: u64) {
            prop_assert_eq!(JobId::parse(&JobId(id).to_string()), Some(JobId(id)));
        }
    }
}
