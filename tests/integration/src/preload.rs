//! Libraries that stand between a program and its system (`LD_PRELOAD`), built with `cc` when they are needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Syncs of ledgers take longer: `SLOW_SYNC_FILE`.
pub const SLOW_SYNC: (&str, &str) = ("slow-sync", include_str!("../data/slow-sync.c"));

/// The time of day is another: `CLOCK_STEP_FILE`.
pub const CLOCK_STEP: (&str, &str) = ("clock-step", include_str!("../data/clock-step.c"));

/// Builds one of the above in a directory.
pub fn build_preload((name, text): (&str, &str), dir: &Path) -> PathBuf {
    let (source, library) =
        (dir.join(name).with_extension("c"), dir.join(name).with_extension("so"));
    fs::write(&source, text).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]);
    let status = command.arg(&library).arg(&source).arg("-ldl").status();
    let status = status.unwrap_or_else(|error| panic!("cc: {error}"));
    assert!(status.success(), "cc {name}: {status}");
    library
}
