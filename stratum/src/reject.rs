//! Why something was refused, with the code and words miners know from bcoin-stratum.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A refusal, answered as `[code, "message", null]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reject {
    /// Code 20: anything without a code of its own, in words.
    Other(Cow<'static, str>),
    /// Code 21: the job is unknown, or too old to be remembered.
    JobNotFound,
    /// Code 21: the job's previous block is not the tip any more.
    Stale,
    /// Code 22: this header was submitted before.
    Duplicate,
    /// Code 23: the hash does not meet the difficulty its job was sent with.
    HighHash,
    /// Code 24: the user is not authorized on this session.
    Unauthorized,
    /// Code 25: no `mining.subscribe` came before.
    NotSubscribed,
}

impl Reject {
    /// The parameters cannot be read.
    pub const INVALID_PARAMS: Self = Self::Other(Cow::Borrowed("invalid params"));
    /// The line is no JSON-RPC message.
    pub const INVALID_MESSAGE: Self = Self::Other(Cow::Borrowed("invalid message"));
    /// The method is unknown.
    pub const UNKNOWN_METHOD: Self = Self::Other(Cow::Borrowed("unknown method"));
    /// ntime is before the earliest the chain allows.
    pub const TIME_TOO_OLD: Self = Self::Other(Cow::Borrowed("time too old"));
    /// ntime is too far in the future.
    pub const TIME_TOO_NEW: Self = Self::Other(Cow::Borrowed("time too new"));
    /// nonce2 does not have the length the session was given.
    pub const NONCE2_LENGTH: Self = Self::Other(Cow::Borrowed("invalid nonce2 length"));
    /// Version bits outside the negotiated mask.
    pub const VERSION_BITS: Self = Self::Other(Cow::Borrowed("version bits outside mask"));

    /// Code 20 with a text of the moment's.
    pub fn other(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Other(message.into())
    }

    /// The numeric code: 20 to 25.
    pub fn code(&self) -> u8 {
        match self {
            Self::Other(_) => 20,
            Self::JobNotFound | Self::Stale => 21,
            Self::Duplicate => 22,
            Self::HighHash => 23,
            Self::Unauthorized => 24,
            Self::NotSubscribed => 25,
        }
    }

    /// The words.
    pub fn message(&self) -> &str {
        match self {
            Self::Other(message) => message,
            Self::JobNotFound => "job not found",
            Self::Stale => "stale-work",
            Self::Duplicate => "duplicate",
            Self::HighHash => "high-hash",
            Self::Unauthorized => "unauthorized user",
            Self::NotSubscribed => "not subscribed",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message(), self.code())
    }
}

impl std::error::Error for Reject {}
