//! A cluster in a bad world: one seed, one story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use seam_cluster::ledger::State;
use seam_cluster::simulation::MemoryStorage;
use seam_cluster::{Cluster, Limits};
use serde::{Deserialize, Serialize};
use turmoil::Sim;

use crate::counts::Counts;
use crate::node::{EPOCH, NodeState, Order, Shared, name, node};
use crate::{Random, mix};

/// How long everything may take to be well again.
const RECOVERY: Duration = Duration::from_secs(10);

/// Which disks say that writes are synced before they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    Honest,
    OneLies,
    AllLie,
}

impl Disks {
    fn lies(self, node: usize) -> bool {
        match self {
            Disks::Honest => false,
            Disks::OneLies => node == 1,
            Disks::AllLie => true,
        }
    }
}

/// What a story showed.
#[derive(Default, Serialize, Deserialize)]
pub struct Story {
    pub violations: Vec<String>,
    pub trace: u64,
    pub answers: u64,
    pub events: Vec<String>,
    pub counts: Counts,
}

/// Tells a story.
pub fn tell(seed: u64, trust: Disks) -> Story {
    seam_cluster::simulation::seed_thread(Some(mix(seed)));
    let mut random = Random(mix(seed ^ 0x5eed));
    let count = [3, 3, 3, 3, 5, 1][random.below(6)];
    let shared = Arc::new(Shared {
        checker: Mutex::default(),
        nodes: (0..count).map(|_| NodeState::default()).collect(),
        replays: Mutex::default(),
        next_share: Mutex::new(1),
        generating: Mutex::new(true),
        formed: Mutex::new(false),
        removed: Mutex::default(),
        random: Mutex::new(Random(mix(seed ^ 0xfeed))),
    });
    let disks: Vec<MemoryStorage> = (0..count).map(|_| MemoryStorage::new()).collect();
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH))
        .simulation_duration(Duration::from_secs(3_600))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(random.below(2) as u64))
        .max_message_latency(Duration::from_millis(2 + random.below(8) as u64))
        .tcp_capacity(4_096)
        .rng_seed(seed)
        .enable_random_order()
        .build();
    let limits = Limits {
        queued_shares: 64,
        batch_shares: 1 + random.below(12),
        batches_in_flight: 1 + random.below(4),
        snapshot_log_bytes: [3_000, 20_000, 1 << 30][random.below(3)],
        kept_entries: random.below(40) as u64,
    };
    for (i, disk) in disks.iter().enumerate() {
        disk.set_sync_time(Duration::from_millis(random.below(4) as u64));
        disk.set_lying(trust.lies(i));
        let (shared, disk) = (shared.clone(), disk.clone());
        sim.host(name(i), move || node(i, count, limits, shared.clone(), disk.clone()));
    }
    let mut driver = Driver {
        sim,
        shared,
        disks,
        random,
        down: BTreeMap::new(),
        cut: BTreeMap::new(),
        slow: BTreeMap::new(),
        events: Vec::new(),
        counts: Counts::default(),
        trust,
    };
    driver.run();
    seam_cluster::simulation::seed_thread(None);
    let checker = driver.shared.checker.lock();
    let mut counts = driver.counts.clone();
    counts.merge(&checker.counts);
    Story {
        violations: checker.violations.clone(),
        trace: checker.trace,
        answers: checker.answers,
        events: driver.events.clone(),
        counts,
    }
}

struct Driver {
    sim: Sim<'static>,
    shared: Arc<Shared>,
    disks: Vec<MemoryStorage>,
    random: Random,
    /// Nodes that are down, and when they come back.
    down: BTreeMap<usize, Duration>,
    /// Links that are cut or held, and when they heal.
    cut: BTreeMap<(usize, usize), Duration>,
    /// Disks that are slow, and until when.
    slow: BTreeMap<usize, Duration>,
    events: Vec<String>,
    counts: Counts,
    trust: Disks,
}

