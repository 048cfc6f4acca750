//! Becoming a member, and ceasing to be one.
//!
//! A Raft id belongs to one disk. A node with an empty disk asks to *join*: the ledger gives it an
//! id that was never used, which it keeps with the cluster's id as its [`Seat`]. With a seat it
//! *enrols*: the leader sends it the log (learner), and once it has caught up lets it vote. Every
//! step can be repeated, so that a crash between two of them does no harm.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{MembershipError, Node, Raft, random_bytes};
use crate::handle::inner::Inner;
use crate::handle::{MemberError, MemberRole, NodeId};
use crate::ledger::{Command, Outcome, Refusal, Secret};
use crate::peer::{Kind, Remote, decode, encode};
use crate::store::Seat;

/// A learner that lacks fewer entries than this may vote.
const CAUGHT_UP: u64 = 1_000;

/// A node with an empty disk wants a seat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub(crate) token: [u8; 16],
    pub(crate) address: String,
}

/// A node with a seat wants the log, or has moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EnrolRequest {
    pub(crate) address: String,
}

/// An operator changes the membership.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MembershipRequest {
    /// Forget this member.
    Remove(String),
}

/// What a member answers to these.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply<T> {
    Granted(T),
    /// The leader is at this address: ask it.
    Ask(String),
    /// Not now.
    Later(String),
    /// No.
    Refused(String),
}

impl Inner {
    /// For a node with an empty disk: asks the seeds until one gives it a seat, or until the
    /// operator forms a cluster here.
    pub(crate) async fn join(self: std::sync::Arc<Self>) {
        let mut said = String::new();
        while self.seat.read().is_none() {
            match self.ask_for_seat().await {
                Ok(Some(seat)) => {
                    let _changing = self.changing.lock().await;
                    if self.seat.read().is_some() {
                        return;
                    }
                    match self.sit_down(seat).await {
                        Ok(()) => return,
                        Err(error) => self.fail(error),
                    }
                }
                Ok(None) => {}
                Err(reason) => {
                    if reason != said {
                        tracing::warn!(%reason, "not joined yet");
                        said.clone_from(&reason);
                    }
                    *self.outside_reason.lock() = Some(reason);
                }
            }
            sleep(self.config.timing.ask()).await;
        }
    }

    async fn ask_for_seat(&self) -> Result<Option<Seat>, String> {
        let token = self.storage.token().map_err(|error| error.to_string())?;
        let request = JoinRequest { token, address: self.config.advertise.clone() };
        let body = encode(&request);
        let mut reason = None;
        let mut targets: Vec<String> = self.config.seeds.iter().rev().cloned().collect();
        let mut asked = 0;
        while let Some(address) = targets.pop() {
            asked += 1;
            if address == self.config.advertise || asked > 2 * self.config.seeds.len() + 2 {
                continue;
            }
            let answer = self
                .peers
                .ask(&address, Kind::Join, &body, self.config.timing.request_deadline)
                .await;
            match answer.map_err(|error| error.to_string()).and_then(|body| decode(&body)) {
                Ok(Reply::Granted((cluster, id))) => {
                    return Ok(Some(Seat { cluster, name: self.config.name.clone(), id }));
                }
                Ok(Reply::Ask(leader)) => targets.push(leader),
                // Whatever the other seeds know of it.
                Ok(Reply::Refused(why)) => return Err(why),
                Ok(Reply::Later(why)) => reason = Some(why),
                Err(why) => {
                    reason.get_or_insert(why);
                }
            }
        }
        match reason {
            Some(reason) => Err(reason),
            None => Ok(None),
        }
    }

    /// Keeps the seat and starts Raft on it.
    pub(crate) async fn sit_down(self: &std::sync::Arc<Self>, seat: Seat) -> Result<(), String> {
        self.storage.take_seat(&seat).map_err(|error| error.to_string())?;
        tracing::info!(cluster = %hex::encode(seat.cluster), id = seat.id, "member of a cluster");
        *self.seat.write() = Some(seat.clone());
        self.start_raft(&seat).await
    }

