//! What an operator relies on besides mining: secrets stay secret, a backup is the ledger, every
//! node knows the whole cluster, the log can be turned up while it runs, an older disk is gone on with.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod backup;
mod formats;
mod http;
mod log;
mod secrets;
mod status;
