//! The replicated ledger, Raft, peer transport and the session link protocol.
#![forbid(unsafe_code)]

pub mod dump;
pub mod durable;
pub mod ledger;
pub mod link;
pub mod outbox;
pub mod password;
pub mod payout;
pub mod ring;
pub mod settings;
pub mod ticket;
pub mod users_file;
