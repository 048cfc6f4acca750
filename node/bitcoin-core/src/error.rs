//! Everything that can go wrong, by what the caller can do about it.

/// Why a call failed. Messages are Core's own words where it had any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A process can start one Core, once; see the crate's documentation.
    #[error("Bitcoin Core was started in this process before")]
    AlreadyStarted,
    /// An option, or a line of `bitcoin.conf`: the operator has to correct it.
    #[error("Bitcoin Core's options are wrong: {0}")]
    BadOption(String),
    /// Another process uses the data directory, or it cannot be written to.
    #[error("Bitcoin Core's data directory is not available: {0}")]
    DataDirectory(String),
    /// Core could not start for another reason: a corrupted database, a full disk, a port in use.
    #[error("Bitcoin Core did not start: {0}")]
    Start(String),
    /// Core was asked to stop, or stops by itself: during start, or while the call waited.
    #[error("Bitcoin Core is stopping")]
    Stopping,
    /// Core's rules refuse what it was given.
    #[error("Bitcoin Core refuses it: {0}")]
    Rejected(String),
    /// The bytes do not decode.
    #[error("the bytes are not a serialized {0}")]
    Malformed(&'static str),
    /// Core failed inside.
    #[error("Bitcoin Core failed: {0}")]
    Failed(String),
}
