//! The replicated ledger, Raft, peer transport and the session link protocol.
#![forbid(unsafe_code)]

mod batch;
pub mod dump;
pub mod durable;
mod engine;
pub mod fault;
mod format;
#[cfg(test)]
mod fuzz;
mod handle;
pub mod ledger;
pub mod link;
pub mod logging;
mod member;
pub mod outbox;
pub mod password;
pub mod payout;
pub mod peer;
pub mod pulse;
pub mod ring;
pub mod scrape;
pub mod settings;
pub mod simulation;
mod store;
pub mod ticket;
pub mod tls;
pub mod users_file;
mod watch;

pub use store::StoreError;

pub use handle::{
    AuthorizeError, BUCKETS_US, BlockStatus, ChangeError, Cluster, ClusterView, Completion, Config,
    Counter, Environment, FetchError, Full, Gauge, Histogram, Host, Limits, MemberError,
    MemberRole, MemberView, Metrics, NodeId, StartError, Timing, Unavailable,
};
