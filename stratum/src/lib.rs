//! Stratum V1 as miners speak it: messages, difficulty, jobs and shares.
//!
//! Everything here is pure: no sockets, no clock, no randomness. Bytes come in, typed values come
//! out, and the other way round. In the order a submit passes through them:
//!
//! | module | idea |
//! | --- | --- |
//! | [`mod@line`] | bounded lines in a byte stream; what a fresh connection speaks |
//! | [`message`] | a line from a miner → a typed request |
//! | [`configure`] | BIP 310 negotiation |
//! | [`login`] | `user.worker` and the options in a password |
//! | [`sid`] | session ids and extranonce1 |
//! | [`guest`] | which addresses may connect, and which are banned |
//! | [`difficulty`] | difficulty ↔ target ↔ expected hashes, exactly |
//! | [`vardiff`] | which difficulty a session should have |
//! | [`job`] | template → job → header and block |
//! | [`merkle`] | merkle branches and roots |
//! | [`share`] | a submit judged against its job |
//! | [`reject`] | why something was refused, with its stratum code |
//! | [`write`](mod@write) | every line a server or a miner sends |
//! | [`client`] | the miner's side: a line from a server → a typed message, work → headers |
//!
//! Hashes are `[u8; 32]` in the order SHA-256 gives them (the order inside blocks); displayed
//! block hashes and txids are these bytes reversed.

#![forbid(unsafe_code)]

pub mod client;
pub mod configure;
pub mod difficulty;
pub mod guest;
pub mod job;
pub mod line;
pub mod login;
pub mod merkle;
pub mod message;
pub mod reject;
pub mod share;
pub mod sid;
pub mod vardiff;
pub mod write;

mod digits;
mod scan;
mod sha256;
mod u256;

pub use self::client::{FromServer, Notify};
pub use self::difficulty::{Difficulty, Target};
pub use self::job::{Job, JobId, Nonce2, Template};
pub use self::line::{LineScanner, MAX_LINE};
pub use self::message::{Call, Id, IdBuf, Incoming, Request, Submit};
pub use self::reject::Reject;
pub use self::sid::{Extranonce1, Sid, SidKey};
