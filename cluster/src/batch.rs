//! Shares become proposals. No timer: what arrives while batches are on their way to a commit is
//! the next batch, so that batches are small when there is little to do and large when there is
//! much.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::handle::{Completion, Full, Host, Limits, Metrics, Proposer, Unavailable};
use crate::ledger::{Command, MAX_BATCH, Outcome, Share};

/// Shares on their way into the ledger.
pub(crate) struct Batcher {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    room: Notify,
    limits: Limits,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    shares: Vec<Share>,
    /// Who waits for them, in the same order.
    askers: Vec<Asker>,
    closed: bool,
}

struct Asker {
    to: Arc<dyn Completion>,
    token: u64,
    since: Instant,
}

impl Batcher {
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            room: Notify::new(),
            limits,
            metrics,
        }
    }

    /// Takes a share, or refuses it when too many wait.
    pub(crate) fn submit(
        &self,
        share: Share,
        to: Arc<dyn Completion>,
        token: u64,
    ) -> Result<(), Full> {
        let first = {
            let mut waiting = self.waiting.lock();
            if waiting.closed || waiting.shares.len() >= self.limits.queued_shares {
                self.metrics.shares_refused_full.increment();
                return Err(Full);
            }
            waiting.shares.push(share);
            waiting.askers.push(Asker { to, token, since: Instant::now() });
            waiting.shares.len() == 1
        };
        self.metrics.shares_submitted.increment();
        if first {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Ends when `submit` would take a share.
    pub(crate) async fn has_room(&self) {
        loop {
            let freed = self.room.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            {
                let waiting = self.waiting.lock();
                if waiting.closed || waiting.shares.len() < self.limits.queued_shares {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Proposes batches until told to stop; then everything that waits is `Unavailable`.
    pub(crate) async fn run(
        self: Arc<Self>,
        proposer: Arc<Proposer>,
        host: Arc<dyn Host>,
        deadline: Duration,
        stop: CancellationToken,
    ) {
        let in_flight = Arc::new(Semaphore::new(self.limits.batches_in_flight));
        loop {
            let next = async {
                let permit = in_flight.clone().acquire_owned().await.ok()?;
                Some((permit, self.take().await))
            };
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                next = next => next,
            };
            let Some((permit, (shares, askers))) = next else { break };
            self.metrics.batches.increment();
            let proposer = proposer.clone();
            let metrics = self.metrics.clone();
            let time = (host.now_ms() / 1_000) as u32;
            tokio::spawn(async move {
                commit(&proposer, &metrics, time, shares, askers, deadline).await;
                drop(permit);
            });
        }
        let left = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.askers)
        };
        answer(left, |_| Err(Unavailable));
        self.room.notify_waiters();
    }

    async fn take(&self) -> (Vec<Share>, Vec<Asker>) {
        let most = self.limits.batch_shares.min(MAX_BATCH);
        loop {
            {
                let mut waiting = self.waiting.lock();
                if !waiting.shares.is_empty() {
                    let was_full = waiting.shares.len() >= self.limits.queued_shares;
                    let taken = match waiting.shares.len() <= most {
                        true => {
                            let like = waiting.shares.len();
                            (
                                std::mem::replace(&mut waiting.shares, Vec::with_capacity(like)),
                                std::mem::replace(&mut waiting.askers, Vec::with_capacity(like)),
                            )
                        }
                        false => {
                            // Some stay: nobody will announce them again.
                            self.arrived.notify_one();
                            (
                                waiting.shares.drain(..most).collect(),
                                waiting.askers.drain(..most).collect(),
                            )
                        }
                    };
                    self.metrics.shares_queued.set(waiting.shares.len() as u64);
                    drop(waiting);
                    if was_full {
                        self.room.notify_waiters();
                    }
                    return taken;
                }
            }
            self.arrived.notified().await;
            // Sessions that have a share at the same moment have it in the same batch.
            tokio::task::yield_now().await;
        }
    }
}

async fn commit(
    proposer: &Proposer,
    metrics: &Metrics,
    time: u32,
    shares: Vec<Share>,
    askers: Vec<Asker>,
    deadline: Duration,
) {
    let Some(oldest) = askers.first().map(|asker| asker.since) else { return };
    let count = shares.len();
    let command = Bytes::from(Command::Shares { time, batch: shares }.encode());
    let started = Instant::now();
    if crate::simulation::acknowledges_before_commit() {
        answer(askers, |_| Ok(crate::ledger::ShareOutcome::Counted));
        let _ = proposer.propose(command, oldest + deadline).await;
        return;
    }
    match proposer.propose(command, oldest + deadline).await {
        Ok(Outcome::Shares(outcomes)) if outcomes.len() == count => {
            metrics.commit_time.record(started.elapsed());
            metrics.shares_answered.add(count as u64);
            answer(askers, |i| Ok(outcomes[i]));
        }
        Ok(other) => {
            tracing::error!(?other, "the ledger refused a batch of shares");
            metrics.shares_unavailable.add(count as u64);
            answer(askers, |_| Err(Unavailable));
        }
        Err(error) => {
            tracing::warn!(%error, shares = count, "shares not committed in time");
            metrics.shares_unavailable.add(count as u64);
            answer(askers, |_| Err(Unavailable));
        }
    }
}

fn answer(
    askers: Vec<Asker>,
    outcome: impl Fn(usize) -> Result<crate::ledger::ShareOutcome, Unavailable>,
) {
    for (i, asker) in askers.iter().enumerate() {
        asker.to.complete(asker.token, outcome(i));
    }
    let mut flushed: Option<&Arc<dyn Completion>> = None;
    for asker in &askers {
        // Neighbours are often of one session.
        if flushed.is_none_or(|last| !Arc::ptr_eq(last, &asker.to)) {
            asker.to.flush();
            flushed = Some(&asker.to);
        }
    }
}
