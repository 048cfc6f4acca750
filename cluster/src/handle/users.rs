//! Logging in, and users with passwords.

use tokio::time::Instant;

use crate::handle::{AuthorizeError, ChangeError, Cluster};
use crate::ledger::{Command, Outcome, Refusal, UserId, Verifier};
use crate::password::{Match, PasswordError};

struct Found {
    id: UserId,
    verifier: Verifier,
    disabled: bool,
}

impl Cluster {
    /// Checks a user's password. Checks are bounded in number and remembered, so that thousands of
    /// miners may come at once. A user that is unknown here is looked up in what the whole cluster
    /// has committed before it is refused.
    ///
    /// # Errors
    ///
    /// Why the user may not log in.
    pub async fn authorize(&self, name: &str, password: &str) -> Result<UserId, AuthorizeError> {
        if let Some(found) = self.find_user(name)
            && !found.disabled
            && self.check(name, &found, password).await?
        {
            return Ok(found.id);
        }
        // Added, changed or admitted a moment ago on another node, perhaps.
        self.read_shared().await.map_err(AuthorizeError::Unavailable)?;
        let found = self.find_user(name).ok_or(AuthorizeError::UnknownUser)?;
        if found.disabled {
            return Err(AuthorizeError::Disabled);
        }
        if found.verifier == Verifier::None {
            return Err(AuthorizeError::UnknownUser);
        }
        match self.check(name, &found, password).await? {
            true => Ok(found.id),
            false => Err(AuthorizeError::WrongPassword),
        }
    }

    /// Creates a user with a password. Once it has answered, the user can log in on every node.
    ///
    /// # Errors
    ///
    /// When the name is taken or impossible, or no quorum confirms it in time.
    pub async fn add_user(&self, name: &str, password: &str) -> Result<UserId, ChangeError> {
        let verifier = self.hash(password).await?;
        let user = crate::ledger::NewUser { name: name.to_owned(), verifier: verifier.clone() };
        match self.change(Command::AddUser(user)).await {
            Ok(Outcome::User(id)) => Ok(id),
            Ok(other) => Err(ChangeError::Unavailable(format!("unexpected outcome {other:?}"))),
            Err(ChangeError::Refused(Refusal::UserExists)) => {
                // Our own first attempt, perhaps, of which we did not hear.
                self.read_linearizable().await?;
                match self.find_user(name) {
                    Some(found) if found.verifier == verifier => Ok(found.id),
                    _ => Err(Refusal::UserExists.into()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces a user's password.
    ///
    /// # Errors
    ///
    /// As [`Cluster::change`].
    pub async fn set_password(&self, user: UserId, password: &str) -> Result<(), ChangeError> {
        let verifier = self.hash(password).await?;
        self.change(Command::SetPassword { user, expected: None, verifier }).await.map(drop)
    }

    async fn hash(&self, password: &str) -> Result<Verifier, ChangeError> {
        let hashed = self.inner.passwords.hash(password).await;
        hashed.map_err(|error| ChangeError::Unavailable(error.to_string()))
    }

    fn find_user(&self, name: &str) -> Option<Found> {
        self.read(|state| {
            let id = state.users().id(name)?;
            let user = state.users().by_id(id)?;
            Some(Found { id, verifier: user.verifier.clone(), disabled: user.disabled })
        })
    }

    async fn check(
        &self,
        name: &str,
        found: &Found,
        password: &str,
    ) -> Result<bool, AuthorizeError> {
        match self.inner.passwords.check(name, &found.verifier, password).await {
            Ok(Match::Wrong) => Ok(false),
            Ok(Match::Right) => Ok(true),
            Ok(Match::Rehash) => {
                self.rehash(found, password);
                Ok(true)
            }
            Err(PasswordError::Busy) => Err(AuthorizeError::Busy),
            Err(error) => Err(AuthorizeError::Unavailable(error.to_string())),
        }
    }

    /// Replaces what is stored with a better hash of the same password, in the background.
    fn rehash(&self, found: &Found, password: &str) {
        let (cluster, password) = (self.clone(), password.to_owned());
        let (user, expected) = (found.id, found.verifier.clone());
        self.inner.spawn(async move {
            let Ok(verifier) = cluster.inner.passwords.hash(&password).await else { return };
            let change = Command::SetPassword { user, expected: Some(expected), verifier };
            // `Changed`: another node was first.
            if let Err(ChangeError::Unavailable(error)) = cluster.change(change).await {
                tracing::info!(%error, "a password's hash was not renewed, next time then");
            }
        });
    }

    /// A linearizable read that all who ask at the same time share.
    async fn read_shared(&self) -> Result<(), String> {
        let asked = Instant::now();
        let mut newest = self.inner.newest_read.lock().await;
        if newest.is_some_and(|newest| newest >= asked) {
            return Ok(());
        }
        let started = Instant::now();
        self.read_linearizable().await.map_err(|error| error.to_string())?;
        *newest = Some(started);
        Ok(())
    }
}
