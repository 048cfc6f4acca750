//! What the nodes stand in: a small disk for each ledger, syncs as slow and clocks as wrong as we like.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use seam_integration::{CLOCK_STEP, SLOW_SYNC, build_preload};
use tempfile::TempDir;

/// Room for a ledger's log and snapshots, and soon filled.
const DISK: &str = "size=96m";

/// What is written at once while a disk is filled.
const PART: usize = 64 << 10;

/// Disks, syncs and clocks of the nodes.
pub(crate) struct Weather {
    dir: TempDir,
    disks: Vec<PathBuf>,
    libraries: String,
}

impl Weather {
    /// Calm, for these nodes.
    pub(crate) fn new(nodes: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("seam-chaos-").tempdir().unwrap();
        let libraries = [SLOW_SYNC, CLOCK_STEP].map(|library| build_preload(library, dir.path()));
        let libraries = libraries.map(|path| path.to_str().unwrap().to_owned()).join(":");
        let mut weather = Self { dir, disks: Vec::new(), libraries };
        for node in nodes {
            fs::create_dir(weather.dir.path().join(node)).unwrap();
            let disk = weather.disk(node);
            fs::create_dir(&disk).unwrap();
            mount(&["-t", "tmpfs", "-o", DISK, "tmpfs", disk.to_str().unwrap()]);
            weather.disks.push(disk);
            fs::write(weather.file(node, "clock"), 0_i64.to_ne_bytes()).unwrap();
            weather.slow(node, Duration::ZERO);
        }
        weather
    }

    /// Lets the ledger that will be in `data` lie on its node's disk.
    pub(crate) fn lay(&self, node: &str, data: &Path) {
        fs::create_dir_all(data).unwrap();
        symlink(self.disk(node), data.join("ledger")).unwrap();
    }

    /// What a node has to be started with.
    pub(crate) fn environment(&self, node: &str) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.file(node, name).to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD", self.libraries.clone()),
            ("SLOW_SYNC_FILE", path("sync")),
            ("CLOCK_STEP_FILE", path("clock")),
        ]
    }

    /// Every sync of this ledger takes so much longer from now on.
    pub(crate) fn slow(&self, node: &str, sync: Duration) {
        let new = self.file(node, "new");
        fs::write(&new, sync.as_millis().to_string()).unwrap();
        fs::rename(new, self.file(node, "sync")).unwrap();
    }

    /// This node's clock is so many milliseconds ahead from now on.
    pub(crate) fn step(&self, node: &str, milliseconds: i64) {
        // The node has it mapped: in place, and whole.
        let file = OpenOptions::new().write(true).open(self.file(node, "clock")).unwrap();
        file.write_all_at(&milliseconds.to_ne_bytes(), 0).unwrap();
    }

    /// Others take all the room of this ledger's disk.
    pub(crate) fn fill(&self, node: &str) {
        let mut others = File::create(self.others(node)).unwrap();
        let mut part = PART;
        while part > 0 {
            match others.write(&vec![1; part]) {
                Ok(written) if written > 0 => {}
                _ => part /= 2,
            }
        }
    }

    /// They give it back.
    pub(crate) fn empty(&self, node: &str) {
        fs::remove_file(self.others(node)).unwrap();
    }

    /// Syncs are fast, and clocks are right.
    pub(crate) fn clear(&self, nodes: &[String]) {
        for node in nodes {
            self.slow(node, Duration::ZERO);
            self.step(node, 0);
        }
    }

    /// What was a node's disk has nothing on it any more.
    pub(crate) fn wipe(&self, node: &str, data: &Path) {
        fs::remove_dir_all(data).unwrap();
        for entry in fs::read_dir(self.disk(node)).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        self.lay(node, data);
    }

    /// Its path says "ledger": that is how slow syncs know what is meant.
    fn disk(&self, node: &str) -> PathBuf {
        self.file(node, "ledger")
    }

    fn others(&self, node: &str) -> PathBuf {
        self.disk(node).join("others")
    }

    fn file(&self, node: &str, name: &str) -> PathBuf {
        self.dir.path().join(node).join(name)
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        for disk in &self.disks {
            // What is still mounted is in the way of the directory's removal only.
            let _ = Command::new("umount").arg("-l").arg(disk).status();
        }
    }
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("mount: {error}"));
    assert!(status.success(), "mount {arguments:?}: {status}");
}
