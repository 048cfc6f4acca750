//! What can be asked of the ledger, and how a command is encoded in the log.

use std::fmt;

use bitcoin::{BlockHash, Txid};
use serde::{Deserialize, Serialize};

use super::outcome::Refusal;
use super::users::{UserId, Verifier};

/// The newest format of commands and snapshots that this build reads and writes.
///
/// It is the first byte of every encoded command and a field of every snapshot. A build reads all
/// formats up to its own. A command that needs a newer format than the cluster has agreed on
/// ([`State::format`](super::State::format)) is refused by [`State::admit`](super::State::admit)
/// before it enters the log, and snapshots are written as the agreed format has them, so that a
/// member which runs an older build meets nothing that it cannot read. The leader raises the agreed
/// format once every member says that it reads a newer one.
pub const FORMAT: u8 = 1;

/// Shares in one command at most. A batch is a few hundred under load; this bounds what one entry
/// of the log costs to decode and apply.
pub const MAX_BATCH: usize = 4_096;

/// Users in one import command at most; an import of more is split.
pub const MAX_IMPORT: usize = 1_000;

/// Characters of a user name at most, as in bcoin-stratum.
pub const MAX_NAME: usize = 100;

/// Bytes of any other text in a command (addresses, setting keys and values, member names) at
/// most.
pub const MAX_TEXT: usize = 4_096;

/// A proof of work that a node has verified.
///
/// Two shares with the same `hash16` are the same proof, and `job_time` belongs to the job that the
/// proof is for, so that equal proofs always carry equal `job_time`: the search for a repeat looks
/// only where that `job_time` leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Extranonce1 of the session that submitted it.
    pub session: u32,
    /// Who is credited.
    pub user: UserId,
    /// Expected hashes of the assigned target: floor(2^256 / (target + 1)).
    pub work: u64,
    /// The 16 least significant bytes of the header hash, that is the first 16 of its internal
    /// byte order.
    pub hash16: [u8; 16],
    /// When the job was made, in Unix seconds by its maker.
    pub job_time: u32,
    /// When the share arrived, in Unix seconds by the node that verified it.
    pub time: u32,
}

/// A user to be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewUser {
    /// The name that miners log in with.
    pub name: String,
    /// What a password is checked against.
    pub verifier: Verifier,
}

/// A block that one of our miners solved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockFound {
    /// Height of the block.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// The hash of the block that it extends.
    pub previous: BlockHash,
    /// Time of its header, in Unix seconds.
    pub ts: u32,
    /// When it was found, in Unix seconds by the finder's clock.
    pub time: u32,
    /// Its coinbase transaction.
    pub txid: Txid,
    /// The address that its coinbase pays to.
    pub address: String,
    /// What its coinbase pays in all, in satoshi.
    pub reward: u64,
    /// The chain, in bcoin's words: `main`, `testnet`, `regtest`, `signet`…
    pub network: String,
    /// Name of the node that found it.
    pub node: String,
    /// The job it was found with.
    pub job: u64,
    /// Extranonce1 of the session that found it.
    pub session: u32,
    /// The user that found it.
    pub user: UserId,
    /// The share that solved it, where it earns credit: counted before the round is closed, so that
    /// it belongs to its own block's round however late the finder's batch comes.
    pub share: Option<Share>,
}

/// What a node's chain says of a block of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is in the best chain.
    Confirmed,
    /// It is in the best chain and its coinbase can be spent. Final.
    Mature,
    /// It is not in the best chain at its height.
    Orphaned,
    /// It is not in the best chain, which has grown so far past it that it never will be. Final.
    Abandoned,
}

/// What a lease is a range of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaseKind {
    /// A range of 4,096 values of extranonce1. Wraps after 2^20 grants.
    Extranonce1,
    /// The upper part of job ids. Never given twice.
    Job,
}

