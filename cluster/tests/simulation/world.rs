//! A cluster in a bad world: one seed, one story.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use seam_cluster::ledger::{Share, ShareOutcome, State, UserId};
use seam_cluster::peer::Stream;
use seam_cluster::simulation::MemoryStorage;
use seam_cluster::tls::{Files, Identity};
use seam_cluster::{
    BlockStatus, Cluster, Completion, Config, Environment, Host, Limits, NodeId, Timing,
    Unavailable,
};
use turmoil::Sim;

use crate::checker::Checker;
use crate::network::SimulatedNetwork;
use crate::{Random, mix};

/// Unix seconds at the beginning of every story.
const EPOCH: u64 = 1_700_000_000;
/// Real clocks are this many times slower.
const FASTER: u32 = 10;
/// How long everything may take to be well again.
const RECOVERY: Duration = Duration::from_secs(10);

/// What a story showed.
pub struct Story {
    pub violations: Vec<String>,
    pub trace: u64,
    pub answers: u64,
    pub events: Vec<String>,
}

struct Shared {
    checker: Mutex<Checker>,
    nodes: Vec<NodeState>,
    /// Shares that were not answered, or not in time: their miners send them again, elsewhere.
    replays: Mutex<VecDeque<(u64, Share)>>,
    next_share: Mutex<u64>,
    generating: Mutex<bool>,
    formed: Mutex<bool>,
    removed: Mutex<BTreeSet<usize>>,
    random: Mutex<Random>,
}

#[derive(Default)]
struct NodeState {
    cluster: Mutex<Option<Cluster>>,
    /// Submitted here and not answered.
    pending: Mutex<BTreeMap<(u64, u32), Share>>,
    orders: Mutex<Vec<Order>>,
}

enum Order {
    Transfer,
    Remove(usize),
}

/// Tells a story.
pub fn tell(seed: u64, lying_disks: bool) -> Story {
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
        snapshot_log_bytes: [600, 4_000, 1 << 30][random.below(3)],
        kept_entries: random.below(40) as u64,
    };
    for (i, disk) in disks.iter().enumerate() {
        disk.set_sync_time(Duration::from_millis(random.below(4) as u64));
        disk.set_lying(lying_disks);
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
        lying_disks,
    };
    driver.run();
    seam_cluster::simulation::seed_thread(None);
    let checker = driver.shared.checker.lock();
    Story {
        violations: checker.violations.clone(),
        trace: checker.trace,
        answers: checker.answers,
        events: driver.events.clone(),
    }
}

fn name(i: usize) -> String {
    format!("node-{i}")
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
    lying_disks: bool,
}

impl Driver {
    fn run(&mut self) {
        // First a cluster, with nothing in its way.
        let formed = |this: &Self| this.ready() == this.count();
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
        self.shared.checker.lock().finish(&finals[0]);
    }

    fn trouble(&mut self) {
        let count = self.count();
        let victim = self.random.below(count);
        let other = self.random.below(count);
        let now = self.sim.elapsed();
        let length = now + Duration::from_millis(5 + self.below(500));
        match self.random.below(12) {
            0..=2 => self.crash(victim, length),
            3 => {
                // The whole cluster at once.
                for i in 0..count {
                    let back = length + Duration::from_millis(self.below(100));
                    self.crash(i, back);
                }
            }
            4 | 5 if victim != other => {
                self.event(format!("cut {victim} -x- {other}"));
                self.sim.partition(name(victim), name(other));
                self.cut.insert((victim, other), length);
            }
            6 if victim != other => {
                self.event(format!("cut {victim} -> {other}"));
                self.sim.partition_oneway(name(victim), name(other));
                self.cut.insert((victim, other), length);
            }
            7 => {
                self.event(format!("isolate {victim}"));
                for other in (0..count).filter(|other| *other != victim) {
                    self.sim.partition(name(victim), name(other));
                    self.cut.insert((victim, other), length);
                }
            }
            8 if victim != other => {
                self.event(format!("delay {victim} ... {other}"));
                self.sim.hold(name(victim), name(other));
                let short = now + Duration::from_millis(5 + self.below(150));
                self.cut.insert((victim, other), short);
            }
            9 => {
                self.event(format!("slow disk {victim}"));
                let time = Duration::from_millis(20 + self.below(150));
                self.disks[victim].set_sync_time(time);
                self.slow.insert(victim, length);
            }
            10 => {
                self.event(format!("transfer {victim}"));
                self.shared.nodes[victim].orders.lock().push(Order::Transfer);
            }
            11 if victim != other && self.below(3) == 0 => {
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
        self.event(format!("crash {victim}, {survivors} of {unsynced} unsynced survive"));
        self.kill(victim);
        self.disks[victim].crash(survivors);
        self.down.insert(victim, back);
    }

    fn kill(&mut self, victim: usize) {
        self.sim.crash(name(victim));
        let node = &self.shared.nodes[victim];
        *node.cluster.lock() = None;
        node.orders.lock().clear();
        let pending = std::mem::take(&mut *node.pending.lock());
        let mut replays = self.shared.replays.lock();
        replays.extend(pending.into_iter().map(|((number, _), share)| (number, share)));
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
        self.kill(node);
        self.disks[node].wipe();
        self.disks[node].set_lying(self.lying_disks);
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
            for i in 0..self.count() {
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
                view.ready() && view.members.iter().filter(|m| m.voter).count() == self.count()
            })
        };
        self.shared.nodes.iter().filter(ready).count()
    }

