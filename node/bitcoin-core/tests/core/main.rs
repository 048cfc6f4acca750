//! What Bitcoin Core inside a process has to do, tried on the real one.
//!
//! There is one Core per process, so each test needs a process of its own: run these with
//! `cargo nextest run`. Under `cargo test` all but the first fail with `AlreadyStarted`.

// A test's helpers fail the test.
#![allow(clippy::unwrap_used)]

mod lifecycle;
mod mining;
mod peers;
#[allow(dead_code)] // The benchmark uses it, too.
mod support;