impl Driver {
    fn run(&mut self) {
        // First a cluster, with nothing in its way.
        let formed = |this: &Self| this.ready() == this.nodes();
        if !self.until(RECOVERY, formed) {
            let states: Vec<String> = self.shared.nodes.iter().map(describe).collect();
            self.fail(&format!("the cluster was not formed: {states:#?}"));
            return;
        }
        let troubles = self.sim.elapsed() + Duration::from_millis(1_200 + self.below(1_800));
        let mut next = self.sim.elapsed();
        while self.sim.elapsed() < troubles {
            if self.sim.elapsed() >= next {
                self.trouble();
                next = self.sim.elapsed() + Duration::from_millis(20 + self.below(160));
            }
            self.mend(false);
            self.step();
        }
        self.mend(true);
        self.event("peace".into());
        let calm = self.sim.elapsed() + Duration::from_millis(200);
        while self.sim.elapsed() < calm {
            self.step();
        }
        *self.shared.generating.lock() = false;
        if !self.until(RECOVERY, Self::settled) {
            let states: Vec<String> = self.shared.nodes.iter().map(describe).collect();
            self.fail(&format!("not well again in time: {states:#?}"));
            return;
        }
        let mut finals = Vec::new();
        for (i, node) in self.shared.nodes.iter().enumerate() {
            let cluster = node.cluster.lock();
            let state = cluster.as_ref().unwrap().read(State::clone);
            self.shared.checker.lock().observed(i, &state);
            finals.push(state);
        }
        for node in 0..self.nodes() {
            self.tally(node);
        }
        self.shared.checker.lock().finish(&finals[0]);
    }

    fn trouble(&mut self) {
        let count = self.nodes();
        let victim = self.random.below(count);
        let other = self.random.below(count);
        let now = self.sim.elapsed();
        let length = now + Duration::from_millis(5 + self.below(500));
        match self.random.below(12) {
            0..=2 => self.crash(victim, length),
            3 => {
                // The whole cluster at once.
                self.counts.add("crashes of the whole cluster", 1);
                for i in 0..count {
                    let back = length + Duration::from_millis(self.below(100));
                    self.crash(i, back);
                }
            }
            4 | 5 if victim != other => {
                self.counts.add("links cut in both directions", 1);
                self.event(format!("cut {victim} -x- {other}"));
                self.sim.partition(name(victim), name(other));
                self.cut.insert((victim, other), length);
            }
            6 if victim != other => {
                self.counts.add("links cut in one direction", 1);
                self.event(format!("cut {victim} -> {other}"));
                self.sim.partition_oneway(name(victim), name(other));
                self.cut.insert((victim, other), length);
            }
            7 => {
                self.counts.add("nodes isolated", 1);
                self.event(format!("isolate {victim}"));
                for other in (0..count).filter(|other| *other != victim) {
                    self.sim.partition(name(victim), name(other));
                    self.cut.insert((victim, other), length);
                }
            }
            8 if victim != other => {
                self.counts.add("links held up", 1);
                self.event(format!("delay {victim} ... {other}"));
                self.sim.hold(name(victim), name(other));
                let short = now + Duration::from_millis(5 + self.below(150));
                self.cut.insert((victim, other), short);
            }
            9 => {
                self.counts.add("slow disks", 1);
                self.event(format!("slow disk {victim}"));
                let time = Duration::from_millis(20 + self.below(150));
                self.disks[victim].set_sync_time(time);
                self.slow.insert(victim, length);
            }
            10 => {
                self.counts.add("transfers of the leadership asked for", 1);
                self.event(format!("transfer {victim}"));
                self.shared.nodes[victim].orders.lock().push(Order::Transfer);
            }
            11 if victim != other && self.below(3) == 0 => {
                self.counts.add("removals asked for", 1);
                self.event(format!("remove {victim}"));
                self.shared.nodes[other].orders.lock().push(Order::Remove(victim));
            }
            _ => {}
        }
    }

    fn crash(&mut self, victim: usize, back: Duration) {
        if self.down.contains_key(&victim) {
            return;
        }
        let unsynced = self.disks[victim].unsynced();
        let survivors = self.random.below(unsynced + 1);
        self.counts.add("crashes", 1);
        self.counts.add("unsynced writes lost in crashes", (unsynced - survivors) as u64);
        self.counts.add("unsynced writes that survived crashes", survivors as u64);
        self.event(format!("crash {victim}, {survivors} of {unsynced} unsynced survive"));
        self.kill(victim);
        self.disks[victim].crash(survivors);
        self.down.insert(victim, back);
    }

    fn kill(&mut self, victim: usize) {
        self.tally(victim);
        self.sim.crash(name(victim));
        let node = &self.shared.nodes[victim];
        *node.cluster.lock() = None;
        node.orders.lock().clear();
        let pending = std::mem::take(&mut *node.pending.lock());
        let mut replays = self.shared.replays.lock();
        replays.extend(pending.into_iter().map(|((number, _), share)| (number, share)));
    }