/// 32 secret bytes. They show nowhere but in the log and in snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A change of the ledger.
///
/// All that a change depends on comes with it: the ledger has no clock and draws no random numbers.
/// Variants and their fields are encoded by position: append variants, never reorder or change
/// them, and raise [`FORMAT`] and [`Command::since`] with each addition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Forms the cluster, once. Outcome: [`Done`](super::Outcome::Done).
    Init {
        /// What tells this cluster from every other; one restored from a backup has another id
        /// on its members' disks, while this stays.
        cluster: [u8; 16],
        /// Keys the tags of session ids; never changes.
        sid_key: Secret,
        /// The first ticket key.
        ticket_key: Secret,
        /// Unix seconds.
        time: u32,
    },
    /// Credits shares. Outcome: [`Shares`](super::Outcome::Shares), one for each, in order.
    Shares {
        /// When it was proposed, in Unix seconds; the leader's clock is best, because it bounds
        /// how far a share with a `job_time` from a clock that runs ahead can move the ledger's
        /// horizon.
        time: u32,
        /// At most [`MAX_BATCH`] shares.
        batch: Vec<Share>,
    },
    /// Creates a user. Outcome: [`User`](super::Outcome::User).
    AddUser(NewUser),
    /// Creates those of the users that do not exist and leaves the others as they are, so that an
    /// import can be repeated. Outcome: [`Imported`](super::Outcome::Imported).
    ImportUsers(Vec<NewUser>),
    /// Creates a user without a password if there is none of that name.
    /// Outcome: [`User`](super::Outcome::User).
    EnsureUser {
        /// The name; in `address` mode, the address.
        name: String,
    },
    /// Replaces a password. Outcome: [`Done`](super::Outcome::Done).
    SetPassword {
        /// Whose.
        user: UserId,
        /// If there, the change is made only while this is what the password is checked against:
        /// re-hashing a legacy password must not undo a change that came in between.
        expected: Option<Verifier>,
        /// The new one.
        verifier: Verifier,
    },
    /// Bars or admits a user. Outcome: [`Done`](super::Outcome::Done).
    SetUserDisabled {
        /// Whom.
        user: UserId,
        /// True to bar.
        disabled: bool,
    },
    /// Records a solved block and closes the round. Outcome: [`Block`](super::Outcome::Block).
    /// A block that is already recorded changes nothing.
    BlockFound(Box<BlockFound>),
    /// Says what became of a block. Outcome: [`Done`](super::Outcome::Done).
    BlockStatus {
        /// Which.
        hash: BlockHash,
        /// What the chain says.
        verdict: Verdict,
    },
    /// Gives out the next number of a kind. Outcome: [`Lease`](super::Outcome::Lease).
    GrantLease {
        /// Of what.
        kind: LeaseKind,
        /// Name of the process that asks; the newest grants are listed with it.
        holder: String,
    },
    /// Gives a node that joins a Raft id that was never used before.
    /// Outcome: [`NodeId`](super::Outcome::NodeId).
    AllocateNodeId {
        /// The certificate's common name.
        name: String,
        /// Drawn once by the node for its empty disk, so that asking again gives the same id,
        /// and a known name with another disk is refused.
        token: [u8; 16],
        /// `host:port` that its peers reach it at.
        address: String,
    },
    /// Changes where a member is reached. Outcome: [`Done`](super::Outcome::Done).
    SetMemberAddress {
        /// The member's name.
        name: String,
        /// `host:port` that its peers reach it at.
        address: String,
        /// `host:port` of its stratum port that miners know, or empty.
        stratum: String,
    },
    /// Forgets a member, so that its name can join again with a new id.
    /// Outcome: [`Done`](super::Outcome::Done).
    RemoveMember {
        /// The member's name.
        name: String,
    },
    /// Adds a ticket key; the oldest is retired when there are too many.
    /// Outcome: [`TicketKey`](super::Outcome::TicketKey).
    RotateTicketKey {
        /// The new key.
        key: Secret,
        /// Unix seconds.
        time: u32,
    },
    /// Sets a setting, or removes it when the value is empty.
    /// Outcome: [`Done`](super::Outcome::Done).
    Setting {
        /// Which.
        key: String,
        /// To what.
        value: String,
    },
    /// Agrees on a newer format, once every member runs a build that knows it: the leader
    /// proposes it by itself. What comes of it depends on no build: one that does not know the
    /// format stops there. Outcome: [`Done`](super::Outcome::Done).
    SetFormat(u8),
}

