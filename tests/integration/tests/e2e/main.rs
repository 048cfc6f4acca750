//! End to end, with real processes: see each module.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod admin;
mod bad_input;
mod config;
mod crowd;
mod fresh;
mod kill;
mod mining;
mod peer;
mod refused;
mod settings;
mod stop;
