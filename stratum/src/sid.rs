//! Session ids: an extranonce1 with a tag that proves the cluster gave it out.

use core::fmt;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The bytes of the tag within a sid.
const TAG_LEN: usize = 8;

/// The prefix of what the tag authenticates, so that the key means nothing elsewhere.
const DOMAIN: &[u8] = b"seam sid 1";

/// The four bytes the pool puts into the coinbase of every job of one session, unique in the
/// cluster. Written, and placed in the coinbase, most significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extranonce1(pub u32);

impl Extranonce1 {
    /// The bytes it takes in a coinbase.
    pub const LEN: usize = 4;

    /// The bytes as they go into the coinbase.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.to_be_bytes()
    }

    /// Reads exactly eight hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(u32::from_be_bytes(bytes)))
    }
}

impl fmt::Display for Extranonce1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Extranonce1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The cluster's key for the tags of sids. It does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidKey(pub [u8; 32]);

impl fmt::Debug for SidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SidKey(..)")
    }
}

/// A session id: the eight digits of the extranonce1 and the sixteen of its tag, an HMAC-SHA256
/// truncated to 64 bits. What `mining.subscribe` answers as subscription id, and what a miner
/// sends back to resume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sid {
    extranonce1: Extranonce1,
    tag: [u8; TAG_LEN],
}

impl Sid {
    /// The length of a sid as text.
    pub const TEXT_LEN: usize = 2 * (Extranonce1::LEN + TAG_LEN);

    /// The sid of `extranonce1` under `key`. Always the same for the same two.
    pub fn mint(key: &SidKey, extranonce1: Extranonce1) -> Self {
        Self { extranonce1, tag: tag(key, extranonce1) }
    }

    /// The extranonce1 of a sid whose tag is right under `key`; `None` for any other text. The
    /// tag is compared in constant time.
    pub fn verify(key: &SidKey, text: &str) -> Option<Extranonce1> {
        let sid = Self::parse(text)?;
        let expected = tag(key, sid.extranonce1);
        bool::from(expected.ct_eq(&sid.tag)).then_some(sid.extranonce1)
    }

    /// Reads the form of a sid without checking its tag. For routing only: what a client may
    /// take over is decided by [`Sid::verify`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Extranonce1::LEN + TAG_LEN];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let (mut head, mut tag) = ([0; Extranonce1::LEN], [0; TAG_LEN]);
        head.copy_from_slice(&bytes[..Extranonce1::LEN]);
        tag.copy_from_slice(&bytes[Extranonce1::LEN..]);
        Some(Self { extranonce1: Extranonce1(u32::from_be_bytes(head)), tag })
    }

    /// The extranonce1 it carries.
    pub fn extranonce1(&self) -> Extranonce1 {
        self.extranonce1
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:016x}", self.extranonce1, u64::from_be_bytes(self.tag))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tag lets its holder take the session over: it stays out of logs.
        write!(f, "{}…", self.extranonce1)
    }
}

fn tag(key: &SidKey, extranonce1: Extranonce1) -> [u8; TAG_LEN] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key.0)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(DOMAIN);
    mac.update(&extranonce1.to_bytes());
    let full = mac.finalize().into_bytes();
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&full[..TAG_LEN]);
    tag
}
