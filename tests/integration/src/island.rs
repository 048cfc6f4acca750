//! A network of the test's own, in which processes can be cut off from all others.
//!
//! Only loopback is in it. Who is cut off is told by the control group that its sockets were made in:
//! every packet from or to them is dropped, on old connections and new ones, in both directions or in one.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where control groups of version 2 are, alone or beside those of version 1; and how `nft` names them.
const GROUPS: [(&str, &str); 2] = [("/sys/fs/cgroup", ""), ("/sys/fs/cgroup/unified", "unified/")];

/// The calling thread's network from now on, and that of all it starts.
pub struct Island {
    name: String,
    /// Where groups are made, and the beginning of their names for `nft`.
    groups: (&'static str, &'static str),
    made: RefCell<Vec<PathBuf>>,
}

impl Island {
    /// Makes one and moves the calling thread into it; none where that is not allowed.
    pub fn enter() -> Option<Self> {
        let name = format!("seam-test-{}", id());
        let found =
            GROUPS.into_iter().find(|(dir, _)| Path::new(dir).join("cgroup.controllers").exists());
        let (Some(groups), true) = (found, geteuid().is_root()) else {
            eprintln!("not root, or no control groups of version 2: nobody can be cut off here");
            return None;
        };
        run("ip", &["netns", "add", &name]);
        let island = Self { name, groups, made: RefCell::default() };
        let space = File::open(Path::new("/run/netns").join(&island.name)).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        Some(island)
    }

    /// A control group for a member that can be cut off.
    pub fn group(&self, member: &str) -> PathBuf {
        let group = self.group_path(member);
        fs::create_dir(&group).unwrap();
        self.made.borrow_mut().push(group.clone());
        group
    }

    /// Where the control group of a member is, once it was made.
    pub fn group_path(&self, member: &str) -> PathBuf {
        Path::new(self.groups.0).join(self.group_name(member))
    }

    /// Cuts a member off that was started in its group: it neither hears nor is heard.
    pub fn cut(&self, member: &str) {
        self.drop_packets(member, &["output", "input"]);
    }

    /// A member hears nothing any more; what it says arrives.
    pub fn deafen(&self, member: &str) {
        self.drop_packets(member, &["input"]);
    }

    /// A member is not heard any more; what is said to it arrives.
    pub fn mute(&self, member: &str) {
        self.drop_packets(member, &["output"]);
    }

    fn drop_packets(&self, member: &str, hooks: &[&str]) {
        let group = format!("{}{}", self.groups.1, self.group_name(member));
        let chain = |hook: &str| {
            format!(
                "chain {hook} {{ type filter hook {hook} priority 0; \
                 socket cgroupv2 level 1 \"{group}\" drop; }}"
            )
        };
        let chains: Vec<String> = hooks.iter().map(|hook| chain(hook)).collect();
        run("nft", &[&format!("table inet cut-{member} {{ {}; }}", chains.join("; "))]);
    }

    /// Connects it again.
    pub fn heal(&self, member: &str) {
        run("nft", &[&format!("delete table inet cut-{member}")]);
    }

    fn group_name(&self, member: &str) -> String {
        format!("{}-{member}", self.name)
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // Nothing is left in either by now; what fails here would be named by the next run.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        for group in self.made.borrow().iter() {
            let _ = fs::remove_dir(group);
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}
