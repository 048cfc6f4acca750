//! Sessions outlive their node: three nodes and two proxies under load, and what miners and the
//! ledger see of it.
//!
//! Sizes for two cores and a development build; `SEAM_FAILOVER_SESSIONS`, `SEAM_FAILOVER_RATE` and
//! `SEAM_FAILOVER_DRAIN_SESSIONS` set others. `SEAM_FAILOVER_SEED` repeats the moments of a run.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod cut;
mod drained;
mod killed;
mod mining;
mod proxies;
mod silent;
mod slow;
