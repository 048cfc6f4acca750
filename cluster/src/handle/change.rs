//! Changes of the ledger other than shares.

use std::ops::Range;

use bytes::Bytes;
use tokio::time::Instant;

use crate::handle::{ChangeError, Cluster};
use crate::ledger::{Command, EXTRANONCE1_RANGE, LeaseKind, MAX_IMPORT, NewUser, Outcome, UserId};

impl Cluster {
    /// Makes any change.
    ///
    /// # Errors
    ///
    /// When the ledger refuses it, or no quorum confirms it in time.
    pub async fn change(&self, command: Command) -> Result<Outcome, ChangeError> {
        self.inner.ledger.read(|state| state.admit(&command))?;
        let deadline = Instant::now() + self.inner.config.timing.request_deadline;
        let outcome = self
            .inner
            .proposer
            .propose(Bytes::from(command.encode()), deadline)
            .await
            .map_err(|error| ChangeError::Unavailable(error.to_string()))?;
        match outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            outcome => Ok(outcome),
        }
    }

    /// Ends when [`Cluster::read`] sees all that was committed before this call.
    ///
    /// # Errors
    ///
    /// When no quorum confirms in time where the log ends.
    pub async fn read_linearizable(&self) -> Result<(), ChangeError> {
        let deadline = Instant::now() + self.inner.config.timing.request_deadline;
        self.inner
            .proposer
            .read_linearizable(deadline)
            .await
            .map_err(|error| ChangeError::Unavailable(error.to_string()))
    }

    /// The user of this name, created without a password if there is none.
    ///
    /// # Errors
    ///
    /// As [`Cluster::change`].
    pub async fn ensure_user(&self, name: &str) -> Result<UserId, ChangeError> {
        if let Some(id) = self.read(|state| state.users().id(name)) {
            return Ok(id);
        }
        let outcome = self.change(Command::EnsureUser { name: name.to_owned() }).await?;
        user(outcome)
    }

    /// Creates many users; those that exist stay as they are. Returns how many were created and
    /// how many were there.
    ///
    /// # Errors
    ///
    /// As [`Cluster::change`]; some may have been created.
    pub async fn import_users(&self, users: Vec<NewUser>) -> Result<(u32, u32), ChangeError> {
        let mut sum = (0, 0);
        for part in users.chunks(MAX_IMPORT) {
            match self.change(Command::ImportUsers(part.to_vec())).await? {
                Outcome::Imported { added, kept } => sum = (sum.0 + added, sum.1 + kept),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(sum)
    }

    /// Bars or admits a user.
    ///
    /// # Errors
    ///
    /// As [`Cluster::change`].
    pub async fn set_user_disabled(&self, user: UserId, disabled: bool) -> Result<(), ChangeError> {
        self.change(Command::SetUserDisabled { user, disabled }).await.map(drop)
    }

    /// The upper part of job ids that nobody else has or will have.
    ///
    /// # Errors
    ///
    /// As [`Cluster::change`].
    pub async fn job_lease(&self) -> Result<u32, ChangeError> {
        let holder = self.inner.config.name.clone();
        self.lease(LeaseKind::Job, holder).await
    }

    /// A range of values of extranonce1 that nobody else has.
    ///
    /// # Errors
    ///
    /// As [`Cluster::change`].
    pub async fn extranonce_range(&self, holder: &str) -> Result<Range<u64>, ChangeError> {
        let number = self.lease(LeaseKind::Extranonce1, holder.to_owned()).await?;
        let start = u64::from(number) * u64::from(EXTRANONCE1_RANGE);
        Ok(start..start + u64::from(EXTRANONCE1_RANGE))
    }

    async fn lease(&self, kind: LeaseKind, holder: String) -> Result<u32, ChangeError> {
        match self.change(Command::GrantLease { kind, holder }).await? {
            Outcome::Lease(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }
}

fn user(outcome: Outcome) -> Result<UserId, ChangeError> {
    match outcome {
        Outcome::User(id) => Ok(id),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(outcome: &Outcome) -> ChangeError {
    ChangeError::Unavailable(format!("the ledger gave an unexpected outcome: {outcome:?}"))
}
