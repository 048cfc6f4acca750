//! The cluster, and everything that is needed to do something to it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use seam_integration::{Chain, Cluster, Island, Member, until_within};

use crate::PATIENCE;
use crate::weather::Weather;

const NODES: [&str; 3] = ["node-0", "node-1", "node-2"];

/// A cluster, every member with a network and every node with a disk and a clock of its own.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) island: Island,
    pub(crate) weather: Weather,
    pub(crate) nodes: Vec<String>,
    pub(crate) proxies: Vec<String>,
    /// Members with a new certificate, their process, and how often it had read one anew before.
    renewed: Vec<(String, u32, usize)>,
    began: Instant,
}

impl Stage {
    /// Three nodes and two proxies.
    pub(crate) fn start(island: Island) -> Self {
        let began = Instant::now();
        let weather = Weather::new(&NODES);
        let options = ["--rpc", "--authorization", "open"];
        let cluster = Cluster::start_on(Chain::Devnet, 3, 2, &options, |dir| {
            for node in NODES {
                weather.lay(node, &dir.join(node).join("data"));
            }
        });
        let names = |members: &[Member]| members.iter().map(|member| member.name.clone()).collect();
        let (nodes, proxies) = (names(cluster.nodes()), names(cluster.proxies()));
        let renewed = Vec::new();
        let mut stage = Self { cluster, island, weather, nodes, proxies, renewed, began };
        for member in stage.members() {
            stage.island.group(&member);
            stage.cluster.kill(&member);
            stage.start_member(&member);
        }
        stage.recover();
        stage
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tells what happens, with the seconds since the beginning.
    pub(crate) fn say(&self, what: &str) {
        eprintln!("{:8.2}  {what}", self.elapsed().as_secs_f64());
    }

    /// All names, the nodes' first.
    fn members(&self) -> Vec<String> {
        self.nodes.iter().chain(&self.proxies).cloned().collect()
    }

    /// The name with this number.
    pub(crate) fn member(&self, number: usize) -> String {
        self.members()[number].clone()
    }

    /// The other nodes.
    pub(crate) fn others(&self, node: &str) -> Vec<String> {
        self.nodes.iter().filter(|other| *other != node).cloned().collect()
    }

    /// Starts a member that has ended, where cuts and weather reach it.
    pub(crate) fn start_member(&mut self, name: &str) {
        let group = self.island.group_path(name);
        let weather = match self.proxies.iter().any(|proxy| proxy == name) {
            true => Vec::new(),
            false => self.weather.environment(name),
        };
        self.cluster.restart_as(name, Some(&group), &weather);
    }

    /// Gives a member a new certificate; [`Stage::recover`] sees that it is used.
    pub(crate) fn renew_certificate(&mut self, name: &str) {
        let before = (name.to_owned(), self.cluster.pid(name), self.certificates_read(name));
        self.cluster.renew_certificate(name);
        self.renewed.push(before);
    }

    /// Waits until all is well again: every member ready, every node a voter, and one of them could be lost.
    pub(crate) fn recover(&mut self) {
        for name in self.members() {
            self.until_well(&format!("{name} to be ready"), |stage| stage.cluster.is_ready(&name));
        }
        self.until_well("one node to be spare", |stage| {
            let leader = stage.cluster.leader();
            let status = stage.cluster.get(&leader, "/v1/status");
            status.is_some_and(|status| status["can_lose_one"] == true && status["voters"] == 3)
        });
        while let Some((name, pid, before)) = self.renewed.pop() {
            self.until_well(&format!("{name} to use its new certificate"), |stage| {
                stage.cluster.pid(&name) != pid || stage.certificates_read(&name) > before
            });
        }
    }

    fn until_well(&mut self, what: &str, well: impl Fn(&Self) -> bool) {
        until_within(PATIENCE, what, || {
            for name in self.members() {
                let ended = self.cluster.ended(&name);
                assert!(ended.is_none(), "{name} ended by itself: {ended:?}");
            }
            well(self).then_some(())
        });
    }

    fn certificates_read(&self, name: &str) -> usize {
        let log = self.cluster.log(name);
        let read = |line: &&str| {
            line.contains("certificates reloaded") || line.contains("certificate read again")
        };
        log.lines().filter(read).count()
    }

    /// No part of any process may have panicked.
    pub(crate) fn check_logs(&self) {
        for name in self.members() {
            let log = self.cluster.log(&name);
            let panicked = log.lines().find(|line| line.contains("panicked"));
            assert!(panicked.is_none(), "{name}: {panicked:?}");
        }
    }

    /// Anonymous resident memory of every member, in MB.
    pub(crate) fn memory(&self) -> BTreeMap<String, u64> {
        let of = |name: String| {
            let path = format!("/proc/{}/status", self.cluster.pid(&name));
            let status = fs::read_to_string(path).unwrap();
            let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
            let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
            (name, kilobytes >> 10)
        };
        self.members().into_iter().map(of).collect()
    }
}
