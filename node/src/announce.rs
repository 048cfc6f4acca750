//! Our jobs on their way to the peers, and once more to a peer that was not there.
//!
//! A session that moves brings work of the node it comes from. A peer that starts, or was cut off,
//! missed that node's jobs, and would refuse their shares: so whenever a peer comes into reach, the
//! jobs that may still be worked on are sent again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use seam_cluster::{Cluster, ClusterView, NodeId};

use crate::clock::Clock;

/// Sends jobs, and remembers the newest.
pub struct Announcer {
    cluster: Cluster,
    clock: Clock,
    recent: Mutex<VecDeque<(u64, Bytes)>>,
}

impl Announcer {
    /// Sends to this cluster's members.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Clock) -> Arc<Self> {
        Arc::new(Self { cluster, clock, recent: Mutex::default() })
    }

    /// Sends a new job to all peers; does not wait.
    pub fn publish(&self, package: Bytes) {
        remember(&mut self.recent.lock(), self.clock.monotonic_millis(), package.clone());
        self.cluster.publish_job(package);
    }

    /// Sends the jobs again whenever a peer comes into reach, for as long as it is polled.
    pub async fn repeat(self: Arc<Self>) {
        let mut view = self.cluster.view();
        let mut reached = BTreeSet::new();
        loop {
            let now = connections(&view.borrow_and_update());
            if now.difference(&reached).next().is_some() {
                let now = self.clock.monotonic_millis();
                let recent: Vec<Bytes> = live(&self.recent.lock(), now).cloned().collect();
                for package in recent {
                    self.cluster.publish_job(package);
                }
            }
            reached = now;
            if view.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The connections that stand. A peer that starts again within a moment is known by its new one.
fn connections(view: &ClusterView) -> BTreeSet<(NodeId, u64)> {
    let members = view.members.iter();
    members.filter_map(|member| Some((member.id, member.connection?))).collect()
}

fn remember(recent: &mut VecDeque<(u64, Bytes)>, now: u64, package: Bytes) {
    if recent.len() == MAX_RECENT {
        recent.pop_front();
    }
    recent.push_back((now, package));
}

fn live(recent: &VecDeque<(u64, Bytes)>, now: u64) -> impl Iterator<Item = &Bytes> {
    let young = move |at: u64| now.saturating_sub(at) <= WORKED_ON_MILLIS;
    recent.iter().filter(move |(at, _)| young(*at)).map(|(_, package)| package)
}

/// As many as the cluster queues for one peer.
const MAX_RECENT: usize = 8;

/// Miners get new work at least every minute: older work is hardly ever submitted.
const WORKED_ON_MILLIS: u64 = 180_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_jobs_are_kept_in_order_and_old_ones_are_not_sent_again() {
        let mut recent = VecDeque::new();
        for number in 0..12_u8 {
            remember(&mut recent, u64::from(number) * 60_000, Bytes::copy_from_slice(&[number]));
        }
        assert_eq!(recent.len(), MAX_RECENT);
        let sent: Vec<u8> = live(&recent, 11 * 60_000).map(|package| package[0]).collect();
        assert_eq!(sent, [8, 9, 10, 11]);
    }
}