    /// Counts what a node has counted so far; before it ends, and once.
    fn tally(&mut self, node: usize) {
        let cluster = self.shared.nodes[node].cluster.lock();
        let Some(metrics) = cluster.as_ref().map(Cluster::metrics) else { return };
        self.counts.add("connections between nodes made", metrics.connections_opened.value());
        self.counts.add("requests between nodes that failed", metrics.peer_errors.value());
        self.counts.add("snapshots built", metrics.snapshots_built.value());
        self.counts.add("snapshots installed", metrics.snapshots_installed.value());
        self.counts.add("batches proposed again", metrics.batch_retries.value());
        self.counts.add("shares refused by full queues", metrics.shares_refused_full.value());
    }

    /// Ends the troubles whose time has come, or all of them.
    fn mend(&mut self, all: bool) {
        let now = self.sim.elapsed();
        let ripe = |until: &Duration| all || *until <= now;
        let links: Vec<_> =
            self.cut.iter().filter(|(_, until)| ripe(until)).map(|(link, _)| *link).collect();
        for (a, b) in links {
            self.event(format!("mend {a} --- {b}"));
            self.sim.release(name(a), name(b));
            self.sim.repair(name(a), name(b));
            self.cut.remove(&(a, b));
        }
        let back: Vec<_> =
            self.down.iter().filter(|(_, until)| ripe(until)).map(|(node, _)| *node).collect();
        for node in back {
            self.event(format!("start {node}"));
            self.sim.bounce(name(node));
            self.down.remove(&node);
        }
        let fast: Vec<_> =
            self.slow.iter().filter(|(_, until)| ripe(until)).map(|(node, _)| *node).collect();
        for node in fast {
            self.disks[node].set_sync_time(Duration::from_millis(1));
            self.slow.remove(&node);
        }
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            self.fail(&format!("a node ended: {error}"));
        }
        // Whoever was removed gets a new disk and joins again.
        let removed = std::mem::take(&mut *self.shared.removed.lock());
        for node in removed {
            self.replace(node);
        }
    }

    fn replace(&mut self, node: usize) {
        self.event(format!("new disk {node}"));
        self.counts.add("members removed, joined again with empty disks", 1);
        self.kill(node);
        self.disks[node].wipe();
        self.disks[node].set_lying(self.trust.lies(node));
        self.down.remove(&node);
        self.sim.bounce(name(node));
    }

    fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = self.sim.elapsed() + limit;
        while self.sim.elapsed() < deadline {
            for _ in 0..10 {
                self.step();
            }
            if done(self) {
                return true;
            }
            for i in 0..self.nodes() {
                // Removed, though whoever asked for it did not hear so.
                let gone = self.shared.nodes[i].cluster.lock().as_ref().is_some_and(|cluster| {
                    let view = cluster.view().borrow().clone();
                    view.unready.is_some_and(|why| why.contains("was removed"))
                });
                if gone {
                    self.replace(i);
                }
            }
        }
        false
    }

    /// Everything was answered and everyone has everything.
    fn settled(&self) -> bool {
        let mut applied = BTreeSet::new();
        for node in &self.shared.nodes {
            let cluster = node.cluster.lock();
            let Some(cluster) = cluster.as_ref() else { return false };
            if !node.pending.lock().is_empty() || !cluster.view().borrow().ready() {
                return false;
            }
            applied.insert(cluster.read(State::applied));
        }
        applied.len() == 1 && self.shared.replays.lock().is_empty()
    }

    fn ready(&self) -> usize {
        let ready = |node: &&NodeState| {
            node.cluster.lock().as_ref().is_some_and(|cluster| {
                let view = cluster.view();
                let view = view.borrow();
                view.ready() && view.members.iter().filter(|m| m.voter).count() == self.nodes()
            })
        };
        self.shared.nodes.iter().filter(ready).count()
    }

    fn nodes(&self) -> usize {
        self.disks.len()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound as usize) as u64
    }

    fn event(&mut self, what: String) {
        self.events.push(format!("{:>6} ms  {what}", self.sim.elapsed().as_millis()));
    }

    fn fail(&mut self, what: &str) {
        self.event(what.to_owned());
        self.shared.checker.lock().violation(what.to_owned());
    }
}

fn describe(node: &NodeState) -> String {
    match node.cluster.lock().as_ref() {
        None => "down".into(),
        Some(cluster) => {
            let view = cluster.view().borrow().clone();
            format!("{} pending, {view:?}", node.pending.lock().len())
        }
    }
}
