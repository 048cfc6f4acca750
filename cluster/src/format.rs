//! Agreeing on a newer ledger format: by itself, once every member runs a build that reads it.
//!
//! While a rolling update lasts, members of two builds work together in the older format. Each says
//! in every handshake which is the newest that it reads. When all members are in reach and read a
//! newer one, the leader proposes [`Command::SetFormat`]; from that entry on an older build is
//! refused, and one that meets the entry stops ([`crate::engine::Ledger`]).

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::handle::inner::Inner;
use crate::handle::{MemberRole, NodeId};
use crate::ledger::{Command, State};

impl Inner {
    /// The newest format that a member reads, as far as can be seen from here.
    pub(crate) fn newest_format_of(&self, me: NodeId, id: NodeId) -> Option<u8> {
        match id == me {
            true => Some(self.config.newest_format),
            false => self.peers.find(id).and_then(|peer| peer.format()),
        }
    }

    /// Why a node of an older build cannot be a member.
    pub(crate) fn refuse_older_build(&self, name: &str, reads: u8) -> Result<(), String> {
        let agreed = self.ledger.read(State::format);
        if reads >= agreed {
            return Ok(());
        }
        Err(format!("{name:?} cannot take part: {}", older_build(agreed, reads)))
    }

    /// On the leader: raises the agreed format as far as every member reads it.
    pub(crate) async fn agree_on_format(self: Arc<Self>) {
        let raft = self.proposer.wait_for_raft().await;
        let mut said = Vec::new();
        loop {
            sleep(self.config.timing.ask()).await;
            if self.config.newest_format <= self.ledger.read(State::format) {
                continue;
            }
            // Nobody joins meanwhile: it could be an older build.
            let _changing = self.changing.lock().await;
            let now = raft.standing().borrow().clone();
            let agreed = self.ledger.read(State::format);
            if now.role != MemberRole::Leader || !now.settled {
                said.clear();
                continue;
            }
            let mut common = self.config.newest_format;
            let mut waits_for = Vec::new();
            for (id, (node, _)) in &now.nodes {
                match self.newest_format_of(now.me, *id) {
                    Some(reads) if reads > agreed => common = common.min(reads),
                    _ => waits_for.push(node.name.clone()),
                }
            }
            if !waits_for.is_empty() {
                if said != waits_for {
                    tracing::info!(
                        agreed,
                        newest = self.config.newest_format,
                        ?waits_for,
                        "a newer ledger format waits until every member is in reach and reads it"
                    );
                    said = waits_for;
                }
                continue;
            }
            let command = Bytes::from(Command::SetFormat(common).encode());
            match timeout(self.config.timing.request_deadline, raft.propose(command)).await {
                Ok(Ok(_)) => tracing::info!(format = common, "the members agree on a newer format"),
                Ok(Err(error)) => tracing::warn!(%error, "cannot agree on a newer ledger format"),
                Err(_) => tracing::warn!("it takes long to agree on a newer ledger format"),
            }
        }
    }
}

/// What is wrong with a build that does not read the format that the cluster has agreed on.
pub(crate) fn older_build(agreed: u8, reads: u8) -> String {
    format!(
        "the cluster has agreed on ledger format {agreed}, this build reads formats up to {reads}: \
         start the node with the build that the other members run"
    )
}
