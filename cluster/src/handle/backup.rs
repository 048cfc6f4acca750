//! A copy of the ledger, out of a running cluster and into a new one.

use bytes::Bytes;

use crate::engine::{Node, random_bytes, restored_meta};
use crate::format::older_build;
use crate::handle::{ChangeError, Cluster, MemberError};
use crate::ledger::{Command, Outcome, Refusal, State};
use crate::store::Seat;

impl Cluster {
    /// The ledger as it is now, as one checksummed file.
    ///
    /// # Errors
    ///
    /// When no quorum confirms in time where the log ends.
    pub async fn backup(&self) -> Result<Bytes, ChangeError> {
        self.read_linearizable().await?;
        let state = self.read(State::clone);
        Ok(self.inner.storage.snapshots().encode(state).await)
    }

    /// Forms a cluster of this node alone, with the ledger of a backup: in place of
    /// [`Cluster::init`].
    ///
    /// The ledger is the backup's, byte for byte, so that its hash is too and sids and tickets stay
    /// valid. The cluster's id, which every connection checks and the ledger does not hold, is new:
    /// a member of the old cluster that comes back is refused, and cannot mix two histories.
    ///
    /// # Errors
    ///
    /// When this node belongs to a cluster, or the backup is damaged or of no cluster.
    pub async fn restore(&self, backup: Bytes) -> Result<(), MemberError> {
        let refused = |reason: String| MemberError::Refused(reason);
        let failed = |error: String| MemberError::Failed(error);
        let state =
            State::read_from(&mut &backup[..]).map_err(|error| refused(error.to_string()))?;
        if state.identity().cluster().is_none() {
            return Err(refused("the backup is of a ledger that was never formed".into()));
        }
        let inner = &self.inner;
        if state.format() > inner.config.newest_format {
            return Err(refused(older_build(state.format(), inner.config.newest_format)));
        }
        let _changing = inner.changing.lock().await;
        if inner.seat.read().is_some() {
            return Err(refused(Refusal::AlreadyFormed.to_string()));
        }
        let name = inner.config.name.clone();
        let token = inner.storage.token().map_err(|error| failed(error.to_string()))?;
        let admit = Command::AllocateNodeId {
            name: name.clone(),
            token,
            address: inner.config.advertise.clone(),
        };
        let listed = state.members().by_name(&name).map(|member| (member.id, member.token));
        let id = match listed {
            Some((id, token)) => {
                // In the new cluster this disk is the one that the ledger knows.
                inner.storage.keep_token(token).map_err(|error| failed(error.to_string()))?;
                id
            }
            None => match state.clone().apply(state.applied() + 1, &admit) {
                Outcome::NodeId(id) => id,
                other => return Err(refused(format!("the backup has no room for us: {other:?}"))),
            },
        };
        let node = Node { name: name.clone(), address: inner.config.advertise.clone() };
        let meta = restored_meta(id, node, state.applied());
        let snapshots = inner.storage.snapshots();
        snapshots.save(meta, backup).await.map_err(|error| failed(error.to_string()))?;
        let cluster = random_bytes();
        inner.sit_down(Seat { cluster, name, id }).await.map_err(failed)?;
        if listed.is_none() {
            self.change(admit)
                .await
                .map_err(|error| MemberError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }
}
