//! What the ledger answers.

use serde::{Deserialize, Serialize};

use super::command::FORMAT;
use super::users::UserId;

/// What became of one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ShareOutcome {
    /// Credited.
    Counted,
    /// The same session had it credited before: answered `true`, credited once.
    Replayed,
    /// Another session had it credited before: code 22.
    Duplicate,
    /// Its job is older than what the ledger remembers: code 21.
    Expired,
    /// No such user, or a disabled one: code 24.
    UnknownUser,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// One for each share of the batch, in its order.
    Shares(Vec<ShareOutcome>),
    /// The user that was created, or was there.
    User(UserId),
    /// How many users of an import were created, and how many were there.
    Imported {
        /// Created.
        added: u32,
        /// Left as they were.
        kept: u32,
    },
    /// The block is recorded.
    Block {
        /// Number of the round that it closed.
        round: u64,
        /// False if it had been recorded before.
        new: bool,
    },
    /// The number that was leased.
    Lease(u32),
    /// The Raft id of a member.
    NodeId(u64),
    /// The id of the new ticket key.
    TicketKey(u32),
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why the ledger changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Init came twice.
    #[error("the cluster is formed already; `seamctl cluster init` runs once, on one node")]
    AlreadyFormed,
    /// A command of a newer format than all members are known to read.
    #[error(
        "this needs ledger format {needed} and the cluster is at {active}: update every node first"
    )]
    FormatNotActive {
        /// What the command needs.
        needed: u8,
        /// What the cluster has agreed on.
        active: u8,
    },
    /// A format that this build does not know.
    #[error("ledger format {0} is not one that this build (up to {FORMAT}) can be set to")]
    BadFormat(u8),
    /// The name is taken.
    #[error("a user of that name exists")]
    UserExists,
    /// There is no such user.
    #[error("there is no such user")]
    NoSuchUser,
    /// The name can't be a user's.
    #[error("a user name has 1 to 100 characters, no control characters, no white space around it")]
    BadName,
    /// What should be a password's hash is not.
    #[error("not an Argon2id hash")]
    BadVerifier,
    /// A compare-and-set found another value.
    #[error("it was changed by someone else in between")]
    Changed,
    /// There is no such block.
    #[error("there is no such block in the ledger")]
    NoSuchBlock,
    /// The block's status is final.
    #[error("the block's status is final")]
    Settled,
    /// There are no more numbers of that kind.
    #[error("all numbers of this kind have been given out")]
    Exhausted,
    /// The name belongs to a member with another disk.
    #[error(
        "a member of that name exists with id {id}: if its disk is lost, \
         run `seamctl member remove` with the name and let it join again"
    )]
    MemberExists {
        /// That member's Raft id.
        id: u64,
    },
    /// There is no such member.
    #[error("there is no such member")]
    NoSuchMember,
    /// Something required is empty.
    #[error("{what}: must not be empty")]
    Empty {
        /// What.
        what: String,
    },
    /// A list or a text is over its limit.
    #[error("too many or too long: {what} (at most {limit})")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        limit: u32,
    },
    /// The ledger holds as many as it can.
    #[error("the ledger is full of these: {what} (at most {limit})")]
    Full {
        /// What.
        what: String,
        /// The limit.
        limit: u32,
    },
}