/// Why bytes are not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer build.
    #[error(
        "command of format {0}, this build knows formats up to {FORMAT}: update this node's build"
    )]
    NewerFormat(u8),
    /// Not an encoded command.
    #[error("malformed command: {0}")]
    Malformed(&'static str),
}

impl Command {
    /// The first format that has this command.
    pub fn since(&self) -> u8 {
        1
    }

    /// Encodes the command: the format that it needs, then its postcard encoding.
    pub fn encode(&self) -> Vec<u8> {
        let capacity = match self {
            Self::Shares { batch, .. } => 16 + batch.len() * 40,
            _ => 256,
        };
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(self.since());
        postcard::to_extend(self, bytes).expect("a vector takes every command")
    }

    /// Decodes what [`Command::encode`] made.
    ///
    /// # Errors
    ///
    /// When a newer build wrote it, or when it is not exactly one command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&format, body) = bytes.split_first().ok_or(DecodeError::Malformed("it is empty"))?;
        match format {
            0 => return Err(DecodeError::Malformed("there is no format 0")),
            1..=FORMAT => {}
            _ => return Err(DecodeError::NewerFormat(format)),
        }
        match postcard::take_from_bytes(body) {
            Ok((command, [])) => Ok(command),
            Ok(_) => Err(DecodeError::Malformed("bytes follow it")),
            Err(_) => Err(DecodeError::Malformed("it ends early or holds an impossible value")),
        }
    }

    /// Checks what can be checked without the ledger: the limits on every list and text.
    ///
    /// # Errors
    ///
    /// The first limit that is broken.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Init { .. }
            | Self::BlockStatus { .. }
            | Self::SetUserDisabled { .. }
            | Self::RotateTicketKey { .. }
            | Self::SetFormat(_) => Ok(()),
            Self::Shares { batch, .. } => at_most("shares", batch.len(), MAX_BATCH),
            Self::AddUser(user) => user.check(),
            Self::ImportUsers(users) => {
                at_most("users", users.len(), MAX_IMPORT)?;
                users.iter().try_for_each(NewUser::check)
            }
            Self::EnsureUser { name } => check_name(name),
            Self::SetPassword { verifier, .. } => verifier.check(),
            Self::BlockFound(block) => {
                text("address", &block.address)?;
                text("network", &block.network)?;
                text("node name", &block.node)
            }
            Self::GrantLease { holder, .. } => text("holder", holder),
            Self::AllocateNodeId { name, address, .. } => {
                required("member name", name)?;
                text("address", address)
            }
            Self::SetMemberAddress { name, address, stratum } => {
                required("member name", name)?;
                text("address", address)?;
                text("address", stratum)
            }
            Self::RemoveMember { name } => required("member name", name),
            Self::Setting { key, value } => {
                required("setting", key)?;
                text("setting's value", value)
            }
        }
    }
}

impl NewUser {
    fn check(&self) -> Result<(), Refusal> {
        check_name(&self.name)?;
        self.verifier.check()
    }
}

/// Checks a user name: 1 to [`MAX_NAME`] characters, none of them a control character or white
/// space at either end.
///
/// # Errors
///
/// [`Refusal::BadName`].
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = !name.is_empty() && name.chars().take(MAX_NAME + 1).count() <= MAX_NAME;
    if fits && name.trim() == name && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Refusal::BadName)
    }
}

fn required(what: &'static str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() { Err(Refusal::Empty { what: what.into() }) } else { text(what, value) }
}

fn text(what: &'static str, value: &str) -> Result<(), Refusal> {
    at_most(what, value.len(), MAX_TEXT)
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), Refusal> {
    if found <= limit {
        Ok(())
    } else {
        Err(Refusal::TooLarge { what: what.into(), limit: limit as u32 })
    }
}
