//! Shows that a long build goes on. Cargo keeps a build script's output to itself until the script
//! has ended, so lines go to cargo's own standard error where that is a terminal or a pipe.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A line is shown when this many percent have been done since the last.
const STEP_PERCENT: u32 = 5;

pub(crate) struct Progress {
    log: File,
    screen: Option<File>,
    started: Instant,
    shown: u32,
}

impl Progress {
    pub(crate) fn new(log: &Path) -> Result<Self, String> {
        Ok(Self {
            log: File::create(log).map_err(|error| format!("{}: {error}", log.display()))?,
            screen: screen(),
            started: Instant::now(),
            shown: 0,
        })
    }

    /// Shows one line to whoever waits.
    pub(crate) fn say(&mut self, line: &str) {
        // Nobody may be looking, and then nothing is lost: the log has everything.
        if let Some(screen) = &mut self.screen {
            let _ = writeln!(screen, "\r\x20   Bitcoin Core: {line}");
        }
    }

    /// Runs a command into the log, showing the percentages that it prints.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<(), String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let errors = self.log.try_clone().map_err(|error| error.to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot run {name}: {error}"))?;
        let output = child.stdout.take().ok_or("no pipe from the child")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(|error| error.to_string())?;
            self.log.write_all(&line).map_err(|error| error.to_string())?;
            self.log.write_all(b"\n").map_err(|error| error.to_string())?;
            if let Some(percent) = percent(&String::from_utf8_lossy(&line)) {
                self.advance(percent);
            }
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{name} failed: {status}")) }
    }

    fn advance(&mut self, percent: u32) {
        if percent < self.shown + STEP_PERCENT {
            return;
        }
        self.shown = percent;
        let seconds = self.started.elapsed().as_secs();
        self.say(&format!("{percent} % after {}:{:02}", seconds / 60, seconds % 60));
    }
}

/// `[ 37%] Building …` as make prints it, `[111/300] Building …` as ninja does.
fn percent(line: &str) -> Option<u32> {
    let inside = line.strip_prefix('[')?.split(']').next()?.trim();
    if let Some(number) = inside.strip_suffix('%') {
        return number.trim().parse().ok();
    }
    let (done, all) = inside.split_once('/')?;
    let (done, all): (u32, u32) = (done.parse().ok()?, all.parse().ok()?);
    (done * 100).checked_div(all)
}

/// Cargo's standard error. A file is left alone: two writers would overwrite each other.
fn screen() -> Option<File> {
    let path = format!("/proc/{}/fd/2", std::os::unix::process::parent_id());
    let kind = std::fs::metadata(&path).ok()?.file_type();
    if !kind.is_char_device() && !kind.is_fifo() {
        return None;
    }
    OpenOptions::new().append(true).open(path).ok()
}