    /// For a node with a seat: tells the leader where it is until the membership says so too.
    pub(crate) async fn enrol(self: std::sync::Arc<Self>) {
        let raft = self.proposer.wait_for_raft().await;
        let mut standing = raft.standing();
        loop {
            let wanted = self.me();
            let (me, members) = {
                let now = standing.borrow_and_update();
                (now.me, now.nodes.clone())
            };
            let known = members.get(&me).is_some_and(|(node, _)| *node == wanted);
            if known && self.hears_a_leader() {
                self.removed.store(false, Ordering::Relaxed);
                *self.outside_reason.lock() = None;
                let _ = timeout(self.config.timing.ask(), standing.changed()).await;
                continue;
            }
            // Not a member yet, or no longer: nobody sends a removed member the news.
            if let Ok(raft) = self.leading()
                && !known
            {
                // Moved, and leading.
                let _changing = self.changing.lock().await;
                if let Ok(Err(error)) =
                    timeout(self.config.timing.request_deadline, raft.move_node(me, wanted.clone()))
                        .await
                {
                    tracing::warn!(%error, "cannot change this member's address");
                }
                let _ = timeout(self.config.timing.ask(), standing.changed()).await;
                continue;
            }
            // A fresh node has no membership yet; its seeds have.
            let mut targets: Vec<String> = self.config.seeds.iter().rev().cloned().collect();
            targets.extend(members.values().map(|(node, _)| node.address.clone()));
            let body = encode(&EnrolRequest { address: wanted.address.clone() });
            let mut asked = 0;
            while let Some(address) = targets.pop() {
                asked += 1;
                if asked > 16 || address == wanted.address {
                    continue;
                }
                let answer: Result<Reply<()>, String> = match self
                    .peers
                    .ask(&address, Kind::Enrol, &body, self.config.timing.request_deadline)
                    .await
                {
                    Ok(body) => decode(&body),
                    Err(error) => Err(error.to_string()),
                };
                match answer {
                    Ok(Reply::Granted(())) => break,
                    Ok(Reply::Ask(leader)) => targets.push(leader),
                    Ok(Reply::Later(_)) => {}
                    Ok(Reply::Refused(reason)) => {
                        tracing::warn!(%reason, "refused as a member");
                        *self.outside_reason.lock() = Some(reason);
                        self.removed.store(true, Ordering::Relaxed);
                    }
                    Err(reason) => tracing::debug!(%reason, %address, "cannot enrol there"),
                }
            }
            let _ = timeout(self.config.timing.ask(), standing.changed()).await;
        }
    }

    /// On the leader: lets learners vote once they have caught up.
    pub(crate) async fn keep_members(self: std::sync::Arc<Self>) {
        let raft = self.proposer.wait_for_raft().await;
        loop {
            sleep(self.config.timing.heartbeat).await;
            let now = raft.standing().borrow().clone();
            if now.role != MemberRole::Leader || !now.settled {
                continue;
            }
            let metrics = raft.metrics_now();
            let last = metrics.last_log_index.unwrap_or(0);
            let Some(replication) = metrics.replication else { continue };
            let ripe = now.nodes.iter().find(|(id, (_, voter))| {
                let matched = replication.get(id).and_then(|matched| matched.as_ref());
                !voter && matched.is_some_and(|matched| matched.index + CAUGHT_UP > last)
            });
            let Some((id, (node, _))) = ripe else { continue };
            let _changing = self.changing.lock().await;
            match timeout(self.config.timing.request_deadline, raft.promote(*id)).await {
                Ok(Ok(())) => tracing::info!(name = %node.name, id, "member votes"),
                Ok(Err(error)) => tracing::warn!(name = %node.name, %error, "cannot let it vote"),
                Err(_) => tracing::warn!(name = %node.name, "it takes long to let it vote"),
            }
        }
    }

