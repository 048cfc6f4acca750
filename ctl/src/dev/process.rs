//! The programs of a local cluster as child processes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::Failure;

/// A node promises to be gone this long after SIGTERM; the rest is for a busy machine.
const STOP: Duration = Duration::from_secs(40);
/// Lines of its log that are shown when a process ends.
const TAIL: usize = 20;
/// Bytes that those lines are looked for in.
const TAIL_BYTES: u64 = 16 * 1024;
/// Starts a program that gets SIGTERM when its parent dies, however that happens. Part of every Debian.
const PARENT_WATCH: &str = "/usr/bin/setpriv";

/// The running processes by name.
#[derive(Default)]
pub(super) struct Processes {
    running: BTreeMap<String, Child>,
    /// How each was started, for starting it again.
    started: BTreeMap<String, Start>,
}

struct Start {
    program: PathBuf,
    config: PathBuf,
}

/// A process that ended.
pub(super) struct Exit {
    /// Its name.
    pub(super) name: String,
    status: ExitStatus,
    tail: String,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended ({}). The end of its log:\n{}", self.name, self.status, self.tail)
    }
}

impl Processes {
    /// Starts a program; its output goes to the file `log` beside its configuration.
    pub(super) fn start(
        &mut self,
        name: &str,
        program: &Path,
        config: &Path,
    ) -> Result<(), Failure> {
        let start = Start { program: program.to_owned(), config: config.to_owned() };
        self.running.insert(name.to_owned(), start.spawn(name)?);
        self.started.insert(name.to_owned(), start);
        Ok(())
    }

    /// Starts one that ended once more.
    pub(super) fn restart(&mut self, name: &str) -> Result<(), Failure> {
        if let Some(start) = self.started.get(name) {
            self.running.insert(name.to_owned(), start.spawn(name)?);
        }
        Ok(())
    }

    /// The process id of one that runs.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        self.running.get(name)?.id()
    }

    /// The last lines of a log.
    pub(super) fn tail(&self, name: &str) -> String {
        self.started.get(name).map(|start| tail(&start.log())).unwrap_or_default()
    }

    /// One that has ended by now, if any has.
    pub(super) fn ended(&mut self) -> Result<Option<Exit>, Failure> {
        let mut ended = None;
        for (name, child) in &mut self.running {
            let status = child
                .try_wait()
                .map_err(|error| Failure::Refused(format!("waiting for {name}: {error}")))?;
            if let Some(status) = status {
                ended = Some((name.clone(), status));
                break;
            }
        }
        Ok(ended.map(|(name, status)| {
            self.running.remove(&name);
            let tail = self.tail(&name);
            Exit { name, status, tail }
        }))
    }

    /// Waits until one ends.
    pub(super) async fn next_exit(&mut self) -> Result<Exit, Failure> {
        loop {
            if let Some(exit) = self.ended()? {
                return Ok(exit);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops all: proxies, so that their miners are told, then nodes. Whoever does not end in time is
    /// killed, and that or an exit code other than 0 is a failure.
    pub(super) async fn stop(
        &mut self,
        proxies: &[String],
        nodes: &[String],
    ) -> Result<(), Failure> {
        let mut complaints = Vec::new();
        for names in [proxies, nodes] {
            let deadline = Instant::now() + STOP;
            let mut stopping: Vec<(&String, Child)> =
                names.iter().filter_map(|name| Some((name, self.running.remove(name)?))).collect();
            for (_, child) in &stopping {
                terminate(child);
            }
            for (name, child) in &mut stopping {
                match timeout_at(deadline, child.wait()).await {
                    Ok(Ok(status)) if status.success() => {}
                    Ok(Ok(status)) => {
                        complaints.push(format!("{name} ended ({status})\n{}", self.tail(name)));
                    }
                    Ok(Err(error)) => complaints.push(format!("{name}: {error}")),
                    Err(_) => {
                        // Its own exit is what is reported; there is nothing more to do about it.
                        let _ = child.kill().await;
                        complaints.push(format!(
                            "{name} did not stop in {} s and was killed\n{}",
                            STOP.as_secs(),
                            self.tail(name)
                        ));
                    }
                }
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(Failure::Refused(complaints.join("\n"))) }
    }
}

impl Start {
    fn log(&self) -> PathBuf {
        self.config.with_file_name("log")
    }

    fn spawn(&self, name: &str) -> Result<Child, Failure> {
        let failed = |error| Failure::Refused(format!("cannot start {name}: {error}"));
        let log = OpenOptions::new().create(true).append(true).open(self.log()).map_err(failed)?;
        let mut command = if Path::new(PARENT_WATCH).exists() {
            let mut command = Command::new(PARENT_WATCH);
            // setpriv becomes the program: the process id is the same.
            command.args(["--pdeathsig", "TERM", "--"]).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        // Settings meant for this command are not meant for what it starts.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SEAM_") {
                command.env_remove(variable);
            }
        }
        command
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // Ctrl-C is for us; we stop the children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
    }
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(pid) = pid {
        // It may have ended by itself, which its exit status will tell.
        let _ = kill_process(pid, Signal::TERM);
    }
}

fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let length = fs::metadata(path)?.len();
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("  {line}\n")).collect()
}
