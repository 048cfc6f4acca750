//! Raft's messages to its peers.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, StreamAppendError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use crate::engine::{AppendRequest, AppendResult, Node, Snapshot, Types, Vote};
use crate::handle::{NodeId, Timing};
use crate::peer::{
    Answer, Connection, Kind, Peer, Peers, RequestError, decode, encode, join_append,
};

/// Append requests on their way to one follower.
const WINDOW: usize = 32;
/// How long news of a commit alone may wait for entries to travel with. Nobody waits for it: the
/// leader answers, and a linearizable read asks. Under load it is a third of all messages.
const COMMIT_NEWS: Duration = Duration::from_millis(2);
/// Bytes of a snapshot in one frame.
pub(crate) const SNAPSHOT_PART: usize = 1 << 20;

/// Makes the clients that Raft asks for.
pub(crate) struct Factory {
    me: NodeId,
    peers: Arc<Peers>,
    timing: Timing,
    streams: Arc<AtomicU64>,
}

impl Factory {
    pub(crate) fn new(me: NodeId, peers: Arc<Peers>, timing: &Timing) -> Self {
        Self { me, peers, timing: *timing, streams: Arc::new(AtomicU64::new(1)) }
    }

    fn client(&self, target: NodeId, node: &Node, heartbeat: bool) -> Client {
        Client {
            me: self.me,
            peer: self.peers.at(target, node),
            heartbeat,
            timing: self.timing,
            streams: self.streams.clone(),
        }
    }
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, node: &Node) -> Client {
        self.client(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Node) -> Client {
        self.client(target, node, true)
    }
}

/// Talks to one peer. Several clients of a peer share its connections.
pub(crate) struct Client {
    me: NodeId,
    peer: Arc<Peer>,
    /// Heartbeats do not wait behind log entries.
    heartbeat: bool,
    timing: Timing,
    streams: Arc<AtomicU64>,
}

type RpcError = RPCError<Types>;

