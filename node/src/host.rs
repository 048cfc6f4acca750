//! What the cluster asks of this node: [`Host`] on Core, jobs and solver.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use seam_bitcoin_core::{BlockHash, Core, Wtxid};
use seam_cluster::peer::Stream;
use seam_cluster::pulse::Pulse;
use seam_cluster::tls::Identity;
use seam_cluster::{BlockStatus, Cluster, Host, NodeId};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::clock::Clock;
use crate::contents::PeerContents;
use crate::exchange::Package;
use crate::jobs::{Entry, Jobs};
use crate::metrics::Metrics;
use crate::pulses::Pulses;
use crate::solver::Solver;

/// The node, as its cluster sees it. What needs the cluster itself comes later, with
/// [`NodeHost::connect`].
pub struct NodeHost {
    core: Core,
    clock: Clock,
    metrics: Arc<Metrics>,
    arrivals: Sender<Arrival>,
    solver: Mutex<Option<Arc<Solver>>>,
    links: Sender<(Identity, Stream)>,
    pulses: Arc<Pulses>,
}

/// A peer's job, not looked at yet.
pub struct Arrival {
    from: NodeId,
    package: Bytes,
}

/// The receiving ends of a [`NodeHost`]'s queues.
pub struct Arrivals {
    /// Jobs of peers, for [`take_jobs`].
    pub jobs: Receiver<Arrival>,
    /// Links of proxies.
    pub links: Receiver<(Identity, Stream)>,
}

impl NodeHost {
    /// A host on `core`.
    #[must_use]
    pub fn new(
        core: Core,
        clock: Clock,
        metrics: Arc<Metrics>,
        pulses: Arc<Pulses>,
    ) -> (Arc<Self>, Arrivals) {
        let (arrivals, jobs) = mpsc::channel(MAX_ARRIVALS);
        let (links, new_links) = mpsc::channel(MAX_NEW_LINKS);
        let host = Self { core, clock, metrics, arrivals, solver: Mutex::new(None), links, pulses };
        (Arc::new(host), Arrivals { jobs, links: new_links })
    }

    /// Peers' blocks go there from now on.
    pub fn connect(&self, solver: Arc<Solver>) {
        *self.solver.lock() = Some(solver);
    }

    /// Lets the solver's thread end.
    pub fn disconnect(&self) {
        *self.solver.lock() = None;
    }
}

impl Host for NodeHost {
    fn job_arrived(&self, from: NodeId, package: Bytes) {
        if self.arrivals.try_send(Arrival { from, package }).is_err() {
            self.metrics.peer_jobs.get_or_create(&[("result", "refused")]).inc();
        }
    }

    fn block_arrived(&self, _from: NodeId, block: Bytes) {
        if let Some(solver) = &*self.solver.lock() {
            solver.peer_block(block);
        }
    }

    fn pulse_arrived(&self, from: NodeId, pulse: Bytes) {
        if let Some(pulse) = Pulse::decode(&pulse) {
            self.pulses.heard(from, pulse, self.clock.monotonic_millis());
        }
    }

    fn transactions(&self, wtxids: &[[u8; 32]]) -> Vec<Option<Bytes>> {
        let wanted: Vec<Wtxid> = wtxids.iter().copied().map(Wtxid).collect();
        match self.core.transactions_by_wtxid(&wanted) {
            Ok(found) => found.into_iter().map(|tx| tx.map(Bytes::from)).collect(),
            Err(_) => vec![None; wtxids.len()],
        }
    }

    fn link_arrived(&self, proxy: Identity, stream: Stream) {
        if self.links.try_send((proxy, stream)).is_err() {
            tracing::warn!("a proxy's link was dropped: too many wait");
        }
    }

