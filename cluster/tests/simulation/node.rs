//! One simulated node: the real cluster code, and miners that send it shares.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use seam_cluster::ledger::{Share, ShareOutcome, State, UserId};
use seam_cluster::peer::Stream;
use seam_cluster::simulation::MemoryStorage;
use seam_cluster::tls::{Files, Identity};
use seam_cluster::{
    BlockStatus, Cluster, Completion, Config, Environment, Host, Limits, MemberRole, NodeId,
    Timing, Unavailable,
};

use crate::checker::Checker;
use crate::network::SimulatedNetwork;
use crate::{Random, mix};

/// Unix seconds at the beginning of every story.
pub const EPOCH: u64 = 1_700_000_000;
/// Real clocks are this many times slower.
const FASTER: u32 = 10;

/// What the driver and all nodes share.
pub struct Shared {
    pub checker: Mutex<Checker>,
    pub nodes: Vec<NodeState>,
    /// Shares that were not answered, or not in time: their miners send them again, elsewhere.
    pub replays: Mutex<VecDeque<(u64, Share)>>,
    pub next_share: Mutex<u64>,
    pub generating: Mutex<bool>,
    pub formed: Mutex<bool>,
    pub removed: Mutex<BTreeSet<usize>>,
    pub random: Mutex<Random>,
}

/// What the driver sees of a node.
#[derive(Default)]
pub struct NodeState {
    pub cluster: Mutex<Option<Cluster>>,
    /// Submitted here and not answered.
    pub pending: Mutex<BTreeMap<(u64, u32), Share>>,
    pub orders: Mutex<Vec<Order>>,
}

/// What an operator wants of a node.
pub enum Order {
    Transfer,
    Remove(usize),
}

/// A node's name.
pub fn name(i: usize) -> String {
    format!("node-{i}")
}

/// Runs until its host crashes.
pub async fn node(
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
            let mut checker = shared.checker.lock();
            checker.observed(i, &state);
            let view = cluster.view().borrow().clone();
            if view.role == MemberRole::Leader {
                checker.leads(view.term, i);
            }
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
