//! Every metric under its name, each known series at zero from the start.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use seam_cluster::scrape::{ANSWER, FAST, SLOW};

use super::{Counters, Gauges, Histograms, Labels, Metrics, Ratio, ShareAnswer, seconds};

/// Makes the metrics and registers them behind what `registry` has.
pub(super) fn all(mut registry: Registry, ledger: super::ledger::Collector) -> Metrics {
    let r = registry.sub_registry_with_prefix("seam");
    let r = &mut *r;
    let mut gauge = |name: &str, help: &str| {
        let metric = Gauge::<i64>::default();
        r.register(name, help, metric.clone());
        metric
    };
    let ready = gauge("ready", "1 when /readyz answers 200");
    let disk_free_bytes = gauge("disk_free_bytes", "Free space where data_dir is");
    let session_memory_bytes = gauge("session_memory_bytes", "State and buffers of all sessions");
    let jobs_live = gauge("jobs_live", "Jobs whose shares are accepted");
    let chain_height = gauge("chain_height", "Height of the active tip");
    let chain_headers = gauge("chain_headers", "Height of the best known header");
    let chain_tip_timestamp = gauge("chain_tip_timestamp_seconds", "The tip's own time");
    let chain_initial_download = gauge("chain_initial_download", "1 during initial download");
    let mempool_transactions = gauge("mempool_transactions", "Transactions in the mempool");
    let mempool_bytes = gauge("mempool_bytes", "Their virtual size");
    let links = gauge("links", "Proxies linked to this node");
    let draining = gauge("draining", "1 from the request to drain until it is undone");
    let drain_sessions = gauge("drain_sessions", "Sessions still to be handed over");
    let outbox_blocks = gauge("outbox_blocks", "Solved blocks not recorded yet");
    let outbox_oldest_seconds = gauge("outbox_oldest_seconds", "Age of the oldest of them");
    let kept_blocks = gauge("kept_blocks", "Solved blocks kept on disk beside Core's");
    let banned_addresses = gauge("banned_addresses", "Addresses banned now");

    let mut counter = |name: &str, help: &str| {
        let metric = Counter::<u64>::default();
        r.register(name, help, metric.clone());
        metric
    };
    let notify_sent = counter("notify_sent", "mining.notify lines written to miners");
    let share_work = counter("share_work", "Expected hashes of credited shares");
    let chain_tip_changes = counter("chain_tip_changes", "New tips");
    let chain_reorgs = counter("chain_reorgs", "Tips that did not build on the one before");
    let bans = counter("bans", "Addresses banned");

    let mut histogram = |name: &str, help: &str, buckets: &'static [f64]| {
        let metric = Histogram::new(buckets.iter().copied());
        seconds(r, name, help, metric.clone());
        metric
    };
    let login_seconds = histogram("login", "A login's request to its answer", &ANSWER);
    let notify_fanout_seconds =
        histogram("notify_fanout", "First to last notify of a job", &ANSWER);
    let submit_seconds = histogram("submit", "A submit's last byte to its answer", &ANSWER);
    let share_verify_seconds = histogram("share_verify", "Judging one share", &FAST);
    let block_submit_seconds = histogram("block_submit", "Verdict to Core's answer", &FAST);
    let drain_seconds = histogram("drain", "How long a drain took", &SLOW);

    let template_seconds: Histograms =
        Family::new_with_constructor(|| Histogram::new(FAST.iter().copied()));
    let tip_to_job_seconds: Histograms =
        Family::new_with_constructor(|| Histogram::new(ANSWER.iter().copied()));
    for kind in ["full", "empty"] {
        drop(template_seconds.get_or_create(&[("kind", kind)]));
        drop(tip_to_job_seconds.get_or_create(&[("kind", kind)]));
    }
    seconds(r, "template", "One template from Bitcoin Core", template_seconds.clone());
    seconds(r, "tip_to_job", "New tip to job handed out", tip_to_job_seconds.clone());

    let chain_sync_ratio = Ratio::default();
    r.register("chain_sync_ratio", "How much of the chain is verified", chain_sync_ratio.clone());

    let shares: Counters<2> = Family::default();
    for answer in ShareAnswer::ALL {
        let (verdict, reason) = answer.labels();
        drop(shares.get_or_create(&[("verdict", verdict), ("reason", reason)]));
    }
    r.register("shares", "Answered submits", shares.clone());

    let sessions_opened: Counters<2> = Family::default();
    let sessions_closed: Counters<2> = Family::default();
    for via in VIA {
        for how in ["fresh", "resumed", "ticket"] {
            drop(sessions_opened.get_or_create(&[("via", via), ("how", how)]));
        }
        for reason in CLOSED {
            drop(sessions_closed.get_or_create(&[("via", via), ("reason", reason)]));
        }
    }
    r.register("sessions_opened", "Sessions begun", sessions_opened.clone());
    r.register("sessions_closed", "Sessions ended", sessions_closed.clone());

    let certificate_reloads: Counters<2> = Family::default();
    for certificate in ["cluster", "ca"] {
        for result in ["loaded", "failed"] {
            drop(
                certificate_reloads
                    .get_or_create(&[("certificate", certificate), ("result", result)]),
            );
        }
    }
    r.register("certificate_reloads", "Certificates read anew", certificate_reloads.clone());

    Metrics {
        ready,
        ready_condition: gauges(r, "ready_condition", "Conditions", "condition", &CONDITIONS),
        log_events: counters(r, "log_events", "Log lines", "level", &["warn", "error"]),
        admin_requests: counters(
            r,
            "admin_requests",
            "Admin requests by class of answer",
            "code",
            &["2xx", "3xx", "4xx", "5xx"],
        ),
        disk_free_bytes,
        queue_depth: gauges(r, "queue_depth", "Items waiting", "queue", &QUEUES),
        queue_bound: gauges(r, "queue_bound", "What a queue may hold", "queue", &QUEUES),
        sessions: gauges(r, "sessions", "Sessions served", "via", &VIA),
        sessions_opened,
        sessions_closed,
        session_memory_bytes,
        miner_bytes: counters(r, "miner_bytes", "Miners' bytes", "direction", &["in", "out"]),
        login_attempts: counters(
            r,
            "login_attempts",
            "mining.authorize by result",
            "result",
            &["accepted", "refused", "limited", "unavailable"],
        ),
        login_seconds,
        jobs: counters(r, "jobs", "Jobs made", "reason", &["tip", "empty", "fees", "interval"]),
        jobs_live,
        template_seconds,
        template_checks: counters(
            r,
            "template_checks",
            "Templates checked by Core",
            "result",
            &["valid", "outdated", "refused", "failed"],
        ),
        tip_to_job_seconds,
        notify_fanout_seconds,
        notify_sent,
        peer_jobs: counters(
            r,
            "peer_jobs",
            "Jobs received from peers",
            "result",
            &["complete", "incomplete", "refused"],
        ),
        peer_job_transactions: counters(
            r,
            "peer_job_transactions",
            "Transactions of peers' jobs",
            "source",
            &["mempool", "fetched"],
        ),
        shares,
        share_work,
        submit_seconds,
        share_verify_seconds,
        blocks_found: counters(
            r,
            "blocks_found",
            "Blocks our sessions solved",
            "result",
            &["accepted", "stale", "rejected"],
        ),
        block_submit_seconds,
        peer_blocks: counters(
            r,
            "peer_blocks",
            "Solved blocks received from peers",
            "result",
            &["accepted", "known", "rejected"],
        ),
        kept_blocks,
        blocks_resubmitted: counters(
            r,
            "blocks_resubmitted",
            "Blocks that Core had lost",
            "result",
            &["accepted", "waiting", "rejected"],
        ),
        chain_height,
        chain_headers,
        chain_tip_timestamp,
        chain_tip_changes,
        chain_reorgs,
        chain_initial_download,
        chain_sync_ratio,
        chain_peers: gauges(
            r,
            "chain_peers",
            "P2P connections",
            "direction",
            &["inbound", "outbound"],
        ),
        mempool_transactions,
        mempool_bytes,
        links,
        draining,
        drain_sessions,
        drains: counters(r, "drains", "Drains", "result", &["done", "timeout", "undone"]),
        drain_seconds,
        limit_hits: counters(r, "limit_hits", "Bounds reached", "limit", &LIMITS),
        bans,
        banned_addresses,
        ban_score: counters(
            r,
            "ban_score",
            "Ban score given",
            "offence",
            &["malformed", "method", "share"],
        ),
        outbox_blocks,
        outbox_oldest_seconds,
        certificate_expiry: gauges(
            r,
            "certificate_expiry_timestamp_seconds",
            "When it ends, in Unix time",
            "certificate",
            &["cluster", "ca"],
        ),
        certificate_reloads,
        registry,
        ledger,
    }
}

fn counters(
    r: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[&'static str],
) -> Counters<1> {
    let family: Family<Labels<1>, Counter> = Family::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    r.register(name, help, family.clone());
    family
}

fn gauges(
    r: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[&'static str],
) -> Gauges<1> {
    let family: Family<Labels<1>, Gauge> = Family::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    r.register(name, help, family.clone());
    family
}

const VIA: [&str; 2] = ["direct", "link"];

const CONDITIONS: [&str; 6] = ["core", "chain", "joined", "quorum", "jobs", "serving"];

const QUEUES: [&str; 2] = ["submit", "commit"];

const CLOSED: [&str; 9] =
    ["miner", "idle", "slow_reader", "limit", "banned", "taken_over", "moved", "drain", "error"];

const LIMITS: [&str; 11] = [
    "connections",
    "connections_per_address",
    "handshake_time",
    "idle_time",
    "line_length",
    "write_backlog",
    "requests_in_flight",
    "users_per_session",
    "login_attempts",
    "session_memory",
    "kept_blocks",
];
