//! Bitcoin Core inside this process, behind a small safe interface.
//!
//! [`Core::start`] turns the process into a full Bitcoin node: it loads the chain, talks to peers
//! and keeps a mempool, as `bitcoind` does, from an ordinary Core data directory. What a mining pool
//! needs of it are function calls from then on: a tip to wait for, templates, blocks to submit.
//!
//! # What to know
//!
//! - **One Core per process.** Core keeps its state in globals. [`Core::start`] works once, and a
//!   start that failed counts: every later one is [`Error::AlreadyStarted`]. Tests need a process
//!   each, which is what `cargo nextest run` gives them; `cargo test` does not.
//! - **Calls block** the thread they are made on, most for microseconds, some as long as Core
//!   validates a block, and those with a timeout that long. In async code they belong on threads
//!   of their own. [`Stop::request`] and [`Core::stop`] end every wait.
//! - **Stop it before the process ends**, also when leaving through [`std::process::exit`]: Core's
//!   threads must not outlive its globals. A [`Core::start`] that is under way has to return first.
//! - **Signals stay yours.** Core installs handlers for SIGTERM, SIGINT and SIGHUP and ignores
//!   SIGPIPE; whatever was there before is back when [`Core::start`] returns. Its umask of 077
//!   stays, for the files it goes on to create. Where the environment's locale is invalid it sets
//!   `LC_ALL`: start it before other threads read the environment.
//! - **The log** goes through `tracing`, target `bitcoin`, and to `debug.log` as ever.
//! - **A failed assertion in Core ends the process**, as it ends `bitcoind`.
//! - Hashes are in internal byte order (as hashed); their `Display` is the reversed form that
//!   people know. Amounts are in satoshi, times in Unix seconds.

//!
//! # Building
//!
//! The build script compiles Core's static libraries and `bitcoind` with CMake, g++ and the Boost
//! headers, from the source that the package `libbitcoinkernel-sys` ships: a snapshot that calls
//! itself 31.99, pinned and checksummed in `Cargo.lock`. That takes five to ten minutes, once: the
//! build lies in `bitcoin-core` in cargo's target directory, whatever profile asks for it, until
//! `cargo clean`. `ccache` is used where there is one.
//!
//! - `SEAM_BITCOIN_SOURCE=DIR` builds another tree, release 31 or younger, in about twenty minutes;
//!   release 31 also needs libevent.
//! - `SEAM_BITCOIN_BUILD_DIR=DIR` puts the build elsewhere: into a CI cache, or where several
//!   checkouts share it. Builds of different sources lie beside each other there.
//! - `CXX` names another compiler; `CMAKE_GENERATOR` another build tool.

mod block;
mod core;
mod error;
mod ffi;
mod hash;
mod log;
mod options;
mod template;

pub use crate::block::{Block, BlockCheck, BlockOutcome, Tip};
pub use crate::core::{Core, Shutdown, Status, Stop};
pub use crate::error::Error;
pub use crate::hash::{BlockHash, Txid, Wtxid};
pub use crate::options::{Chain, Options};
pub use crate::template::{
    Coinbase, CoinbaseOutput, Template, TemplateOptions, TemplateTransaction,
};

/// The `bitcoind` of the build that is linked in: a peer for tests and benchmarks.
pub const BITCOIND: &str = env!("SEAM_BITCOIND");

/// The `bitcoin-cli` of the same build.
pub const BITCOIN_CLI: &str = env!("SEAM_BITCOIN_CLI");
