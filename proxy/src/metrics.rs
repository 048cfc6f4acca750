//! What the proxy counts. `docs/metrics.md` is the list; this is its proxy part in the same order.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use seam_cluster::scrape::{ANSWER, Process, SLOW};

/// Labels whose values are a closed list, or the name of a node.
type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Ratios<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Every metric of the proxy. What is counted for every line has its counter at hand.
#[expect(missing_docs, reason = "docs/metrics.md documents each by its name")]
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,

    pub ready: Gauge,
    pub ready_condition: Gauges<1>,
    pub log_events: Counters<1>,
    pub admin_requests: Counters<1>,
    pub queue_depth: Gauges<1>,
    pub queue_bound: Gauges<1>,

    pub session_memory_bytes: Gauge,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub sessions: Gauges<1>,
    pub sessions_opened: Counters<1>,
    pub sessions_closed: Counters<1>,
    pub sessions_held: Gauge,

    pub notify_fanout_seconds: Histogram,
    pub notify_sent: Counter,
    pub submit_seconds: Histogram,
    pub replayed_submits: Counter,

    pub link_up: Gauges<1>,
    pub link_ready: Gauges<1>,
    pub link_sessions: Gauges<1>,
    pub ring_ratio: Ratios<1>,
    pub link_bytes: Counters<2>,
    pub link_losses: Counters<2>,
    pub moves: Counters<2>,
    pub move_seconds: Histograms<1>,

    pub draining: Gauge,
    pub drain_sessions: Gauge,
    pub drains: Counters<1>,
    pub drain_seconds: Histogram,

    pub limit_hits: Counters<1>,
    pub bans: Counter,
    pub banned_addresses: Gauge,

    pub certificate_expiry: Gauges<1>,
    pub certificate_reloads: Counters<2>,
    pub tls_handshakes: Counters<2>,
    pub peer_refused: Counters<1>,
}

/// Why a miner's connection ended; the label of `seam_proxy_sessions_closed_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The miner hung up.
    Miner,
    /// It took too long to come to its first request.
    Idle,
    /// It does not read.
    SlowReader,
    /// A limit, or its node ended it.
    Limit,
    /// Its address is banned.
    Banned,
    /// Its sid came in over another connection.
    TakenOver,
    /// No node was ready for too long.
    NoNode,
    /// The proxy stops.
    Shutdown,
    /// A move failed.
    Lost,
    /// The socket failed, or it spoke no stratum.
    Error,
}

impl Ended {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Miner,
        Self::Idle,
        Self::SlowReader,
        Self::Limit,
        Self::Banned,
        Self::TakenOver,
        Self::NoNode,
        Self::Shutdown,
        Self::Lost,
        Self::Error,
    ];

    /// Whether the miner may resume its session.
    pub(crate) fn may_come_back(self) -> bool {
        !matches!(self, Self::Limit | Self::Banned | Self::TakenOver)
    }

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Limit => "limit",
            Self::Banned => "banned",
            Self::TakenOver => "taken_over",
            Self::NoNode => "no_node",
            Self::Shutdown => "shutdown",
            Self::Lost => "lost",
            Self::Error => "error",
        }
    }
}

/// Why a session moves; the label of `seam_proxy_moves_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its node's link is gone.
    LostNode,
    /// Its node is not ready.
    NotReady,
    /// Its node drains.
    Drain,
    /// Its own node is back.
    Return,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LostNode, Self::NotReady, Self::Drain, Self::Return];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::LostNode => "lost_node",
            Self::NotReady => "not_ready",
            Self::Drain => "drain",
            Self::Return => "return",
        }
    }
}

