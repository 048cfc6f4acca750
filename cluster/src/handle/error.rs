//! What can go wrong, for the callers of `Cluster`.

use std::io;

use crate::handle::NodeId;
use crate::ledger::Refusal;
use crate::store::StoreError;
use crate::tls::TlsError;

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name of the configuration is not that of the certificate or of the disk.
    #[error("this is configured as {config:?}, but its certificate or disk says {certificate:?}")]
    Name {
        /// The configured name.
        config: String,
        /// The other one.
        certificate: String,
    },
    /// The certificate is not a node's.
    #[error(
        "the certificate of {name:?} is a proxy's: a node's has the DNS name {}",
        crate::tls::NODE_ROLE
    )]
    Role {
        /// Whose it is.
        name: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files about blocks.
    #[error(transparent)]
    Files(#[from] crate::durable::DurableError),
    /// The password hash.
    #[error(transparent)]
    Passwords(#[from] crate::password::PasswordError),
    /// The cluster port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Raft, most often because the store is damaged.
    #[error("the ledger cannot be opened: {0}")]
    Ledger(String),
}

/// Too many shares wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many shares wait for the ledger")]
pub struct Full;

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The ledger refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No quorum confirmed it in time. It may still be made.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a miner may not log in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// No such user, or one without a password.
    #[error("there is no such user")]
    UnknownUser,
    /// Wrong password.
    #[error("wrong password")]
    WrongPassword,
    /// Barred by an operator.
    #[error("the user is disabled")]
    Disabled,
    /// Too many passwords wait to be checked: try again.
    #[error("too many logins at once")]
    Busy,
    /// It could not be found out whether there is such a user.
    #[error("{0}")]
    Unavailable(String),
}

/// Why transactions could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No member has this id.
    #[error("no member has the Raft id {0}")]
    UnknownNode(NodeId),
    /// No answer, or a bad one.
    #[error("{0}")]
    Failed(String),
}

/// Why the membership or the leadership is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It must not be done.
    #[error("{0}")]
    Refused(String),
    /// It could not be done in time.
    #[error("{0}")]
    Unavailable(String),
    /// This node's ledger has failed.
    #[error("{0}")]
    Failed(String),
}
