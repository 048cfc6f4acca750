//! Jobs on their way to the peers: in parallel, each peer at its own pace, the newest win.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::handle::{Metrics, NodeId};
use crate::peer::{Kind, Peer};

/// Jobs that may wait for one slow peer.
const WAITING_JOBS: usize = 8;
/// A peer that takes longer for a job loses it.
const JOB_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to send it.
const JOB_RETRY: Duration = Duration::from_millis(50);

/// Sends jobs.
pub(crate) struct Exchange {
    lanes: Mutex<BTreeMap<NodeId, Arc<Lane>>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Lane {
    state: Mutex<LaneState>,
}

#[derive(Default)]
struct LaneState {
    waiting: VecDeque<Bytes>,
    sending: bool,
}

impl Exchange {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { lanes: Mutex::default(), metrics }
    }

    /// Queues a job for each of these peers. `spawn` runs the senders.
    pub(crate) fn publish(
        &self,
        package: &Bytes,
        peers: Vec<Arc<Peer>>,
        spawn: impl Fn(futures::future::BoxFuture<'static, ()>),
    ) {
        let mut lanes = self.lanes.lock();
        lanes.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        for peer in peers {
            let lane = lanes.entry(peer.id).or_default().clone();
            let idle = {
                let mut state = lane.state.lock();
                if state.waiting.len() == WAITING_JOBS {
                    state.waiting.pop_front();
                    self.metrics.jobs_superseded.increment();
                }
                state.waiting.push_back(package.clone());
                !std::mem::replace(&mut state.sending, true)
            };
            if idle {
                spawn(Box::pin(send(lane, peer, self.metrics.clone())));
            }
        }
    }
}

/// Sends a job until it is there: a peer that is just coming up refuses at first, and would refuse
/// the shares of a job that it never got.
async fn deliver(peer: &Arc<Peer>, package: &Bytes) {
    while let Err(error) = peer.request(Kind::Job, package, JOB_TIMEOUT).await {
        tracing::debug!(peer = %peer.name(), %error, "job not sent yet");
        sleep(JOB_RETRY).await;
    }
}

async fn send(lane: Arc<Lane>, peer: Arc<Peer>, metrics: Arc<Metrics>) {
    loop {
        let next = {
            let mut state = lane.state.lock();
            let next = state.waiting.pop_front();
            state.sending = next.is_some();
            next
        };
        let Some(package) = next else { return };
        let delivered = timeout(JOB_TIMEOUT, deliver(&peer, &package)).await;
        match delivered {
            Ok(()) => metrics.jobs_sent.increment(),
            Err(_) => tracing::debug!(peer = %peer.name(), "job not sent"),
        }
    }
}
