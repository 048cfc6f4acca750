//! Request ids: any JSON, echoed exactly.

use std::fmt;

/// The longest id that is echoed, in bytes. Pending requests keep their ids.
const MAX_ID: usize = 512;

/// The JSON text of an id, borrowed from its line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id<'a>(&'a str);

impl<'a> Id<'a> {
    /// The id of notifications, and of requests that have none.
    pub const NULL: Id<'static> = Id("null");

    /// Takes text that is already known to be one JSON value; `None` if it is too long to keep.
    pub(crate) fn from_json(json: &'a str) -> Option<Self> {
        (json.len() <= MAX_ID).then_some(Self(json))
    }

    /// The JSON text.
    pub fn as_json(&self) -> &'a str {
        self.0
    }

    /// The number, where it is one of ours: a non-negative integer.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// Whether nobody waits for an answer.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }
}

impl fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Bytes of an id that are kept without allocation: any 64-bit number fits.
const INLINE: usize = 22;

/// An id that outlives its line. Up to 22 bytes, and so every integer, it takes no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdBuf(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<str>),
}

impl IdBuf {
    /// Borrows it again.
    pub fn as_id(&self) -> Id<'_> {
        match &self.0 {
            Repr::Inline { len, bytes } => {
                // Only ever filled from text.
                Id(std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or("null"))
            }
            Repr::Heap(text) => Id(text),
        }
    }

    fn copy(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..text.len()) {
            Some(prefix) => {
                prefix.copy_from_slice(text.as_bytes());
                Self(Repr::Inline { len: text.len() as u8, bytes })
            }
            None => Self(Repr::Heap(text.into())),
        }
    }
}

impl From<Id<'_>> for IdBuf {
    fn from(id: Id<'_>) -> Self {
        Self::copy(id.0)
    }
}

impl fmt::Debug for IdBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_id().fmt(f)
    }
}
