//! A full Bitcoin node and a stratum server in one process.
//!
//! A share passes through the modules in this order: [`direct`] or `linked` (bytes), [`session`]
//! (lines, verdicts), [`ledger`] (the cluster's promise), and back through the session's inbox.

#![forbid(unsafe_code)]

pub mod admin;
pub mod announce;
pub mod auth;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod contents;
pub mod direct;
pub mod drain;
pub mod exchange;
pub mod fault;
pub mod feeds;
#[cfg(test)]
mod fuzz;
pub mod history;
pub mod host;
pub mod jobmaker;
pub mod jobs;
pub mod keeper;
pub mod kept;
pub mod ledger;
pub mod limits;
pub mod linked;
pub mod links;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod node;
pub mod pool;
pub mod preflight;
pub mod pulses;
pub mod registry;
pub mod run;
pub mod secret;
pub mod session;
pub mod solver;
#[cfg(test)]
mod testing;
