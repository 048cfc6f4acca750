//! What this member answers to the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::engine::{AppendRequest, Snapshot, SnapshotMeta, Vote};
use crate::handle::inner::Inner;
use crate::handle::propose::forwarded;
use crate::handle::{MAX_TRANSACTIONS_BYTES, NodeId};
use crate::member::{EnrolRequest, JoinRequest, MembershipRequest};
use crate::peer::{
    AppendLane, Hello, Kind, Outbox, Remote, Service, Stream, WIRE_VERSION, Welcome, decode, encode,
};
use crate::tls::Identity;

/// Bytes of a snapshot that a peer may send.
const MAX_SNAPSHOT: u64 = 4 << 30;

/// Snapshots that are arriving, by sender: a sender that begins again replaces its own.
#[derive(Default)]
pub(crate) struct Arriving(Mutex<BTreeMap<String, Transfer>>);

struct Transfer {
    number: u64,
    vote: Vote,
    meta: SnapshotMeta,
    total: u64,
    bytes: BytesMut,
}

impl Service for Inner {
    fn welcome(&self, identity: &Identity, hello: &Hello) -> Result<Welcome, String> {
        if let Some(to) = &hello.to
            && *to != self.config.name
        {
            return Err(format!("this is {:?}, not {to:?}", self.config.name));
        }
        let seat = self.seat.read().clone();
        let cluster = seat.as_ref().map(|seat| seat.cluster);
        if let (Some(theirs), Some(ours)) = (hello.cluster, cluster)
            && theirs != ours
        {
            return Err(format!(
                "{:?} belongs to cluster {}, this is {:?} of cluster {}",
                identity.name,
                hex::encode(theirs),
                self.config.name,
                hex::encode(ours)
            ));
        }
        if let Some(id) = hello.id
            && let Some(raft) = self.proposer.raft()
        {
            // An id belongs to one name. A name gets a higher id with each new disk; that a higher
            // one calls tells that our list is old.
            for (known, (node, _)) in &raft.standing().borrow().nodes {
                let stolen = *known == id && node.name != identity.name;
                let replaced = *known > id && node.name == identity.name;
                if stolen || replaced {
                    return Err(format!(
                        "{:?} says that its Raft id is {id}, but {:?} has {known} here: it was \
                         removed or its disk was replaced",
                        identity.name, node.name
                    ));
                }
            }
        }
        let id = seat.map(|seat| seat.id);
        Ok(Welcome { version: WIRE_VERSION, cluster, id, format: self.config.newest_format })
    }

    fn answer(
        self: Arc<Self>,
        remote: Arc<Remote>,
        kind: Kind,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        async move {
            match kind {
                Kind::Join => {
                    let request: JoinRequest = decode(&body)?;
                    return Ok(encode(&self.join_requested(&remote, request).await).into());
                }
                _ if !remote.member => {
                    return Err("only members of this cluster may ask for that".into());
                }
                _ => {}
            }
            match kind {
                Kind::Propose | Kind::ReadIndex | Kind::Status | Kind::Enrol | Kind::Membership => {
                    self.answer_member(&remote, kind, body).await
                }
                Kind::Job | Kind::Block | Kind::Transactions | Kind::Pulse => {
                    self.answer_host(&remote, kind, body).await
                }
                _ => self.answer_raft(&remote, kind, body).await,
            }
        }
        .boxed()
    }

    fn appends(&self, answers: Arc<Outbox>) -> Option<AppendLane> {
        let raft = self.proposer.raft()?;
        Some(AppendLane::new(raft.as_ref().clone(), self.ledger.clone(), answers))
    }

    fn link(&self, identity: Identity, stream: Stream) {
        self.host.link_arrived(identity, stream);
    }
}

impl Inner {
    async fn answer_raft(&self, remote: &Remote, kind: Kind, body: Bytes) -> Result<Bytes, String> {
        let raft = self.proposer.raft().ok_or("this node has no ledger yet")?;
        Ok(match kind {
            Kind::Heartbeat => {
                let request: AppendRequest = decode(&body)?;
                self.ledger.agrees_with(&request)?;
                let leader = request.vote.leader_id.node_id;
                let answer = raft.heartbeat(request).await?;
                if answer.is_ok() {
                    *self.heard.lock() = Some((leader, Instant::now()));
                }
                encode(&answer)
            }
            Kind::Vote => encode(&raft.vote(decode(&body)?).await?),
            Kind::PreVote => encode(&raft.pre_vote(decode(&body)?).await?),
            Kind::TransferLeader => encode(&raft.take_leadership(decode(&body)?).await?),
            Kind::SnapshotBegin => {
                let (vote, meta, total) = decode(&body)?;
                encode(&self.arriving.begin(remote, vote, meta, total)?)
            }
            Kind::SnapshotPart => {
                self.arriving.part(remote, &body)?;
                Vec::new()
            }
            Kind::SnapshotEnd => {
                let (number, checksum): (u64, u32) = decode(&body)?;
                let (vote, snapshot) = self.arriving.end(remote, number, checksum)?;
                encode(&raft.install_snapshot(vote, snapshot).await?)
            }
            _ => return Err(format!("{kind:?} is not a request")),
        }
        .into())
    }

