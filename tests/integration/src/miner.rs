//! A miner in the background: `seamctl mine`, which reconnects, resumes, and knows what it was answered.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Program};

/// It waits a few seconds for its last answers.
const STOP: Duration = Duration::from_secs(30);

/// A running miner.
pub struct Miner {
    program: Program,
    output: File,
}

impl Miner {
    /// Starts one.
    pub fn start(url: &str, user: &str, password: &str, options: &[&str]) -> Self {
        let output = tempfile::tempfile().unwrap();
        let mut command = Command::new(process::path("seamctl"));
        command
            .args(["--json", "mine", "--url", url, "--user", user, "--password", password])
            .args(options)
            .stdout(output.try_clone().unwrap());
        Self { program: Program::spawn("seamctl mine", &mut command), output }
    }

    /// Stops it, and returns what it counted.
    pub fn stop(mut self) -> Value {
        self.program.terminate();
        let status = self.program.wait_within(STOP);
        assert!(status.success(), "seamctl mine ended with {status}");
        self.output.rewind().unwrap();
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}