impl Client {
    async fn request<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        request: &Q,
        limit: Duration,
    ) -> Result<A, RpcError> {
        let answer = self
            .peer
            .request(kind, &encode(request), limit)
            .await
            .map_err(|error| self.rpc_error(kind, error))?;
        decode(&answer).map_err(|reason| RPCError::Network(NetworkError::from_string(reason)))
    }

    fn rpc_error(&self, kind: Kind, error: RequestError) -> RpcError {
        match error {
            // `Unreachable` makes Raft pause before it tries again.
            RequestError::Unreachable(..) | RequestError::Refused(_) | RequestError::Busy(_) => {
                RPCError::Unreachable(Unreachable::from_string(error))
            }
            RequestError::Lost(_) => RPCError::Network(NetworkError::from_string(error)),
            RequestError::TimedOut(_) => RPCError::Timeout(Timeout {
                action: match kind {
                    Kind::Vote | Kind::PreVote => RPCTypes::Vote,
                    Kind::SnapshotBegin | Kind::SnapshotPart | Kind::SnapshotEnd => {
                        RPCTypes::InstallSnapshot
                    }
                    _ => RPCTypes::AppendEntries,
                },
                id: self.me,
                target: self.peer.id,
                timeout: Duration::ZERO,
            }),
        }
    }

    async fn beat(
        &self,
        request: AppendRequest,
        limit: Duration,
    ) -> Result<AppendResult, RpcError> {
        let (vote, sent) = (request.vote, self.peer.confirmed.lock().up_to(&request.vote));
        let result = self.request(Kind::Heartbeat, &request, limit).await?;
        self.judge(vote, sent, result)
    }

    /// Notes what a follower confirms, and refuses one that has lost what it had confirmed.
    fn judge(
        &self,
        vote: Vote,
        confirmed_when_sent: u64,
        result: AppendResult,
    ) -> Result<AppendResult, RpcError> {
        let mut confirmed = self.peer.confirmed.lock();
        match confirmed.judge(vote, confirmed_when_sent, &result) {
            Ok(()) => Ok(result),
            Err(lost) => {
                if lost.is_new {
                    tracing::error!(peer = %self.peer.name(), %lost, "a member's disk cannot be trusted");
                }
                Err(RPCError::Unreachable(Unreachable::from_string(lost)))
            }
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, RpcError> {
        let total = snapshot.snapshot.len() as u64;
        let limit = Duration::from_secs(30);
        let transfer: u64 =
            self.request(Kind::SnapshotBegin, &(vote, &snapshot.meta, total), limit).await?;
        let connection = self
            .peer
            .connection(Kind::SnapshotPart)
            .await
            .map_err(|error| self.rpc_error(Kind::SnapshotPart, error))?;
        let failed = |error| self.rpc_error(Kind::SnapshotPart, error);
        let mut waiting: VecDeque<Answer> = VecDeque::new();
        for (i, part) in snapshot.snapshot.chunks(SNAPSHOT_PART).enumerate() {
            let mut body = Vec::with_capacity(16 + part.len());
            body.extend_from_slice(&transfer.to_le_bytes());
            body.extend_from_slice(&((i * SNAPSHOT_PART) as u64).to_le_bytes());
            body.extend_from_slice(part);
            waiting.push_back(connection.send(Kind::SnapshotPart, &body).map_err(failed)?);
            if waiting.len() > 4
                && let Some(oldest) = waiting.pop_front()
            {
                in_time(oldest, limit, self.peer.name()).await.map_err(failed)?;
            }
        }
        for answer in waiting {
            in_time(answer, limit, self.peer.name()).await.map_err(failed)?;
        }
        let checksum = crc32c::crc32c(&snapshot.snapshot);
        self.request(Kind::SnapshotEnd, &(transfer, checksum), crate::engine::SNAPSHOT_TIMEOUT)
            .await
    }
}

async fn in_time(answer: Answer, limit: Duration, name: String) -> Result<Bytes, RequestError> {
    tokio::time::timeout(limit, answer).await.unwrap_or(Err(RequestError::TimedOut(name)))
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        Ok(match self.beat(request, option.hard_ttl()).await? {
            Ok(_) => AppendEntriesResponse::Success,
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + Send + Unpin + 'static,
    {
        let client = &*self;
        async move {
            if client.heartbeat {
                let limit = option.hard_ttl();
                return Ok(input.then(move |request| client.beat(request, limit)).boxed());
            }
            let stream = Pipeline {
                client,
                connection: None,
                stream: client.streams.fetch_add(1, Ordering::Relaxed),
                input: Some(input),
                news: None,
                waiting: VecDeque::new(),
            };
            Ok(futures::stream::unfold(Some(stream), Pipeline::step).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.request(Kind::Vote, &request, self.timing.election_min / 2).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.request(Kind::PreVote, &request, self.timing.election_min / 2).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut cancel = std::pin::pin!(cancel);
        tokio::select! {
            biased;
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        self.request(Kind::TransferLeader, &request, self.timing.election_min / 2).await
    }
}

/// Log entries to one follower, several requests on their way at once.
struct Pipeline<'s, S> {
    client: &'s Client,
    /// Made for the first request, not before: it is in making that request that Raft waits before
    /// it tries an unreachable peer again.
    connection: Option<Arc<Connection>>,
    stream: u64,
    input: Option<S>,
    /// A request without entries that may wait until then. The next one says what it says and more,
    /// and its answer answers both.
    news: Option<(AppendRequest, Instant)>,
    waiting: VecDeque<Sent>,
}

/// A request on its way.
struct Sent {
    answer: Answer,
    vote: Vote,
    /// What the follower had confirmed when this was sent.
    confirmed: u64,
}

impl<'s, S: Stream<Item = AppendRequest> + Send + Unpin> Pipeline<'s, S> {
    async fn step(state: Option<Self>) -> Option<(Result<AppendResult, RpcError>, Option<Self>)> {
        let mut this = state?;
        loop {
            let may_send = this.waiting.len() < WINDOW;
            if this.input.is_none() && this.waiting.is_empty() && this.news.is_none() {
                return None;
            }
            let due = match (&this.news, may_send) {
                (Some((_, at)), true) => sleep_until(*at).left_future(),
                _ => futures::future::pending().right_future(),
            };
            let next = match (&mut this.input, may_send) {
                (Some(input), true) => input.next().map(Some).left_future(),
                _ => futures::future::pending().right_future(),
            };
            let answer = match this.waiting.front_mut() {
                Some(front) => {
                    let answer = &mut front.answer;
                    tokio::time::timeout(this.client.timing.append(), answer)
                        .map(Some)
                        .left_future()
                }
                None => futures::future::pending().right_future(),
            };
            tokio::select! {
                biased;
                answer = answer => {
                    let sent = this.waiting.pop_front();
                    let answer = match answer {
                        Some(Ok(answer)) => answer,
                        _ => Err(RequestError::TimedOut(this.client.peer.name())),
                    };
                    let result = answer
                        .map_err(|error| this.client.rpc_error(Kind::Append, error))
                        .and_then(|body| {
                            decode::<AppendResult>(&body).map_err(|reason| {
                                RPCError::Network(NetworkError::from_string(reason))
                            })
                        })
                        .and_then(|result| match sent {
                            Some(sent) => this.client.judge(sent.vote, sent.confirmed, result),
                            None => Ok(result),
                        });
                    // After a conflict, a higher vote or an error the stream is over.
                    let rest = matches!(result, Ok(Ok(_))).then_some(this);
                    return Some((result, rest));
                }
                request = next => {
                    let Some(request) = request.flatten() else {
                        this.input = None;
                        // Nothing follows that it could travel with.
                        if let Some((_, at)) = &mut this.news {
                            *at = Instant::now();
                        }
                        continue;
                    };
                    // The first of a stream asks where the follower's log ends: that does not wait.
                    if request.entries.is_empty() && this.connection.is_some() {
                        let at = this.news.take().map_or(Instant::now() + COMMIT_NEWS, |(_, at)| at);
                        this.news = Some((request, at));
                        continue;
                    }
                    this.news = None;
                    if let Err(error) = this.send(&request).await {
                        return Some((Err(error), None));
                    }
                }
                () = due => {
                    if let Some((request, _)) = this.news.take()
                        && let Err(error) = this.send(&request).await
                    {
                        return Some((Err(error), None));
                    }
                }
            }
        }
    }

    /// Puts a request on its way.
    async fn send(&mut self, request: &AppendRequest) -> Result<(), RpcError> {
        let failed = |error| self.client.rpc_error(Kind::Append, error);
        let connection = match &self.connection {
            Some(connection) => connection,
            None => {
                let connection = self.client.peer.connection(Kind::Append).await.map_err(failed)?;
                self.connection.insert(connection)
            }
        };
        let confirmed = self.client.peer.confirmed.lock().up_to(&request.vote);
        let body = join_append(self.stream, request);
        let answer = connection.send(Kind::Append, &body).map_err(failed)?;
        self.waiting.push_back(Sent { answer, vote: request.vote, confirmed });
        Ok(())
    }
}