    fn count(&self) -> usize {
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

/// One node: the real cluster code, and miners that send it shares.
async fn node(
    i: usize,
    count: usize,
    limits: Limits,
    shared: Arc<Shared>,
    disk: MemoryStorage,
) -> turmoil::Result {
    let address = format!("{}:7333", name(i));
    let seeds = (0..count).map(|i| format!("{}:7333", name(i))).collect();
    let nowhere = Files { ca: "".into(), cert: "".into(), key: "".into() };
    let mut config = Config::new(name(i), "", &address, &address, seeds, nowhere);
    config.timing = Timing::default().faster(FASTER);
    config.limits = limits;
    let network = Arc::new(SimulatedNetwork { name: name(i) });
    let environment = Environment::simulated(network, &disk);
    let cluster = Cluster::start_in(config, Arc::new(SimulatedHost), environment).await?;
    *shared.nodes[i].cluster.lock() = Some(cluster.clone());
    if i == 0 && !disk.has_seat() && !std::mem::replace(&mut *shared.formed.lock(), true) {
        form(&cluster).await;
    }
    let user = loop {
        match cluster.ensure_user("alice").await {
            Ok(user) => break user,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let answers: Arc<dyn Completion> = Arc::new(Miners { node: i, shared: shared.clone() });
    let mut beat: u64 = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        beat += 1;
        for (number, share) in wanted(&shared, user) {
            shared.nodes[i].pending.lock().insert((number, share.session), share);
            shared.checker.lock().submitted(number, share);
            let token = number << 32 | u64::from(share.session);
            if cluster.submit(share, answers.clone(), token).is_err() {
                shared.nodes[i].pending.lock().remove(&(number, share.session));
                shared.replays.lock().push_back((number, share));
            }
        }
        if beat.is_multiple_of(8) {
            let state = cluster.read(State::clone);
            shared.checker.lock().observed(i, &state);
        }
        let orders = std::mem::take(&mut *shared.nodes[i].orders.lock());
        for order in orders {
            let (cluster, shared) = (cluster.clone(), shared.clone());
            tokio::spawn(async move {
                match order {
                    Order::Transfer => {
                        let _ = cluster.transfer_leadership(Duration::from_millis(500)).await;
                    }
                    Order::Remove(other) => {
                        if cluster.remove_member(&name(other)).await.is_ok() {
                            shared.removed.lock().insert(other);
                        }
                    }
                }
            });
        }
    }
}

async fn form(cluster: &Cluster) {
    while cluster.init().await.is_err() {
        if cluster.view().borrow().ready() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What miners send now: what was not answered, new shares, and now and then a stolen one.
fn wanted(shared: &Shared, user: UserId) -> Vec<(u64, Share)> {
    let mut wanted = Vec::new();
    let mut random = shared.random.lock();
    if random.below(2) == 0
        && let Some(replay) = shared.replays.lock().pop_front()
    {
        wanted.push(replay);
    }
    if !*shared.generating.lock() {
        return wanted;
    }
    for _ in 0..random.below(3) {
        let number = {
            let mut next = shared.next_share.lock();
            *next += 1;
            *next
        };
        wanted.push((number, share(user, number, 1 + (number % 50) as u32)));
        if random.below(20) == 0 {
            let number = 1 + random.below(number as usize) as u64;
            wanted.push((number, share(user, number, 1_000)));
        }
    }
    wanted
}

fn share(user: UserId, number: u64, session: u32) -> Share {
    let mut hash16 = [0; 16];
    hash16[..8].copy_from_slice(&mix(number).to_le_bytes());
    let time = EPOCH as u32;
    Share { session, user, work: mix(number) >> 24, hash16, job_time: time, time }
}

/// Hears the answers.
struct Miners {
    node: usize,
    shared: Arc<Shared>,
}

impl Completion for Miners {
    fn complete(&self, token: u64, answer: Result<ShareOutcome, Unavailable>) {
        let (number, session) = (token >> 32, token as u32);
        let pending = &self.shared.nodes[self.node].pending;
        // None: the node died, and the miner went elsewhere.
        let Some(share) = pending.lock().remove(&(number, session)) else { return };
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        self.shared.checker.lock().answered(at, number, session, answer);
        if answer.is_err() {
            self.shared.replays.lock().push_back((number, share));
        }
    }
}

struct SimulatedHost;

impl Host for SimulatedHost {
    fn job_arrived(&self, _: NodeId, _: Bytes) {}

    fn block_arrived(&self, _: NodeId, _: Bytes) {}

    fn transactions(&self, wtxids: &[[u8; 32]]) -> Vec<Option<Bytes>> {
        vec![None; wtxids.len()]
    }

    fn link_arrived(&self, _: Identity, _: Stream) {}

    fn block_status(&self, _: &[u8; 32], _: u32) -> BlockStatus {
        BlockStatus::Unknown
    }

    fn now_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        EPOCH * 1_000 + elapsed.as_millis() as u64
    }
}
