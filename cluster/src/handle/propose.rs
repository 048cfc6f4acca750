//! Getting a command into the log from any member: to the leader, again and again, until there is
//! an outcome or the deadline has passed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::engine::{Ledger, ProposeError, Raft, Standing};
use crate::handle::{Metrics, NodeId, Timing};
use crate::ledger::Outcome;
use crate::peer::{Kind, Peers, RequestError, decode, encode};
use crate::watch;

/// Proposes commands.
pub(crate) struct Proposer {
    raft: ArcSwapOption<Raft>,
    started: watch::Sender<bool>,
    pub(crate) ledger: Arc<Ledger>,
    peers: Arc<Peers>,
    timing: Timing,
    metrics: Arc<Metrics>,
}

/// What a leader answers to a forwarded request.
pub(crate) type Forwarded<T> = Result<T, ForwardError>;

/// Why a leader did not carry out a forwarded request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ForwardError {
    NotLeader(Option<NodeId>),
    NotYet,
    Unknown,
    Stopped(String),
}

/// No outcome within the deadline; the command may be committed or not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotCommitted(pub(crate) String);

impl Proposer {
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        peers: Arc<Peers>,
        timing: Timing,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            raft: ArcSwapOption::empty(),
            started: watch::Sender::new(false),
            ledger,
            peers,
            timing,
            metrics,
        }
    }

    /// From now on there is a Raft node.
    pub(crate) fn start(&self, raft: Raft) {
        self.raft.store(Some(Arc::new(raft)));
        self.started.send_replace(true);
    }

    /// The Raft node, once there is one.
    pub(crate) fn raft(&self) -> Option<Arc<Raft>> {
        self.raft.load_full()
    }

    /// Ends when there is a Raft node.
    pub(crate) async fn wait_for_raft(&self) -> Arc<Raft> {
        let mut started = self.started.subscribe();
        loop {
            if let Some(raft) = self.raft() {
                return raft;
            }
            if started.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Proposes an encoded command until it has an outcome.
    pub(crate) async fn propose(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Outcome, NotCommitted> {
        self.repeat(deadline, |raft, leader| {
            let command = command.clone();
            async move {
                match leader {
                    None => Ok(raft.propose(command).await?),
                    Some(leader) => self.forward(leader, Kind::Propose, &command, deadline).await,
                }
            }
        })
        .await
    }

    /// Ends when everything that was committed before this call has been applied here.
    pub(crate) async fn read_linearizable(&self, deadline: Instant) -> Result<(), NotCommitted> {
        let index: u64 = self
            .repeat(deadline, |raft, leader| async move {
                match leader {
                    None => Ok(raft.read_index().await?),
                    Some(leader) => self.forward(leader, Kind::ReadIndex, &[], deadline).await,
                }
            })
            .await?;
        let mut applied = self.ledger.applied();
        match timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(NotCommitted("this node has not caught up with the log yet".into())),
        }
    }

    /// Makes attempts at whoever leads. The leader is `None` when it is this node.
    async fn repeat<T, F: Future<Output = Result<T, Attempt>>>(
        &self,
        deadline: Instant,
        attempt: impl Fn(Arc<Raft>, Option<NodeId>) -> F,
    ) -> Result<T, NotCommitted> {
        let mut reason = "this node belongs to no cluster yet".to_owned();
        let mut tries = 0;
        while Instant::now() < deadline {
            tries += 1;
            if tries > 1 {
                self.metrics.batch_retries.increment();
            }
            let Ok(raft) = timeout_at(deadline, self.wait_for_raft()).await else { break };
            let mut standing = raft.standing();
            let (me, leader) = {
                let now = standing.borrow_and_update();
                (now.me, now.leader)
            };
            let Some(leader) = leader else {
                reason = "there is no leader: the cluster has no quorum".into();
                let soon = deadline.min(Instant::now() + self.timing.ask());
                let _ = timeout_at(soon, standing.changed()).await;
                continue;
            };
            let target = (leader != me).then_some(leader);
            // An attempt at a leader that is gone would wait for its deadline: a new one ends it.
            let outcome = tokio::select! {
                biased;
                outcome = timeout_at(deadline, attempt(raft.clone(), target)) => outcome,
                () = replaced(&mut standing, leader) => {
                    reason = "the leader changed".into();
                    continue;
                }
            };
            match outcome {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(Attempt::Final(error))) => return Err(NotCommitted(error)),
                Ok(Err(Attempt::Again(error))) => reason = error,
                Err(_) => {
                    reason = "no quorum confirmed it in time".into();
                    break;
                }
            }
            sleep(self.timing.retry().min(deadline.saturating_duration_since(Instant::now())))
                .await;
        }
        Err(NotCommitted(reason))
    }

    async fn forward<T: serde::de::DeserializeOwned>(
        &self,
        leader: NodeId,
        kind: Kind,
        body: &[u8],
        deadline: Instant,
    ) -> Result<T, Attempt> {
        let Some(peer) = self.peers.find(leader) else {
            return Err(Attempt::Again(format!("the leader, {leader}, is not known yet")));
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = peer.request(kind, body, limit).await.map_err(|error| match error {
            RequestError::Refused(reason) => Attempt::Again(reason),
            error => Attempt::Again(error.to_string()),
        })?;
        let answer: Forwarded<T> = decode(&answer).map_err(Attempt::Again)?;
        answer.map_err(|error| Attempt::Again(ProposeError::from(error).to_string()))
    }
}

/// How an attempt failed.
enum Attempt {
    Again(String),
    Final(String),
}

impl From<ProposeError> for Attempt {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Stopped(reason) => Attempt::Final(reason),
            error => Attempt::Again(error.to_string()),
        }
    }
}

impl From<ForwardError> for ProposeError {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::NotLeader(leader) => Self::NotLeader(leader),
            ForwardError::NotYet => Self::NotYet,
            ForwardError::Unknown => Self::Unknown,
            ForwardError::Stopped(reason) => Self::Stopped(reason),
        }
    }
}

impl From<ProposeError> for ForwardError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader(leader) => Self::NotLeader(leader),
            ProposeError::NotYet => Self::NotYet,
            ProposeError::Unknown => Self::Unknown,
            ProposeError::Stopped(reason) => Self::Stopped(reason),
        }
    }
}

/// Encodes a leader's answer.
pub(crate) fn forwarded<T: Serialize>(result: Result<T, ProposeError>) -> Bytes {
    Bytes::from(encode(&result.map_err(ForwardError::from)))
}

async fn replaced(standing: &mut watch::Receiver<Standing>, leader: NodeId) {
    let other = |now: &Standing| now.leader.is_some_and(|now| now != leader);
    if standing.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}