    async fn answer_member(
        self: &Arc<Self>,
        remote: &Remote,
        kind: Kind,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let raft = self.proposer.raft().ok_or("this node has no ledger yet")?;
        Ok(match kind {
            Kind::Propose => forwarded(raft.propose(body).await),
            Kind::ReadIndex => forwarded(raft.read_index().await),
            Kind::Status => encode(&self.leader_status(&raft)?).into(),
            Kind::Enrol => {
                let request: EnrolRequest = decode(&body)?;
                encode(&self.enrolment_requested(remote, request).await).into()
            }
            Kind::Membership => {
                let request: MembershipRequest = decode(&body)?;
                encode(&self.membership_requested(request).await).into()
            }
            _ => return Err(format!("{kind:?} is not a request")),
        })
    }

    async fn answer_host(&self, remote: &Remote, kind: Kind, body: Bytes) -> Result<Bytes, String> {
        let from: NodeId = remote.id.ok_or("the caller has no Raft id")?;
        match kind {
            Kind::Job => self.host.job_arrived(from, body),
            Kind::Block => self.host.block_arrived(from, body),
            Kind::Pulse => self.host.pulse_arrived(from, body),
            Kind::Transactions => {
                let wanted: Vec<[u8; 32]> = decode(&body)?;
                let host = self.host.clone();
                let found = tokio::task::spawn_blocking(move || host.transactions(&wanted))
                    .await
                    .map_err(|error| error.to_string())?;
                return Ok(encode(&fitting(found)).into());
            }
            _ => return Err(format!("{kind:?} is not a request")),
        }
        Ok(Bytes::new())
    }
}

/// As many as fit into one answer, at least one; the asker asks again for the rest.
fn fitting(found: Vec<Option<Bytes>>) -> Vec<Option<Vec<u8>>> {
    let mut bytes = 0;
    found
        .into_iter()
        .take_while(|transaction| {
            let first = bytes == 0;
            bytes += transaction.as_ref().map_or(0, Bytes::len) + 8;
            first || bytes <= MAX_TRANSACTIONS_BYTES
        })
        .map(|transaction| transaction.map(|bytes| bytes.to_vec()))
        .collect()
}

impl Arriving {
    fn begin(
        &self,
        from: &Remote,
        vote: Vote,
        meta: SnapshotMeta,
        total: u64,
    ) -> Result<u64, String> {
        if total > MAX_SNAPSHOT {
            return Err(format!("a snapshot of {total} bytes, at most {MAX_SNAPSHOT} are taken"));
        }
        let mut arriving = self.0.lock();
        let number = arriving.get(&from.identity.name).map_or(1, |transfer| transfer.number + 1);
        // Memory grows as bytes arrive, not as they are announced.
        let transfer = Transfer { number, vote, meta, total, bytes: BytesMut::new() };
        arriving.insert(from.identity.name.clone(), transfer);
        Ok(number)
    }

    fn part(&self, from: &Remote, body: &[u8]) -> Result<(), String> {
        let (number, rest) = body.split_first_chunk::<8>().ok_or("snapshot part too short")?;
        let (offset, part) = rest.split_first_chunk::<8>().ok_or("snapshot part too short")?;
        let mut arriving = self.0.lock();
        let transfer = arriving
            .get_mut(&from.identity.name)
            .filter(|transfer| transfer.number == u64::from_le_bytes(*number))
            .ok_or("no such snapshot is arriving")?;
        let expected = transfer.bytes.len() as u64;
        if u64::from_le_bytes(*offset) != expected || expected + part.len() as u64 > transfer.total
        {
            return Err("snapshot part out of order".into());
        }
        transfer.bytes.extend_from_slice(part);
        Ok(())
    }

    fn end(&self, from: &Remote, number: u64, checksum: u32) -> Result<(Vote, Snapshot), String> {
        let transfer = {
            let mut arriving = self.0.lock();
            match arriving.get(&from.identity.name) {
                Some(transfer) if transfer.number == number => {
                    arriving.remove(&from.identity.name).ok_or("gone")?
                }
                _ => return Err("no such snapshot is arriving".into()),
            }
        };
        if transfer.bytes.len() as u64 != transfer.total {
            return Err("the snapshot is not whole".into());
        }
        let snapshot = transfer.bytes.freeze();
        if crc32c::crc32c(&snapshot) != checksum {
            return Err("the snapshot was damaged on its way".into());
        }
        Ok((transfer.vote, Snapshot { meta: transfer.meta, snapshot }))
    }
}
