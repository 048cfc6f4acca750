//! Handing all sessions over: what is going on, and what was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::node::Node;

/// The drains of this process.
#[derive(Default)]
pub struct Drain {
    records: Mutex<VecDeque<Record>>,
}

/// One drain, as `/v1/status` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Who drained.
    pub name: String,
    /// Unix seconds.
    pub started: f64,
    /// Unix seconds; none while it goes on.
    pub ended: Option<f64>,
    /// Sessions at its start.
    pub sessions: i64,
    /// Sessions now, or at its end.
    pub left: i64,
    /// Moves that did not happen are the proxy's to count.
    pub recoverable: u64,
    /// As `recoverable`.
    pub lost: u64,
    #[serde(skip)]
    is_over: bool,
}

impl Drain {
    /// Whether sessions are to be handed over: until it is undone.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.records.lock().front().is_some_and(|record| !record.is_over)
    }

    /// Begins one; false if one goes on.
    pub(crate) fn begin(&self, clock: &Clock, metrics: &Metrics) -> bool {
        let mut records = self.records.lock();
        if records.front().is_some_and(|record| !record.is_over) {
            return false;
        }
        let sessions = metrics.live_sessions();
        records.push_front(Record {
            name: String::new(),
            started: seconds(clock),
            ended: None,
            sessions,
            left: sessions,
            recoverable: 0,
            lost: 0,
            is_over: false,
        });
        records.truncate(MAX_RECORDS);
        metrics.draining.set(1);
        metrics.drain_sessions.set(sessions);
        true
    }

    /// Calls it off, or takes sessions again after it; false if there is none.
    pub(crate) fn undo(&self, clock: &Clock, metrics: &Metrics) -> bool {
        let mut records = self.records.lock();
        let Some(record) = records.front_mut().filter(|record| !record.is_over) else {
            return false;
        };
        if record.ended.is_none() {
            record.ended = Some(seconds(clock));
            metrics.drains.get_or_create(&[("result", "undone")]).inc();
        }
        record.is_over = true;
        metrics.draining.set(0);
        metrics.drain_sessions.set(0);
        true
    }

    /// Looks how far it is. True once nobody is left.
    pub fn update(&self, clock: &Clock, metrics: &Metrics) -> bool {
        let mut records = self.records.lock();
        let Some(record) = records.front_mut().filter(|record| record.ended.is_none()) else {
            return true;
        };
        record.left = metrics.live_sessions();
        metrics.drain_sessions.set(record.left);
        if record.left > 0 {
            return false;
        }
        let now = seconds(clock);
        record.ended = Some(now);
        metrics.drains.get_or_create(&[("result", "done")]).inc();
        metrics.drain_seconds.observe((now - record.started).max(0.0));
        true
    }

    /// The newest first, under this node's name.
    #[must_use]
    pub fn records(&self, name: &str) -> Vec<Record> {
        let named = |record: &Record| Record { name: name.to_owned(), ..record.clone() };
        self.records.lock().iter().map(named).collect()
    }
}

/// Once all sessions are handed over, gives up the leadership, so that whoever drains a node may
/// then stop it or take it out of the cluster.
pub async fn give_up_leadership(node: Arc<Node>) {
    while !node.drain.update(&node.clock, &node.metrics) {
        tokio::time::sleep(POLL).await;
    }
    if node.drain.is_draining() {
        give_up_leadership_now(&node).await;
    }
}

/// Gives up the leadership, if this node has it and there is someone to take it.
pub async fn give_up_leadership_now(node: &Node) {
    let Some(cluster) = node.cluster.get() else { return };
    let leads = node.view().is_some_and(|view| {
        view.is_leader() && view.members.iter().filter(|member| member.voter).count() > 1
    });
    if leads {
        match cluster.transfer_leadership(TRANSFER_PATIENCE).await {
            Ok(()) => tracing::info!("leadership given up"),
            Err(error) => tracing::warn!(%error, "leadership could not be given up"),
        }
    }
}

fn seconds(clock: &Clock) -> f64 {
    clock.unix_millis() as f64 / 1_000.0
}

/// For the next leader to be found.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked whether everyone left.
const POLL: Duration = Duration::from_millis(100);

/// As many as the status document shows, and one that goes on.
const MAX_RECORDS: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_when_nobody_is_left_and_can_be_undone() {
        let (drain, clock, metrics) = (Drain::default(), Clock::manual(1_000), Metrics::new());
        metrics.session_opened("direct", "fresh");
        assert!(drain.begin(&clock, &metrics) && !drain.begin(&clock, &metrics));
        assert!(drain.is_draining() && !drain.update(&clock, &metrics));
        metrics.session_closed("direct", "drain");
        clock.advance(1_500);
        assert!(drain.update(&clock, &metrics) && drain.is_draining());
        let records = drain.records("n");
        assert_eq!((records[0].sessions, records[0].left, records[0].ended), (1, 0, Some(2.5)));
        assert!(drain.undo(&clock, &metrics) && !drain.undo(&clock, &metrics));
        assert!(!drain.is_draining());
    }
}
