//! What the ledger promises, with real processes: see each module.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod blocks;
mod disks;
mod kills;
