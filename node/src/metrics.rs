//! What the node counts. `docs/metrics.md` is the list; this is that list in the same order.

mod ledger;
mod register;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use seam_cluster::scrape;

/// The labels of a series.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];
/// A gauge of fractions.
pub type Ratio = Gauge<f64, AtomicU64>;
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Histograms = Family<Labels<1>, Histogram>;

/// Every metric of the node but those that the cluster keeps itself.
#[expect(missing_docs, reason = "docs/metrics.md documents each by its name")]
pub struct Metrics {
    registry: Registry,
    ledger: ledger::Collector,

    pub ready: Gauge,
    pub ready_condition: Gauges<1>,
    pub log_events: Counters<1>,
    pub admin_requests: Counters<1>,
    pub disk_free_bytes: Gauge,
    pub queue_depth: Gauges<1>,
    pub queue_bound: Gauges<1>,

    pub sessions: Gauges<1>,
    pub sessions_opened: Counters<2>,
    pub sessions_closed: Counters<2>,
    pub session_memory_bytes: Gauge,
    pub miner_bytes: Counters<1>,
    pub login_attempts: Counters<1>,
    pub login_seconds: Histogram,

    pub jobs: Counters<1>,
    pub jobs_live: Gauge,
    pub template_seconds: Histograms,
    pub template_checks: Counters<1>,
    pub tip_to_job_seconds: Histograms,
    pub notify_fanout_seconds: Histogram,
    pub notify_sent: Counter,
    pub peer_jobs: Counters<1>,
    pub peer_job_transactions: Counters<1>,

    pub shares: Counters<2>,
    pub share_work: Counter,
    pub submit_seconds: Histogram,
    pub share_verify_seconds: Histogram,

    pub blocks_found: Counters<1>,
    pub block_submit_seconds: Histogram,
    pub peer_blocks: Counters<1>,
    pub kept_blocks: Gauge,
    pub blocks_resubmitted: Counters<1>,

    pub chain_height: Gauge,
    pub chain_headers: Gauge,
    pub chain_tip_timestamp: Gauge,
    pub chain_tip_changes: Counter,
    pub chain_reorgs: Counter,
    pub chain_initial_download: Gauge,
    pub chain_sync_ratio: Ratio,
    pub chain_peers: Gauges<1>,
    pub mempool_transactions: Gauge,
    pub mempool_bytes: Gauge,

    pub links: Gauge,

    pub draining: Gauge,
    pub drain_sessions: Gauge,
    pub drains: Counters<1>,
    pub drain_seconds: Histogram,

    pub limit_hits: Counters<1>,
    pub bans: Counter,
    pub banned_addresses: Gauge,
    pub ban_score: Counters<1>,

    pub outbox_blocks: Gauge,
    pub outbox_oldest_seconds: Gauge,
    pub certificate_expiry: Gauges<1>,
    pub certificate_reloads: Counters<2>,
}

