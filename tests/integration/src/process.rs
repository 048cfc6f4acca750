//! Processes that end with the value that stands for them.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::until_within;

/// One that does not end by then is killed when its value is dropped.
const STOP: Duration = Duration::from_secs(60);

/// A running program of ours.
pub struct Program {
    name: String,
    child: Child,
}

impl Program {
    /// Starts `name` (a program of this workspace), its output with the test's own.
    pub fn start(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::spawn(name, Command::new(path(name)).args(arguments))
    }

    /// Starts any command.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let child = without_settings(command)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself, within `patience`.
    pub fn wait_within(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until_within(patience, &what, || self.child.try_wait().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.pid(), Signal::TERM);
            let deadline = Instant::now() + STOP;
            while Instant::now() < deadline {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        // Both fail only if it has ended by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program of this workspace to its end; panics if it takes longer than `patience`.
pub fn run(
    name: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    patience: Duration,
) -> Output {
    let mut child = without_settings(Command::new(path(name)).args(arguments))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let out = drain(child.stdout.take().unwrap());
    let err = drain(child.stderr.take().unwrap());
    let mut program = Program { name: name.to_owned(), child };
    let status = program.wait_within(patience);
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

/// Sends a signal. The process may have ended before, which is not this function's to judge.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// Where a program of this workspace is; panics if it is not built.
pub fn path(name: &str) -> PathBuf {
    // target/debug/deps/e2e-… → target/debug/NAME
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap_or(Path::new("/")).join(name);
    assert!(path.is_file(), "{} is not there: make build", path.display());
    path
}

/// Settings of whoever runs the tests are not the tests'.
fn without_settings(command: &mut Command) -> &mut Command {
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("SEAM_") {
            command.env_remove(variable);
        }
    }
    command
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}