    fn block_status(&self, hash: &[u8; 32], height: u32) -> BlockStatus {
        match self.core.block(BlockHash(*hash)) {
            Ok(Some(block)) if block.in_active_chain() => {
                BlockStatus::Active { confirmations: block.confirmations }
            }
            // Not in the chain; an orphan only if the chain has another in its place.
            Ok(_) => match (self.core.block_hash_at(height), self.core.status()) {
                (Ok(Some(other)), Ok(status)) if other.0 != *hash => {
                    BlockStatus::Orphaned { buried: (status.tip.height + 1).saturating_sub(height) }
                }
                _ => BlockStatus::Unknown,
            },
            Err(_) => BlockStatus::Unknown,
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.unix_millis()
    }
}

/// Takes jobs of peers until the host is gone: first what judges their shares, then the
/// transactions that their blocks need.
pub async fn take_jobs(
    mut arrivals: Receiver<Arrival>,
    jobs: Arc<Jobs>,
    core: Core,
    cluster: Cluster,
    clock: Clock,
    metrics: Arc<Metrics>,
) {
    let slots = Arc::new(Semaphore::new(MAX_FETCHES));
    while let Some(Arrival { from, package }) = arrivals.recv().await {
        let Some(Package { job, wtxids }) = Package::decode(&package) else {
            tracing::warn!(from, "a peer's job cannot be read");
            metrics.peer_jobs.get_or_create(&[("result", "refused")]).inc();
            continue;
        };
        if jobs.find(job.id).is_some() {
            // Sent again for a peer that lacked it.
            continue;
        }
        let contents = Arc::new(PeerContents::default());
        let entry = Entry::new(job, Box::new(Arc::clone(&contents)));
        jobs.hold(Arc::new(entry), clock.unix_seconds());
        metrics.jobs_live.set(jobs.live() as i64);
        let (core, cluster) = (core.clone(), cluster.clone());
        let (metrics, slots) = (Arc::clone(&metrics), Arc::clone(&slots));
        tokio::spawn(async move {
            let Ok(_slot) = slots.acquire().await else { return };
            let fetched = fetch(&core, &cluster, &metrics, from, wtxids).await;
            let result = if fetched.is_some() { "complete" } else { "incomplete" };
            fetched.map_or_else(|| contents.give_up(), |all| contents.complete(all));
            metrics.peer_jobs.get_or_create(&[("result", result)]).inc();
        });
    }
}

/// The transactions of these ids: from our own mempool and templates, the others from the peer.
async fn fetch(
    core: &Core,
    cluster: &Cluster,
    metrics: &Metrics,
    from: NodeId,
    wtxids: Vec<[u8; 32]>,
) -> Option<Vec<Bytes>> {
    let count = |source, many: usize| {
        let family = &metrics.peer_job_transactions;
        family.get_or_create(&[("source", source)]).inc_by(many as u64);
    };
    let wanted: Vec<Wtxid> = wtxids.iter().copied().map(Wtxid).collect();
    let own = core.clone();
    let found = tokio::task::spawn_blocking(move || own.transactions_by_wtxid(&wanted));
    let mut found: Vec<Option<Bytes>> = found
        .await
        .ok()?
        .ok()?
        .into_iter()
        .map(|transaction| transaction.map(Bytes::from))
        .collect();
    let missing: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
    count("mempool", found.len() - missing.len());
    if !missing.is_empty() {
        let ids: Vec<[u8; 32]> = missing.iter().map(|index| wtxids[*index]).collect();
        let fetched = cluster.fetch_transactions(from, &ids).await.ok()?;
        count("fetched", fetched.iter().flatten().count());
        for (index, transaction) in missing.into_iter().zip(fetched) {
            found[index] = transaction;
        }
    }
    found.into_iter().collect()
}

/// Jobs of peers that may wait; a peer makes one every few seconds.
const MAX_ARRIVALS: usize = 64;

/// Links that may wait to be taken.
const MAX_NEW_LINKS: usize = 64;

/// Jobs whose transactions are fetched at a time.
const MAX_FETCHES: usize = 4;