    /// Someone wants a seat.
    pub(crate) async fn join_requested(
        &self,
        remote: &Remote,
        request: JoinRequest,
    ) -> Reply<([u8; 16], NodeId)> {
        if remote.member {
            return Reply::Refused("you are a member already".into());
        }
        let raft = match self.leading() {
            Ok(raft) => raft,
            Err(elsewhere) => return elsewhere.into_reply(),
        };
        let Some(seat) = self.seat.read().clone() else {
            return Reply::Later("this node belongs to no cluster itself".into());
        };
        if let Err(why) = self.refuse_older_build(&remote.identity.name, remote.format) {
            return Reply::Refused(why);
        }
        // The ids that are taken have to be in the ledger before it gives out others.
        let formed = self.ledger.read(|state| {
            // Not compared: a restored ledger holds the id of the cluster it was formed with.
            let members = state.members();
            let is_in = match members.by_id(seat.id) {
                Some((name, _)) => name == seat.name,
                // Its removal is under way, and it leads still.
                None => members.was_given(seat.id),
            };
            state.identity().cluster().is_some() && is_in
        });
        if !formed {
            return Reply::Later("the cluster is being formed".into());
        }
        let request_token = request.token;
        let command = Command::AllocateNodeId {
            name: remote.identity.name.clone(),
            token: request.token,
            address: request.address,
        };
        // Listed, but never enrolled with that id (its disk was lost before, or the ledger was
        // restored from a backup): nobody has that id.
        let name = &remote.identity.name;
        let listed = self
            .ledger
            .read(|state| state.members().by_name(name).map(|member| (member.id, member.token)));
        if let Some((id, token)) = listed
            && token != request_token
            && !raft.standing().borrow().nodes.contains_key(&id)
        {
            let forget = Command::RemoveMember { name: name.clone() };
            if let Err(error) = raft.propose(Bytes::from(forget.encode())).await {
                return Reply::Later(error.to_string());
            }
        }
        match raft.propose(Bytes::from(command.encode())).await {
            Ok(Outcome::NodeId(id)) => Reply::Granted((seat.cluster, id)),
            Ok(Outcome::Refused(refusal)) => Reply::Refused(refusal.to_string()),
            Ok(other) => Reply::Refused(format!("unexpected outcome {other:?}")),
            Err(error) => Reply::Later(error.to_string()),
        }
    }

    /// Someone with a seat wants the log, or has moved.
    pub(crate) async fn enrolment_requested(
        &self,
        remote: &Remote,
        request: EnrolRequest,
    ) -> Reply<()> {
        let raft = match self.leading() {
            Ok(raft) => raft,
            Err(elsewhere) => return elsewhere.into_reply(),
        };
        let name = &remote.identity.name;
        // A leader that was restarted a moment ago does not know all members yet.
        let deadline = Instant::now() + self.config.timing.request_deadline;
        if let Err(error) = self.proposer.read_linearizable(deadline).await {
            return Reply::Later(error.to_string());
        }
        let listed =
            self.ledger.read(|state| state.members().by_name(name).map(|member| member.id));
        let Some(id) = remote.id.filter(|id| listed == Some(*id)) else {
            // The directory is the first step of a removal: until the last is committed, its vote
            // counts, and with its disk a quorum could go.
            let now = raft.standing().borrow().clone();
            if !now.settled || remote.id.is_some_and(|id| now.nodes.contains_key(&id)) {
                return Reply::Later("its removal is under way".into());
            }
            return Reply::Refused(format!(
                "{name:?} with Raft id {:?} was removed from the cluster: empty its ledger \
                 directory to join again as a new member",
                remote.id
            ));
        };
        if let Err(why) = self.refuse_older_build(name, remote.format) {
            return Reply::Refused(why);
        }
        let node = Node { name: name.clone(), address: request.address };
        let known = raft.standing().borrow().nodes.get(&id).map(|(node, _)| node.clone());
        let Ok(_changing) =
            timeout(self.config.timing.request_deadline, self.changing.lock()).await
        else {
            return Reply::Later("another change of the membership takes long".into());
        };
        let change = async {
            match known {
                None => {
                    tracing::info!(name = %node.name, id, "new member receives the log");
                    raft.add_learner(id, node).await
                }
                Some(known) if known != node => raft.move_node(id, node).await,
                Some(_) => Ok(()),
            }
        };
        match timeout(self.config.timing.request_deadline, change).await {
            Ok(Ok(())) => Reply::Granted(()),
            Ok(Err(error)) => Reply::Later(error.to_string()),
            Err(_) => Reply::Later("no quorum confirmed it in time".into()),
        }
    }

