//! The running node: its parts as they come up, and what they say about it together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use seam_bitcoin_core::{Core, Status};
use seam_cluster::logging::Filter;
use seam_cluster::pulse::Pulse;
use seam_cluster::{Cluster, ClusterView};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Config;
use crate::direct::Direct;
use crate::drain::Drain;
use crate::history::History;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::pulses::Pulses;
use crate::secret::Secret;

/// What the admin API, the monitor and the shutdown see. Parts are set once they run.
pub struct Node {
    /// What was configured.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// When the process started, in Unix milliseconds.
    pub started: u64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The bearer token of changes; without one nothing can be changed.
    pub token: Option<Secret>,
    /// Which log lines are written.
    pub filter: Filter,
    /// Bitcoin Core.
    pub core: OnceLock<Core>,
    /// The ledger.
    pub cluster: OnceLock<Cluster>,
    /// Sessions' context.
    pub pool: OnceLock<Arc<Pool>>,
    /// Miners that are connected here.
    pub direct: OnceLock<Arc<Direct>>,
    /// Core's newest status.
    pub chain: Mutex<Option<Status>>,
    /// Whether sessions are being handed over.
    pub drain: Drain,
    /// What the other nodes say about themselves.
    pub pulses: Arc<Pulses>,
    /// Samples for the status page.
    pub history: History,
    /// Core wants to stop, or something failed: the process will end.
    is_failed: AtomicBool,
    /// The stratum port is open.
    is_open: AtomicBool,
    /// Told to end the process.
    pub stop: Notify,
    hashrate_bits: AtomicU64,
}

impl Node {
    /// A node of which nothing runs yet.
    #[must_use]
    pub fn new(
        config: Config,
        token: Option<Secret>,
        clock: Clock,
        metrics: Arc<Metrics>,
        filter: Filter,
    ) -> Self {
        Self {
            filter,
            started: clock.unix_millis(),
            config,
            clock,
            metrics,
            token,
            core: OnceLock::new(),
            cluster: OnceLock::new(),
            pool: OnceLock::new(),
            direct: OnceLock::new(),
            chain: Mutex::new(None),
            drain: Drain::default(),
            pulses: Arc::default(),
            history: History::default(),
            is_failed: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            stop: Notify::new(),
            hashrate_bits: AtomicU64::new(0),
        }
    }

    /// The cluster as this node sees it; nothing before the ledger runs.
    #[must_use]
    pub fn view(&self) -> Option<ClusterView> {
        self.cluster.get().map(|cluster| cluster.view().borrow().clone())
    }

    /// What has to hold for sessions to be taken, by its name in `seam_ready_condition`.
    #[must_use]
    pub fn conditions(&self) -> [(&'static str, bool); 6] {
        let view = self.view();
        let view = view.as_ref();
        let chain = self.chain.lock().clone();
        let is_synced = chain.is_some_and(|status| {
            !status.initial_block_download || self.config.bitcoin.chain.is_private()
        });
        let pool = self.pool.get();
        let has_jobs = pool.is_some_and(|pool| {
            pool.jobs.current().is_some()
                && pool.registry.sid_key().is_some()
                && pool.registry.has_numbers()
        });
        [
            ("core", self.core.get().is_some() && !self.is_failed.load(Ordering::Relaxed)),
            ("chain", is_synced),
            ("joined", view.is_some_and(|view| view.cluster_id.is_some())),
            ("quorum", view.is_some_and(|view| view.quorum && view.ready())),
            ("jobs", has_jobs),
            ("serving", self.is_open.load(Ordering::Relaxed) && !self.drain.is_draining()),
        ]
    }

    /// The conditions that do not hold.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        self.conditions().into_iter().filter_map(|(name, holds)| (!holds).then_some(name)).collect()
    }

    /// What this node says about itself.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let missing = self.missing();
        let view = self.view().unwrap_or_default();
        let chain = self.chain.lock().clone();
        Pulse {
            ready: missing.is_empty(),
            not_ready: missing.into_iter().map(str::to_owned).collect(),
            draining: self.drain.is_draining(),
            sessions: u64::try_from(self.metrics.live_sessions()).unwrap_or(0),
            hashrate: self.hashrate(),
            height: chain.as_ref().map(|status| status.tip.height),
            tip: chain.as_ref().map(|status| status.tip.hash.to_string()),
            leader: view.leader.and_then(|id| Some(view.member(id)?.name.clone())),
            quorum: view.quorum,
            can_lose_one: view.can_lose_one,
        }
    }

    /// Whether all conditions hold.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions().iter().all(|(_, holds)| *holds)
    }

    /// Whether all hold but that the stratum port is open, which waits for them.
    #[must_use]
    pub fn may_open(&self) -> bool {
        self.conditions().iter().all(|(name, holds)| *holds || *name == "serving")
    }

    /// The stratum port is open.
    pub fn opened(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Begins to hand sessions over. Draining again changes nothing.
    pub fn begin_drain(&self) {
        if self.drain.begin(&self.clock, &self.metrics) {
            tracing::info!(sessions = self.metrics.live_sessions(), "draining");
            if let Some(direct) = self.direct.get() {
                direct.drain();
            }
        }
    }

    /// Takes sessions again.
    pub fn undrain(&self) {
        if self.drain.undo(&self.clock, &self.metrics) {
            tracing::info!("taking sessions again");
            if let Some(direct) = self.direct.get() {
                direct.undrain();
            }
        }
    }

    /// Something that cannot be mended happened: not ready any more, and the process ends.
    pub fn fail(&self) {
        self.is_failed.store(true, Ordering::Relaxed);
        self.stop.notify_one();
    }

    /// Whether it did.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.is_failed.load(Ordering::Relaxed)
    }

    /// Expected hashes a second over the last minute, as the monitor computed it.
    #[must_use]
    pub fn hashrate(&self) -> f64 {
        f64::from_bits(self.hashrate_bits.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub fn set_hashrate(&self, hashrate: f64) {
        self.hashrate_bits.store(hashrate.to_bits(), Ordering::Relaxed);
    }
}
