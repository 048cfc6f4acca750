//! `seam-load`: a stratum load generator for any SV1 server.
//!
//! One thread drives any number of sessions over `epoll`. Shares are real: they are found while it
//! runs, against the jobs and the difficulty the server gives. The loop is open: a share is *due* at a time
//! fixed beforehand, and its latency counts from then, so that a server that stalls (or a
//! generator that is late) shows in the figures instead of slowing the schedule down.
//!
//! | module | idea |
//! | --- | --- |
//! | [`options`] | what to run |
//! | [`run`] | a run in a thread of its own, watched and stopped from outside |
//! | `engine` | the loop: connections, schedule, events |
//! | `connection` | one socket and its buffers |
//! | `world` | what all sessions share: counters, account, who is ready |
//! | `session` | one miner: its work, its shares, its answers |
//! | `jobs` | a job that thousands of sessions get, parsed once; how far apart they got it |
//! | [`account`] | every submit with its hash and its answer, for a checker |
//! | [`report`] | what was measured |
//! | [`miner`] | a single blocking miner for tests |

#![forbid(unsafe_code)]

pub mod account;
pub mod miner;
pub mod options;
pub mod report;
pub mod run;

mod connection;
mod engine;
mod jobs;
mod session;
mod world;

pub use self::options::{Options, Rate};
pub use self::report::Report;
pub use self::run::{Live, Load};