    /// An operator changes the membership, here or on another node.
    pub(crate) async fn membership_requested(&self, request: MembershipRequest) -> Reply<()> {
        let raft = match self.leading() {
            Ok(raft) => raft,
            Err(elsewhere) => return elsewhere.into_reply(),
        };
        let MembershipRequest::Remove(name) = request;
        let Ok(_changing) =
            timeout(self.config.timing.request_deadline, self.changing.lock()).await
        else {
            return Reply::Later("another change of the membership takes long".into());
        };
        match timeout(self.config.timing.request_deadline, self.remove(&raft, &name)).await {
            Ok(Ok(())) => Reply::Granted(()),
            Ok(Err(MemberError::Unavailable(reason))) => Reply::Later(reason),
            Ok(Err(error)) => Reply::Refused(error.to_string()),
            Err(_) => Reply::Later("no quorum confirmed it in time".into()),
        }
    }

    async fn remove(&self, raft: &Raft, name: &str) -> Result<(), MemberError> {
        let now = raft.standing().borrow().clone();
        let members = now.nodes.iter().filter(|(_, (node, _))| node.name == name);
        let ids: Vec<(NodeId, bool)> = members.map(|(id, (_, voter))| (*id, *voter)).collect();
        let listed =
            self.ledger.read(|state| state.members().by_name(name).map(|member| member.id));
        if ids.is_empty() && listed.is_none() {
            return Err(MemberError::Refused(Refusal::NoSuchMember.to_string()));
        }
        if ids.iter().any(|(_, voter)| *voter) && now.voters() == 1 {
            return Err(MemberError::Refused("it is the only member that votes".into()));
        }
        if ids.iter().any(|(id, _)| *id == now.me) {
            // Whoever asks asks again, and then it is the next leader's to do.
            self.offer_leadership(raft).await?;
            return Err(MemberError::Unavailable(format!("{name:?} led until now")));
        }
        // First the directory: whoever is not listed cannot enrol again.
        if listed.is_some() {
            let command = Command::RemoveMember { name: name.to_owned() };
            match raft.propose(Bytes::from(command.encode())).await {
                Ok(Outcome::Refused(Refusal::NoSuchMember) | Outcome::Done) => {}
                Ok(other) => return Err(MemberError::Refused(format!("{other:?}"))),
                Err(error) => return Err(MemberError::Unavailable(error.to_string())),
            }
        }
        for (id, voter) in ids {
            raft.remove(id, voter).await.map_err(|error| match error {
                MembershipError::NotLeader => MemberError::Unavailable(error.to_string()),
                MembershipError::Failed(reason) => MemberError::Unavailable(reason),
            })?;
            tracing::info!(name, id, "member removed");
        }
        Ok(())
    }

