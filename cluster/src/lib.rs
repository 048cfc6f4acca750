//! The replicated ledger, Raft, peer transport and the session link protocol.
#![forbid(unsafe_code)]

pub mod ledger;
pub mod link;
pub mod ring;
pub mod settings;