impl Metrics {
    /// All metrics, every known series at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let build: Gauges<2> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION")), ("kind", "node")]).set(1);
        registry.register("seam_build_info", "Always 1", build);
        registry.register_collector(Box::new(scrape::Process));
        let ledger = ledger::Collector::default();
        registry.register_collector(Box::new(ledger.clone()));
        register::all(registry, ledger)
    }

    /// The cluster's own metrics are shown from now on.
    pub fn add_cluster(&self, cluster: seam_cluster::Cluster) {
        let _ = self.ledger.cluster.set(cluster);
    }

    /// The text that `/metrics` answers.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// One more submit was answered.
    pub fn share(&self, answered: ShareAnswer) {
        let (verdict, reason) = answered.labels();
        self.shares.get_or_create(&[("verdict", verdict), ("reason", reason)]).inc();
    }

    /// How many submits were answered so.
    #[must_use]
    pub fn shares_answered(&self, answered: ShareAnswer) -> u64 {
        let (verdict, reason) = answered.labels();
        self.shares.get_or_create(&[("verdict", verdict), ("reason", reason)]).get()
    }

    /// A bound was reached and something was refused or dropped for it.
    pub fn limit_hit(&self, limit: &'static str) {
        self.limit_hits.get_or_create(&[("limit", limit)]).inc();
    }

    /// A login was answered.
    pub fn login(&self, result: &'static str) {
        self.login_attempts.get_or_create(&[("result", result)]).inc();
    }

    /// A session began.
    pub fn session_opened(&self, via: &'static str, how: &'static str) {
        self.sessions_opened.get_or_create(&[("via", via), ("how", how)]).inc();
        self.sessions.get_or_create(&[("via", via)]).inc();
    }

    /// A session ended.
    pub fn session_closed(&self, via: &'static str, reason: &'static str) {
        self.sessions_closed.get_or_create(&[("via", via), ("reason", reason)]).inc();
        self.sessions.get_or_create(&[("via", via)]).dec();
    }

    /// Sessions that are served now, however they came.
    #[must_use]
    pub fn live_sessions(&self) -> i64 {
        ["direct", "link"]
            .iter()
            .map(|via| self.sessions.get_or_create(&[("via", via)]).get())
            .sum()
    }

    /// A queue's length, and its bound.
    pub fn queue(&self, queue: &'static str, depth: usize, bound: usize) {
        self.queue_depth.get_or_create(&[("queue", queue)]).set(depth as i64);
        self.queue_bound.get_or_create(&[("queue", queue)]).set(bound as i64);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What a submit was answered, as `seam_shares_total` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/metrics.md documents each by its name")]
pub enum ShareAnswer {
    Credited,
    Replayed,
    Stale,
    Expired,
    Duplicate,
    LowDifficulty,
    Unauthorized,
    NotSubscribed,
    Malformed,
    Time,
    Version,
    NoQuorum,
    Busy,
}

impl ShareAnswer {
    /// All of them, the two accepted ones first.
    pub const ALL: [Self; 13] = [
        Self::Credited,
        Self::Replayed,
        Self::Stale,
        Self::Expired,
        Self::Duplicate,
        Self::LowDifficulty,
        Self::Unauthorized,
        Self::NotSubscribed,
        Self::Malformed,
        Self::Time,
        Self::Version,
        Self::NoQuorum,
        Self::Busy,
    ];

    /// The labels `verdict` and `reason`.
    #[must_use]
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Credited => ("accepted", "credited"),
            Self::Replayed => ("accepted", "replayed"),
            Self::Stale => ("rejected", "stale"),
            Self::Expired => ("rejected", "expired"),
            Self::Duplicate => ("rejected", "duplicate"),
            Self::LowDifficulty => ("rejected", "low_difficulty"),
            Self::Unauthorized => ("rejected", "unauthorized"),
            Self::NotSubscribed => ("rejected", "not_subscribed"),
            Self::Malformed => ("rejected", "malformed"),
            Self::Time => ("rejected", "time"),
            Self::Version => ("rejected", "version"),
            Self::NoQuorum => ("rejected", "no_quorum"),
            Self::Busy => ("rejected", "busy"),
        }
    }
}

fn seconds<M>(registry: &mut Registry, name: &str, help: &str, metric: M)
where
    M: prometheus_client::registry::Metric,
{
    registry.register_with_unit(name, help, Unit::Seconds, metric);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.share(ShareAnswer::Credited);
        metrics.limit_hit("connections");
        let text = metrics.render();
        for line in [
            "seam_shares_total{verdict=\"accepted\",reason=\"credited\"} 1",
            "seam_shares_total{verdict=\"rejected\",reason=\"stale\"} 0",
            "seam_limit_hits_total{limit=\"connections\"} 1",
            "seam_build_info{version=\"0.1.0\",kind=\"node\"} 1",
            "process_open_fds ",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
        assert!(text.trim_end().ends_with("# EOF"));
    }

    /// The rows of the document that nodes serve; those of the cluster come from its collector.
    #[test]
    fn names_are_those_of_the_document() {
        let document = include_str!("../../docs/metrics.md");
        let text = Metrics::new().render();
        let served = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for line in served {
            let (name, kind) = line.split_once(' ').unwrap();
            let full = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert!(document.contains(&format!("`{full}`")), "{full} is not documented");
        }
    }
}
