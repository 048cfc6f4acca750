//! A disk that is full, read-only or slow: a clear error or back-pressure, never a lost share, never a hang.
//!
//! Needs root, for mounts; the slow disk is a library that stands between the node and the system, built with `cc`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use seam_integration::{Accounts, Agreement, Chain, Cluster, SLOW_SYNC, Via, build_preload, until};
use seam_load::{Live, Load, Options, Rate};
use seam_stratum::Difficulty;
use tempfile::TempDir;

/// Shares a second.
const RATE: f64 = 400.0;

/// Bytes that are left on a disk that is about to be full.
const LEFT: u64 = 64 << 10;

/// What a SIGTERM may take.
const STOP: Duration = Duration::from_secs(20);

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn full_disk_of_the_leader_is_told_and_costs_no_share() {
    one_disk_fails("node-0", &Disk::small(), |disk| disk.grow());
}

#[test]
fn full_disk_of_a_follower_is_told_and_costs_no_share() {
    one_disk_fails("node-2", &Disk::small(), |disk| disk.grow());
}

#[test]
fn read_only_disk_is_told_and_costs_no_share() {
    one_disk_fails("node-0", &Disk::ext4(), |disk| disk.repair());
}

/// The ledger of `victim` lies on `disk`, which fails under load; the others go on. Once the disk is well again the node
/// is told to stop, does, starts, and has everything.
fn one_disk_fails(victim: &str, disk: &Disk, heal: impl FnOnce(&Disk)) {
    let prepare = |dir: &Path| {
        let data = dir.join(victim).join("data");
        fs::create_dir_all(&data).unwrap();
        symlink(disk.path(), data.join("ledger")).unwrap();
    };
    let options = ["--authorization", "open"];
    let mut cluster = Cluster::start_on(Chain::Devnet, 3, 0, &options, prepare);
    let mut miners = Miners::start(&cluster);
    disk.fail();
    let reason = until("the node to say that its ledger failed", || {
        let status = cluster.get(victim, "/v1/status")?;
        let because = status["because"].as_str()?;
        (because.contains("check its disk") && status["ready"] == false).then(|| because.to_owned())
    });
    eprintln!("{victim} says: {reason}");
    until("its log to say so", || cluster.log(victim).contains("SEAM-N020").then_some(()));
    // Its miners go to the other two, which go on.
    until("its miners to have gone", || {
        (cluster.get(victim, "/v1/status")?["sessions"] == 0).then_some(())
    });
    miners.wait_for_more(500);
    // A new leader may be a moment in the making.
    until("the other two to be ready", || {
        let mut others = cluster.nodes().iter().filter(|node| node.name != victim);
        others.all(|node| cluster.is_ready(&node.name)).then_some(())
    });
    // Starting it again does not help, and it says so, or it ends.
    cluster.terminate(victim, STOP);
    cluster.restart(victim);
    let outcome = until("the node to say again what is wrong, or to end", || {
        if let Some(status) = cluster.ended(victim) {
            assert!(!status.success());
            return Some(format!("ended with {status}"));
        }
        let status = cluster.get(victim, "/v1/status")?;
        let because = status["because"].as_str()?;
        because.contains("check its disk").then(|| because.to_owned())
    });
    eprintln!("{victim}, started again: {outcome}");
    cluster.kill(victim);
    heal(disk);
    cluster.restart(victim);
    cluster.wait_ready(victim);
    miners.wait_for_more(500);
    miners.check(&cluster);
    cluster.stop();
}

#[test]
fn slow_disks_slow_the_miners_down_and_cost_no_share() {
    let shim = Shim::build();
    let mut cluster = Cluster::start(Chain::Devnet, 3, 0, &["--authorization", "open"]);
    let names: Vec<String> = cluster.nodes().iter().map(|node| node.name.clone()).collect();
    for name in &names {
        cluster.kill(name);
        cluster.restart_with(name, &shim.environment(name));
        cluster.wait_ready(name);
    }
    let leader = cluster.leader();
    let followers: Vec<&String> = names.iter().filter(|name| **name != leader).collect();
    let mut miners = Miners::start(&cluster);

    // One slow follower is not waited for.
    shim.set(followers[0], Duration::from_secs(3));
    miners.wait_for_more(2 * RATE as u64);
    assert_eq!(miners.refused(), 0, "shares refused while one disk is slow");

    // With two, a quorum's disk takes three seconds: answers come late, or say that they took too long. They come.
    shim.set(followers[1], Duration::from_secs(3));
    miners.wait_for_answers(4 * RATE as u64);

    // Longer than anyone waits for an answer: clear errors, and all is well once the disks are.
    for follower in &followers {
        shim.set(follower, Duration::from_secs(8));
    }
    until("shares to be refused", || (miners.refused() > 0).then_some(()));
    for follower in &followers {
        shim.set(follower, Duration::ZERO);
    }
    miners.wait_for_more(2 * RATE as u64);

    // A node stops in time while its disk is slow.
    shim.set(followers[0], Duration::from_secs(3));
    cluster.terminate(followers[0], STOP);
    shim.set(followers[0], Duration::ZERO);
    cluster.restart_with(followers[0], &shim.environment(followers[0]));
    cluster.wait_ready(followers[0]);
    miners.check(&cluster);
    cluster.stop();
}

