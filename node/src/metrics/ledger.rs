//! What the cluster counts, asked at each scrape.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use seam_cluster::ledger::{State, Status};
use seam_cluster::{BUCKETS_US, Cluster, ClusterView, Histogram};

/// Encodes a [`Cluster`]'s metrics, once there is one.
#[derive(Clone, Default)]
pub(super) struct Collector {
    pub(super) cluster: Arc<OnceLock<Cluster>>,
    leader_changes: Arc<(AtomicU64, AtomicU64)>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(cluster) = self.cluster.get() else { return Ok(()) };
        let view = cluster.view().borrow().clone();
        let mut page = Page { encoder };
        self.membership(&mut page, &view)?;
        ledger(&mut page, cluster, &view)?;
        counted(&mut page, cluster)
    }
}

impl Collector {
    fn membership(&self, page: &mut Page<'_>, view: &ClusterView) -> fmt::Result {
        let voters = view.members.iter().filter(|member| member.voter);
        let (count, up) = voters
            .fold((0, 0), |(count, up), member| (count + 1, up + u64::from(member.reachable)));
        page.gauge("seam_raft_leader", "1 on the leader", view.is_leader().into())?;
        page.gauge(
            "seam_raft_quorum",
            "1 with a leader that a quorum confirms",
            view.quorum.into(),
        )?;
        page.gauge(
            "seam_raft_can_lose_one",
            "1 when any voter may stop",
            view.can_lose_one.into(),
        )?;
        page.gauge("seam_raft_term", "Current term", view.term)?;
        page.counter("seam_raft_leader_changes", "Changes of leader", self.leader_changes(view))?;
        page.gauge("seam_raft_voters", "Voters in the membership", count)?;
        page.gauge("seam_raft_voters_up", "Voters that this node reaches", up)?;
        let learners = view.members.len() as u64 - count;
        page.gauge("seam_raft_learners", "Learners in the membership", learners)?;
        let up = view.members.iter().map(|m| (m.name.clone(), u64::from(m.reachable)));
        page.gauges("seam_raft_member_up", "1 while that member answers", "member", up)?;
        let lag = view.members.iter().filter_map(|m| Some((m.name.clone(), m.lag?)));
        page.gauges("seam_raft_member_lag_entries", "Entries it lacks", "member", lag)
    }

    /// Counts a leader that is another than at the last look. 0 is no member's id.
    fn leader_changes(&self, view: &ClusterView) -> u64 {
        let (last, changes) = &*self.leader_changes;
        if let Some(leader) = view.leader {
            let before = last.swap(leader + 1, Ordering::Relaxed);
            if before != 0 && before != leader + 1 {
                changes.fetch_add(1, Ordering::Relaxed);
            }
        }
        changes.load(Ordering::Relaxed)
    }
}

fn ledger(page: &mut Page<'_>, cluster: &Cluster, view: &ClusterView) -> fmt::Result {
    let state = cluster.read(State::clone);
    page.gauge("seam_ledger_committed_index", "Last entry known to be committed", view.committed)?;
    page.gauge("seam_ledger_applied_index", "Last entry applied", view.applied)?;
    page.gauge("seam_ledger_failed", "1 when the store failed", view.failed.is_some().into())?;
    page.gauge("seam_ledger_users", "Users", state.users().len() as u64)?;
    page.gauge("seam_ledger_seen_hashes", "Share hashes remembered", state.seen().len() as u64)?;
    let total = state.rounds().current().table.total();
    page.gauge("seam_round_shares", "Shares in the current round", total.shares)?;
    let work = u64::try_from(total.work).unwrap_or(u64::MAX);
    page.gauge("seam_round_work", "Expected hashes of the current round", work)?;
    let mut blocks = [0u64; 4];
    for round in state.rounds().closed() {
        let place = match round.status {
            Status::Pending => 0,
            Status::Confirmed => 1,
            Status::Mature => 2,
            _ => 3,
        };
        blocks[place] += 1;
    }
    let names = ["pending", "confirmed", "mature", "orphaned"].map(str::to_owned);
    page.gauges(
        "seam_ledger_blocks",
        "Blocks in the ledger",
        "status",
        names.into_iter().zip(blocks),
    )
}

fn counted(page: &mut Page<'_>, cluster: &Cluster) -> fmt::Result {
    let m = cluster.metrics();
    page.counter("seam_password_checks", "Passwords hashed", m.password_checks.value())?;
    let jobs = [("sent", m.jobs_sent.value()), ("superseded", m.jobs_superseded.value())];
    page.counters("seam_peer_jobs_sent", "Jobs given to peers", "result", &jobs)?;
    page.histogram("seam_commit_seconds", "A batch's proposal to its outcome", &m.commit_time)?;
    page.counter("seam_batches", "Batches proposed", m.batches.value())?;
    page.counter("seam_batch_retries", "Batches proposed again", m.batch_retries.value())?;
    let shares = [
        ("answered", m.shares_answered.value()),
        ("unavailable", m.shares_unavailable.value()),
        ("full", m.shares_refused_full.value()),
    ];
    page.counters("seam_batch_shares", "Shares handed to the ledger", "result", &shares)?;
    page.gauge("seam_ledger_log_bytes", "Size of the log on disk", m.log_bytes.value())?;
    page.histogram("seam_log_sync_seconds", "One append of the log, synced", &m.sync_time)?;
    let snapshots =
        [("built", m.snapshots_built.value()), ("installed", m.snapshots_installed.value())];
    page.counters("seam_snapshots", "Snapshots", "result", &snapshots)?;
    page.gauge("seam_snapshot_bytes", "Size of the newest snapshot", m.snapshot_bytes.value())?;
    page.counter("seam_peer_bytes", "Bytes sent to other members", m.peer_bytes_sent.value())?;
    page.counter("seam_peer_connections", "Connections to members", m.connections_opened.value())?;
    page.counter("seam_peer_errors", "Requests to members that failed", m.peer_errors.value())?;
    page.counter("seam_peer_refused", "Cluster connections refused", m.connections_refused.value())
}

/// What is being written.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value as i64);
        gauge.encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, gauge) in values {
            let labels = [(label, value)];
            ConstGauge::new(gauge as i64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, counter) in values {
            let labels = [(label, *value)];
            ConstCounter::new(*counter).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut encoder =
            self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = BUCKETS_US
            .iter()
            .zip(histogram.cumulative())
            .map(|(bound, sum)| {
                let own = sum.saturating_sub(before);
                before = before.max(sum);
                (*bound as f64 / 1e6, own)
            })
            .collect();
        // Counters are read one by one while others count.
        let count = histogram.count().max(before);
        buckets.push((f64::INFINITY, count - before));
        let sum = histogram.sum_us() as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
