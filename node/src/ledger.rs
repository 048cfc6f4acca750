//! What sessions ask of the ledger, and [`Cluster`]'s way of doing it.

use std::sync::Arc;

use seam_cluster::ledger::Share;
use seam_cluster::{AuthorizeError, ChangeError, Cluster, Completion, Full};

use crate::session::LoginResult;

/// Called once with what became of a login.
pub type LoginDone = Box<dyn FnOnce(LoginResult) + Send>;
/// Called once with what became of a new user.
pub type UserDone = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The part of [`Cluster`] that sessions use. Nothing here waits.
pub trait Ledger: Send + Sync {
    /// Hands over a verified share; its outcome goes to `completion` with `token`.
    fn submit(&self, share: Share, completion: Arc<dyn Completion>, token: u64)
    -> Result<(), Full>;

    /// Checks a registered user's password.
    fn login(&self, user: &str, password: &str, done: LoginDone);

    /// Finds or creates a user without password.
    fn ensure_user(&self, user: &str, done: LoginDone);

    /// Creates a registered user; it can log in on every node once `done` is called.
    fn add_user(&self, user: &str, password: &str, done: UserDone);
}

impl Ledger for Cluster {
    fn submit(
        &self,
        share: Share,
        completion: Arc<dyn Completion>,
        token: u64,
    ) -> Result<(), Full> {
        Cluster::submit(self, share, completion, token)
    }

    fn login(&self, user: &str, password: &str, done: LoginDone) {
        let (cluster, user, password) = (self.clone(), user.to_owned(), password.to_owned());
        tokio::spawn(async move {
            done(match cluster.authorize(&user, &password).await {
                Ok(id) => LoginResult::Accepted(id),
                Err(AuthorizeError::Busy | AuthorizeError::Unavailable(_)) => {
                    LoginResult::Unavailable
                }
                Err(_) => LoginResult::Refused,
            });
        });
    }

    fn ensure_user(&self, user: &str, done: LoginDone) {
        let (cluster, user) = (self.clone(), user.to_owned());
        tokio::spawn(async move {
            done(match cluster.ensure_user(&user).await {
                Ok(id) => LoginResult::Accepted(id),
                Err(ChangeError::Refused(_)) => LoginResult::Refused,
                Err(_) => LoginResult::Unavailable,
            });
        });
    }

    fn add_user(&self, user: &str, password: &str, done: UserDone) {
        let (cluster, user, password) = (self.clone(), user.to_owned(), password.to_owned());
        tokio::spawn(async move {
            let added = cluster.add_user(&user, &password).await;
            done(added.map(|_| ()).map_err(|error| error.to_string()));
        });
    }
}