/// Miners on all nodes, and what they know.
struct Miners {
    load: Option<Load>,
    file: PathBuf,
}

impl Miners {
    fn start(cluster: &Cluster) -> Self {
        let file = cluster.dir().join("account.csv");
        let options = Options {
            url: cluster.nodes().iter().map(|node| node.stratum.clone()).collect(),
            sessions: 30,
            users: 30,
            rate: Rate::PerSecond(RATE),
            secs: 3_600.0,
            drain: 30.0,
            difficulty: Some(Difficulty::new(1e-8).unwrap()),
            resume: true,
            reconnect_ms: 100,
            accounting: Some(file.clone()),
            ..Options::new("")
        };
        let miners = Self { load: Some(Load::spawn(options).unwrap()), file };
        miners.wait_for_more(100);
        miners
    }

    fn load(&self) -> &Load {
        self.load.as_ref().unwrap()
    }

    fn refused(&self) -> u64 {
        self.load().live().rejected()
    }

    /// Waits until so many more shares were acknowledged.
    fn wait_for_more(&self, shares: u64) {
        let before = self.load().live().accepted();
        let what = format!("{shares} more shares");
        self.load().wait_until(&what, PATIENCE, |live| live.accepted() >= before + shares).unwrap();
    }

    /// Waits until so many more shares were answered, whatever the answer.
    fn wait_for_answers(&self, shares: u64) {
        let answered = |live: &Live| live.accepted() + live.rejected();
        let before = answered(self.load().live());
        let what = format!("{shares} more answers");
        self.load().wait_until(&what, PATIENCE, |live| answered(live) >= before + shares).unwrap();
    }

    /// Stops them, and compares what they know with what every node has.
    fn check(&mut self, cluster: &Cluster) {
        let report = self.load.take().unwrap().stop().unwrap();
        assert_eq!(report.unexpected_answers + report.out_of_order, 0, "{report}");
        let rounds = Agreement::default().settle(cluster);
        let mut accounts = Accounts::default();
        accounts.add_file(&self.file, Via::Nodes);
        eprintln!("{}; rejected {:?}", accounts.summary(), report.rejected);
        accounts.check(&rounds).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")));
    }
}

/// A disk of its own for one ledger.
struct Disk {
    dir: TempDir,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Small,
    Ext4,
}

impl Disk {
    /// One that has room for a few tens of thousands of shares, then no more.
    fn small() -> Self {
        let disk = Self::mounted(Kind::Small);
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk.path().to_str().unwrap()]);
        disk
    }

    /// One with a file system that turns read-only when something is wrong with it.
    fn ext4() -> Self {
        let disk = Self::mounted(Kind::Ext4);
        let image = disk.image();
        let file = fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        disk.mount_image();
        disk
    }

    fn mounted(kind: Kind) -> Self {
        let dir = tempfile::Builder::new().prefix("seam-disk-").tempdir().unwrap();
        let disk = Self { dir, kind };
        fs::create_dir(disk.path()).unwrap();
        disk
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount_image(&self) {
        let (image, path) = (self.image(), self.path());
        run("mount", &["-o", "loop", image.to_str().unwrap(), path.to_str().unwrap()]);
    }

    /// From now on nothing can be written, or soon.
    fn fail(&self) {
        match self.kind {
            // Others take all of its room but for a few seconds' shares.
            Kind::Small => {
                let mut others = fs::File::create(self.path().join("others")).unwrap();
                let part = [0; LEFT as usize / 4];
                while others.write_all(&part).is_ok() {}
                let length = others.metadata().unwrap().len();
                others.set_len(length.saturating_sub(LEFT)).unwrap();
            }
            // What the kernel does after a failed write to its journal.
            Kind::Ext4 => run("mount", &["-o", "remount,abort", self.path().to_str().unwrap()]),
        }
    }

    fn grow(&self) {
        run("mount", &["-o", "remount,size=64m", self.path().to_str().unwrap()]);
    }

    /// Checks the file system, and mounts it for writing.
    fn repair(&self) {
        run("umount", &[self.path().to_str().unwrap()]);
        // 1 says that there was something to put right.
        let status = Command::new("e2fsck").arg("-p").arg(self.image()).status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "e2fsck: {status}");
        self.mount_image();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It is not mounted where a test ended early.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// A library that makes `fdatasync` and `fsync` of ledgers take as long as a file says.
struct Shim {
    dir: TempDir,
}

impl Shim {
    fn build() -> Self {
        let dir = tempfile::Builder::new().prefix("seam-shim-").tempdir().unwrap();
        build_preload(SLOW_SYNC, dir.path());
        Self { dir }
    }

    fn environment(&self, node: &str) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        vec![("LD_PRELOAD", path("slow-sync.so")), ("SLOW_SYNC_FILE", path(node))]
    }

    /// What a sync of this node takes from now on.
    fn set(&self, node: &str, time: Duration) {
        let file = self.dir.path().join(node);
        let new = self.dir.path().join("new");
        fs::write(&new, time.as_millis().to_string()).unwrap();
        fs::rename(new, file).unwrap();
    }
}
