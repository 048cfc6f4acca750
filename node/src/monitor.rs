//! Looks once a second at what nobody reports by itself.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::fault::Code;
use crate::history::{INTERVAL_SECONDS, Sample};
use crate::metrics::{Metrics, ShareAnswer};
use crate::node::Node;
use crate::preflight::tls_files;

/// Runs until the node ends.
pub async fn watch(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut work = VecDeque::new();
    let mut certificates = Certificates::new(tls_files(&node.config));
    let mut told = 0;
    for second in 0u64.. {
        ticks.tick().await;
        look_at_chain(&node).await;
        if second % DOWNLOAD_LINE_SECONDS == 0 {
            tell_of_download(&node);
        }
        let metrics = &node.metrics;
        let conditions = node.conditions();
        for (condition, holds) in conditions {
            metrics.ready_condition.get_or_create(&[("condition", condition)]).set(holds.into());
        }
        metrics.ready.set(node.is_ready().into());
        leave_a_failed_ledger(&node);
        node.drain.update(&node.clock, metrics);
        look_at_queues(&node);
        measure_hashrate(&node, &mut work);
        if let Some(cluster) = node.cluster.get() {
            cluster.tell_peers(node.pulse().encode().into());
        }
        if let Some(pool) = node.pool.get() {
            metrics.banned_addresses.set(pool.addresses.banned() as i64);
            metrics.jobs_live.set(pool.jobs.live() as i64);
            if second % SWEEP_SECONDS == 0 {
                pool.registry.sweep();
            }
        }
        if second % INTERVAL_SECONDS == 0 {
            metrics.disk_free_bytes.set(free_bytes(&node.config.data_dir) as i64);
            certificates.look(metrics);
            look_at_outbox(&node);
            told = tell_of_unacknowledged(&node.metrics, told);
            sample(&node);
        }
    }
}

/// This process counts no share any more: its miners are better off on another node. Its Core goes on.
fn leave_a_failed_ledger(node: &Node) {
    if node.view().is_some_and(|view| view.failed.is_some()) && !node.drain.is_draining() {
        tracing::error!(code = %Code::LedgerFailed, "sessions are handed over: the ledger failed");
        node.begin_drain();
    }
}

/// What a process without privileges may still write where `path` is; 0 if it cannot be told.
fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A block of ours that waits for a quorum is a file there.
fn look_at_outbox(node: &Node) {
    let Ok(files) = std::fs::read_dir(node.config.data_dir.join("outbox")) else { return };
    let ages: Vec<u64> = files
        .filter_map(Result::ok)
        .filter(|file| file.path().extension().is_some_and(|end| end == "block"))
        .filter_map(|file| file.metadata().ok()?.modified().ok()?.elapsed().ok())
        .map(|age| age.as_secs())
        .collect();
    node.metrics.outbox_blocks.set(ages.len() as i64);
    let oldest = ages.iter().max().copied().unwrap_or(0);
    node.metrics.outbox_oldest_seconds.set(oldest as i64);
}

/// How full the way of a share into the ledger is.
fn look_at_queues(node: &Node) {
    let Some(cluster) = node.cluster.get() else { return };
    let (counted, bounds) = (cluster.metrics(), seam_cluster::Limits::default());
    let queued = counted.shares_queued.value();
    let done = counted.shares_answered.value() + counted.shares_unavailable.value() + queued;
    // Read one after the other while shares pass: never less than nothing.
    let in_flight = counted.shares_submitted.value().saturating_sub(done);
    node.metrics.queue("submit", queued as usize, bounds.queued_shares);
    node.metrics.queue(
        "commit",
        in_flight as usize,
        bounds.batch_shares * bounds.batches_in_flight,
    );
}

async fn look_at_chain(node: &Node) {
    let Some(core) = node.core.get().cloned() else { return };
    // Core answers once it has validated the block that it is at.
    let Ok(Ok(status)) = tokio::task::spawn_blocking(move || core.status()).await else { return };
    let metrics = &node.metrics;
    metrics.chain_height.set(i64::from(status.tip.height));
    metrics.chain_headers.set(i64::from(status.headers_height));
    metrics.chain_tip_timestamp.set(i64::from(status.tip.time));
    metrics.chain_initial_download.set(status.initial_block_download.into());
    metrics.chain_sync_ratio.set(status.verification_progress.clamp(0.0, 1.0));
    let peers = |direction| metrics.chain_peers.get_or_create(&[("direction", direction)]).clone();
    peers("inbound").set(i64::from(status.peers_inbound));
    peers("outbound").set(i64::from(status.peers_outbound));
    metrics.mempool_transactions.set(status.mempool_transactions as i64);
    metrics.mempool_bytes.set(status.mempool_bytes as i64);
    *node.chain.lock() = Some(status);
}

/// A node that downloads the chain does nothing else for days: its log says how far it is.
fn tell_of_download(node: &Node) {
    let status = node.chain.lock();
    let Some(status) = status.as_ref().filter(|status| status.initial_block_download) else {
        return;
    };
    if node.config.bitcoin.chain.is_private() {
        return;
    }
    tracing::info!(
        height = status.tip.height,
        headers = status.headers_height,
        percent = format!("{:.2}", 100.0 * status.verification_progress),
        "downloading the chain; miners may come when it is done"
    );
}

/// Says how many shares were given up on since it was looked last: once for all of them, and not
/// once for each miner. Returns how many there were in all.
fn tell_of_unacknowledged(metrics: &Metrics, told: u64) -> u64 {
    let all = metrics.shares_answered(ShareAnswer::NoQuorum);
    if all > told {
        let shares = all - told;
        tracing::error!(code = %Code::NoQuorum, shares, "shares could not be committed in time");
    }
    all
}

/// Work of the last minute, over that minute.
fn measure_hashrate(node: &Node, work: &mut VecDeque<(u64, u64)>) {
    let now = node.clock.monotonic_millis();
    work.push_back((now, node.metrics.share_work.get()));
    while work.front().is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW_MILLIS) {
        work.pop_front();
    }
    let (Some((from, before)), Some((to, after))) = (work.front(), work.back()) else { return };
    let seconds = to.saturating_sub(*from) as f64 / 1_000.0;
    let hashrate = if seconds > 0.0 { after.wrapping_sub(*before) as f64 / seconds } else { 0.0 };
    node.set_hashrate(hashrate);
}

fn sample(node: &Node) {
    let (accepted, rejected) = counts(&node.metrics);
    node.history.add(Sample(
        node.clock.unix_millis() / 1_000,
        node.metrics.live_sessions(),
        node.hashrate(),
        accepted,
        rejected,
    ));
}

fn counts(metrics: &Metrics) -> (u64, u64) {
    ShareAnswer::ALL.iter().fold((0, 0), |(accepted, rejected), answer| {
        let count = metrics.shares_answered(*answer);
        if answer.labels().0 == "accepted" {
            (accepted + count, rejected)
        } else {
            (accepted, rejected + count)
        }
    })
}

const TICK: Duration = Duration::from_secs(1);

/// The hashrate is that of the last minute.
const WINDOW_MILLIS: u64 = 60_000;

/// How often the log says how far the initial block download is.
const DOWNLOAD_LINE_SECONDS: u64 = 60;

/// How often parked sessions are looked through.
const SWEEP_SECONDS: u64 = 30;