    /// Forms a cluster of this node alone.
    pub(crate) async fn form(self: &std::sync::Arc<Self>) -> Result<[u8; 16], MemberError> {
        let _changing = self.changing.lock().await;
        let seated = self.seat.read().clone();
        let seat = match seated {
            // An earlier attempt was cut short, perhaps.
            Some(seat) if seat.id == FIRST => seat,
            Some(_) => return Err(MemberError::Refused(Refusal::AlreadyFormed.to_string())),
            None => {
                self.refuse_if_seeds_have_a_cluster().await?;
                let seat =
                    Seat { cluster: random_bytes(), name: self.config.name.clone(), id: FIRST };
                self.sit_down(seat.clone()).await.map_err(MemberError::Failed)?;
                seat
            }
        };
        let raft = self.proposer.wait_for_raft().await;
        if raft.metrics_now().last_log_index.is_none() {
            raft.initialize(seat.id, self.me()).await.map_err(MemberError::Failed)?;
        }
        let deadline = Instant::now() + self.config.timing.request_deadline;
        let token = self.storage.token().map_err(|error| MemberError::Failed(error.to_string()))?;
        let time = (self.host.now_ms() / 1_000) as u32;
        let commands = [
            Command::Init {
                cluster: seat.cluster,
                sid_key: Secret(random_bytes()),
                ticket_key: Secret(random_bytes()),
                time,
            },
            Command::AllocateNodeId {
                name: seat.name.clone(),
                token,
                address: self.config.advertise.clone(),
            },
        ];
        let formed = self.ledger.read(|state| {
            state.identity().cluster().is_some() && state.members().by_name(&seat.name).is_some()
        });
        if formed {
            return Err(MemberError::Refused(Refusal::AlreadyFormed.to_string()));
        }
        for command in commands {
            let outcome = self
                .proposer
                .propose(Bytes::from(command.encode()), deadline)
                .await
                .map_err(|error| MemberError::Unavailable(error.to_string()))?;
            match outcome {
                Outcome::Done | Outcome::Refused(Refusal::AlreadyFormed) => {}
                Outcome::NodeId(id) if id == seat.id => {}
                other => return Err(MemberError::Failed(format!("{other:?}"))),
            }
        }
        Ok(seat.cluster)
    }

    /// A node that lost its disk must not form a second cluster beside the one it was in.
    async fn refuse_if_seeds_have_a_cluster(&self) -> Result<(), MemberError> {
        let seeds = self.config.seeds.iter().filter(|seed| **seed != self.config.advertise);
        let asked = seeds.map(|seed| async move { (seed, self.peers.cluster_of(seed).await) });
        for (seed, answer) in futures::future::join_all(asked).await {
            // Nodes of a new cluster start together: those that are not up yet know of none.
            if let Ok(Some(cluster)) = answer {
                return Err(MemberError::Refused(format!(
                    "{seed} belongs to cluster {} already. This node joins it by itself if its \
                     name is new there; if it lost its disk, run `seamctl member remove {}` on a \
                     member first",
                    hex::encode(cluster),
                    self.config.name
                )));
            }
        }
        Ok(())
    }

    /// This member, as the others should know it.
    pub(crate) fn me(&self) -> Node {
        Node { name: self.config.name.clone(), address: self.config.advertise.clone() }
    }

    /// Raft, if this node leads.
    fn leading(&self) -> Result<std::sync::Arc<Raft>, Elsewhere> {
        let Some(raft) = self.proposer.raft() else { return Err(Elsewhere::Unknown) };
        let now = raft.standing().borrow().clone();
        match now.leader {
            Some(leader) if leader == now.me => Ok(raft),
            Some(leader) => Err(match now.nodes.get(&leader) {
                Some((node, _)) => Elsewhere::At(node.address.clone()),
                None => Elsewhere::Unknown,
            }),
            None => Err(Elsewhere::Unknown),
        }
    }
}

/// The Raft id of the node that forms a cluster.
const FIRST: NodeId = 1;

enum Elsewhere {
    At(String),
    Unknown,
}

impl Elsewhere {
    fn into_reply<T>(self) -> Reply<T> {
        match self {
            Self::At(address) => Reply::Ask(address),
            Self::Unknown => Reply::Later(
                "there is no leader: form the cluster with `seamctl cluster init` on one node, or \
                 wait for a quorum"
                    .into(),
            ),
        }
    }
}
