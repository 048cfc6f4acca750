//! Who may mine, and who may add users.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};
use seam_cluster::ledger::check_name;

use crate::config::Authorization;
use crate::ledger::{Ledger, LoginDone};
use crate::secret::Secret;
use crate::session::{Event, LoginResult, Reply};

/// The pool's door.
pub struct Gate {
    ledger: Arc<dyn Ledger>,
    mode: Authorization,
    network: Network,
    admin: Option<Secret>,
    /// A refused login is answered that much later: miners that repeat it in a loop do so slowly.
    refused_delay: Duration,
}

impl Gate {
    /// A door in front of `ledger`. Without `admin` nobody is administrator.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        mode: Authorization,
        network: Network,
        admin: Option<Secret>,
        refused_delay: Duration,
    ) -> Self {
        Self { ledger, mode, network, admin, refused_delay }
    }

    /// Checks a login, without its worker; posts [`Event::Login`].
    pub fn login(&self, user: &str, password: &str, reply: Reply) {
        let delay = self.refused_delay;
        let done: LoginDone = Box::new(move |result| match result {
            LoginResult::Refused if !delay.is_zero() => {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    reply.send(Event::Login(result));
                });
            }
            _ => reply.send(Event::Login(result)),
        });
        if check_name(user).is_err() {
            return done(LoginResult::Refused);
        }
        match self.mode {
            Authorization::Registered => self.ledger.login(user, password, done),
            Authorization::Open => self.ledger.ensure_user(user, done),
            Authorization::Address if self.is_address(user) => self.ledger.ensure_user(user, done),
            Authorization::Address => done(LoginResult::Refused),
        }
    }

    /// Whether this is the administrator's password.
    #[must_use]
    pub fn is_admin(&self, password: &str) -> bool {
        self.admin.as_ref().is_some_and(|secret| secret.is(password))
    }

    /// Creates a user; posts [`Event::UserAdded`].
    pub fn add_user(&self, user: &str, password: &str, reply: Reply) {
        if let Err(refusal) = check_name(user) {
            return reply.send(Event::UserAdded(Err(refusal.to_string())));
        }
        let done = Box::new(move |result| reply.send(Event::UserAdded(result)));
        self.ledger.add_user(user, password, done);
    }

    fn is_address(&self, user: &str) -> bool {
        user.parse::<Address<NetworkUnchecked>>()
            .is_ok_and(|address| address.is_valid_for_network(self.network))
    }
}
