//! What tests with real processes share: a local cluster, a stratum client, Bitcoin peers.
//!
//! Everything here panics when something is not as it should be: that is how a test fails. Waiting is
//! for a condition, with a deadline ([`until`]); every process ends with the value that stands for it.
//!
//! The programs are those beside the test's own executable: `cargo build --workspace --bins` first.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod accounts;
mod agreement;
mod bitcoind;
mod blocks;
mod client;
mod cluster;
mod dice;
mod island;
mod miner;
mod preload;
mod process;
mod spend;
mod wait;

pub use self::accounts::{Accounts, Summary, Via};
pub use self::agreement::Agreement;
pub use self::bitcoind::{Bitcoind, Chain, Rpc};
pub use self::blocks::assert_sound;
pub use self::client::{Answer, Client, Share};
pub use self::cluster::{Cluster, Member};
pub use self::dice::Dice;
pub use self::island::Island;
pub use self::miner::Miner;
pub use self::preload::{CLOCK_STEP, SLOW_SYNC, build_preload};
pub use self::process::{Program, path as program, run};
pub use self::spend::{Coin, Wallet};
pub use self::wait::{until, until_within};