impl Metrics {
    /// All metrics, every known series at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let build: Gauges<2> = Family::default();
        build
            .get_or_create(&labels([("version", env!("CARGO_PKG_VERSION")), ("kind", "proxy")]))
            .set(1);
        registry.register("seam_build_info", "Always 1", build);
        registry.register_collector(Box::new(Process));
        let metrics = register(registry);
        metrics.zero();
        metrics
    }

    /// The text that `/metrics` answers.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A bound was reached and something was refused or dropped for it.
    pub fn limit_hit(&self, limit: &'static str) {
        self.limit_hits.get_or_create(&labels([("limit", limit)])).inc();
    }

    /// A session moved, or not.
    pub fn moved(&self, why: Why, result: &'static str) {
        self.moves.get_or_create(&labels([("reason", why.label()), ("result", result)])).inc();
    }

    /// How many moves ended so, whatever their reason.
    pub fn moves_with(&self, result: &'static str) -> u64 {
        let of = |why: Why| {
            self.moves.get_or_create(&labels([("reason", why.label()), ("result", result)])).get()
        };
        Why::ALL.into_iter().map(of).sum()
    }

    /// A queue's length, and its bound.
    pub fn queue(&self, queue: &'static str, depth: usize, bound: usize) {
        self.queue_depth.get_or_create(&labels([("queue", queue)])).set(depth as i64);
        self.queue_bound.get_or_create(&labels([("queue", queue)])).set(bound as i64);
    }

    fn zero(&self) {
        for condition in ["node", "serving"] {
            let _ = self.ready_condition.get_or_create(&labels([("condition", condition)]));
        }
        for listener in ["plain", "tls"] {
            let _ = self.sessions.get_or_create(&labels([("listener", listener)]));
            let _ = self.sessions_opened.get_or_create(&labels([("listener", listener)]));
        }
        for ended in Ended::ALL {
            let _ = self.sessions_closed.get_or_create(&labels([("reason", ended.label())]));
        }
        for why in Why::ALL {
            for result in ["moved", "recoverable", "lost"] {
                let _ = self
                    .moves
                    .get_or_create(&labels([("reason", why.label()), ("result", result)]));
            }
            let _ = self.move_seconds.get_or_create(&labels([("reason", why.label())]));
        }
        for limit in LIMITS {
            let _ = self.limit_hits.get_or_create(&labels([("limit", limit)]));
        }
        for level in ["warn", "error"] {
            let _ = self.log_events.get_or_create(&labels([("level", level)]));
        }
        for code in ["2xx", "3xx", "4xx", "5xx"] {
            let _ = self.admin_requests.get_or_create(&labels([("code", code)]));
        }
        for result in ["done", "timeout", "undone"] {
            let _ = self.drains.get_or_create(&labels([("result", result)]));
        }
        for queue in ["unanswered", "held", "link", "parked"] {
            self.queue(queue, 0, 0);
        }
        for certificate in ["cluster", "stratum"] {
            for result in ["loaded", "failed"] {
                let _ = self
                    .certificate_reloads
                    .get_or_create(&labels([("certificate", certificate), ("result", result)]));
            }
        }
        for listener in ["cluster", "stratum"] {
            for result in ["done", "failed"] {
                let _ = self
                    .tls_handshakes
                    .get_or_create(&labels([("listener", listener), ("result", result)]));
            }
        }
        for reason in ["tls", "role", "name", "cluster", "limit"] {
            let _ = self.peer_refused.get_or_create(&labels([("reason", reason)]));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Labels from texts.
pub fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels<N> {
    pairs.map(|(name, value)| (name, value.to_owned()))
}

fn register(mut registry: Registry) -> Metrics {
    let r = registry.sub_registry_with_prefix("seam");
    macro_rules! add {
        ($name:literal, $help:literal, $metric:expr) => {{
            let metric = $metric;
            r.register($name, $help, metric.clone());
            metric
        }};
        (seconds $name:literal, $help:literal, $metric:expr) => {{
            let metric = $metric;
            r.register_with_unit($name, $help, Unit::Seconds, metric.clone());
            metric
        }};
    }
    let ready = add!("ready", "1 when /readyz answers 200", Gauge::default());
    let ready_condition =
        add!("ready_condition", "1 when the condition holds", Gauges::<1>::default());
    let log_events = add!("log_events", "Log lines of warn and error", Counters::<1>::default());
    let admin_requests = add!("admin_requests", "Admin requests", Counters::<1>::default());
    let queue_depth = add!("queue_depth", "Items waiting", Gauges::<1>::default());
    let queue_bound = add!("queue_bound", "What a queue may hold", Gauges::<1>::default());
    let session_memory_bytes =
        add!("session_memory_bytes", "State and buffers of all sessions", Gauge::default());
    let miner_bytes = add!("miner_bytes", "Bytes on miners' connections", Counters::<1>::default());
    let direction = |name| {
        let counter: Counter = miner_bytes.get_or_create(&labels([("direction", name)])).clone();
        counter
    };
    let (bytes_in, bytes_out) = (direction("in"), direction("out"));
    let sessions = add!("proxy_sessions", "Miner connections", Gauges::<1>::default());
    let sessions_opened =
        add!("proxy_sessions_opened", "Connections let in", Counters::<1>::default());
    let sessions_closed =
        add!("proxy_sessions_closed", "Connections that ended", Counters::<1>::default());
    let sessions_held = add!("proxy_sessions_held", "Connections without a node", Gauge::default());
    let notify_fanout_seconds = add!(
        seconds "notify_fanout", "From the first session's mining.notify to the last one's",
        Histogram::new(ANSWER)
    );
    let notify_sent = add!("notify_sent", "mining.notify lines to miners", Counter::default());
    let submit_seconds = add!(
        seconds "submit", "From a submit's last byte to its answer", Histogram::new(ANSWER)
    );
    let replayed_submits =
        add!("replayed_submits", "Unanswered lines sent to another node", Counter::default());
    let link_up = add!("proxy_link_up", "1 while the link is up", Gauges::<1>::default());
    let link_ready = add!("proxy_link_ready", "1 while the node is ready", Gauges::<1>::default());
    let link_sessions =
        add!("proxy_link_sessions", "Sessions on that node", Gauges::<1>::default());
    let ring_ratio = add!("proxy_ring_ratio", "Part of the ring", Ratios::<1>::default());
    let link_bytes = add!("proxy_link_bytes", "Bytes on the link", Counters::<2>::default());
    let link_losses = add!("proxy_link_losses", "Links lost", Counters::<2>::default());
    let moves = add!("proxy_moves", "Sessions moved", Counters::<2>::default());
    let move_seconds = add!(
        seconds "proxy_move", "How long a moved session had no node",
        Histograms::<1>::new_with_constructor(answer_histogram)
    );
    let draining = add!("draining", "1 while draining", Gauge::default());
    let drain_sessions =
        add!("drain_sessions", "Sessions still to be handed over", Gauge::default());
    let drains = add!("drains", "Drains", Counters::<1>::default());
    let drain_seconds = add!(seconds "drain", "How long a drain took", Histogram::new(SLOW));
    let limit_hits = add!("limit_hits", "A bound was reached", Counters::<1>::default());
    let bans = add!("bans", "Addresses banned", Counter::default());
    let banned_addresses = add!("banned_addresses", "Addresses banned now", Gauge::default());
    let certificate_expiry = add!(
        "certificate_expiry_timestamp_seconds",
        "Unix time at which it ends",
        Gauges::<1>::default()
    );
    let certificate_reloads =
        add!("certificate_reloads", "Certificates read again", Counters::<2>::default());
    let tls_handshakes = add!("tls_handshakes", "TLS handshakes", Counters::<2>::default());
    let peer_refused =
        add!("peer_refused", "Cluster connections refused", Counters::<1>::default());
    Metrics {
        registry,
        ready,
        ready_condition,
        log_events,
        admin_requests,
        queue_depth,
        queue_bound,
        session_memory_bytes,
        bytes_in,
        bytes_out,
        sessions,
        sessions_opened,
        sessions_closed,
        sessions_held,
        notify_fanout_seconds,
        notify_sent,
        submit_seconds,
        replayed_submits,
        link_up,
        link_ready,
        link_sessions,
        ring_ratio,
        link_bytes,
        link_losses,
        moves,
        move_seconds,
        draining,
        drain_sessions,
        drains,
        drain_seconds,
        limit_hits,
        bans,
        banned_addresses,
        certificate_expiry,
        certificate_reloads,
        tls_handshakes,
        peer_refused,
    }
}

fn answer_histogram() -> Histogram {
    Histogram::new(ANSWER)
}

/// The limits that a proxy keeps.
const LIMITS: [&str; 7] = [
    "connections",
    "connections_per_address",
    "handshake_time",
    "line_length",
    "write_backlog",
    "session_memory",
    "proxy_header",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_document() {
        let document = include_str!("../../docs/metrics.md");
        let text = Metrics::new().render();
        let mut seen = 0;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("# TYPE ") else { continue };
            let (name, kind) = rest.split_once(' ').unwrap();
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert!(document.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
            seen += 1;
        }
        assert!(seen > 30, "{text}");
    }
}
