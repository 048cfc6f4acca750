//! The ledger: the deterministic state machine that every node runs over the same log.
//!
//! Commands go in, outcomes come out. There is no clock, no randomness, no float and no I/O in it:
//! equal logs make equal states, byte for byte, which [`State::digest`] compares.

mod command;
mod credit;
mod digest;
mod identity;
mod leases;
mod members;
mod outcome;
mod rounds;
mod seen;
mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod users;

use std::collections::BTreeMap;

pub use command::{
    BlockFound, Command, DecodeError, FORMAT, LeaseKind, MAX_BATCH, MAX_IMPORT, MAX_NAME, MAX_TEXT,
    NewUser, Secret, Share, Verdict, check_name,
};
pub use credit::{Credit, Detail, Table};
pub use digest::Digest;
pub use identity::{Identity, MAX_TICKET_KEYS, TicketKey};
pub use leases::{EXTRANONCE1_RANGE, EXTRANONCE1_RANGES, Grant, Leases, MAX_GRANTS};
pub use members::{MAX_MEMBERS, Member, Members};
pub use outcome::{Outcome, Refusal, ShareOutcome};
pub use rounds::{Current, DETAIL_BYTES, MAX_ROUNDS, Round, Rounds, Status};
pub use seen::{JOB_LIFETIME, MAX_LEAD, MAX_SEEN, Seen};
pub use snapshot::SnapshotError;
pub use users::{MAX_PHC, MAX_USERS, User, UserId, Users, Verifier};

/// Settings at most.
pub const MAX_SETTINGS: usize = 1_000;

/// The state of the ledger.
///
/// A clone is cheap (well under a millisecond for small states, a few for the largest) and shares
/// memory with the original until either changes: it is what a snapshot is written from and what a
/// long query runs on, while shares go on being applied to the original.
#[derive(Clone, Debug)]
pub struct State {
    applied: u64,
    format: u8,
    counted: Credit,
    identity: Identity,
    leases: Leases,
    members: Members,
    settings: BTreeMap<String, String>,
    users: Users,
    rounds: Rounds,
    seen: Seen,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The ledger before its first command.
    pub fn new() -> Self {
        Self {
            applied: 0,
            format: 1,
            counted: Credit::default(),
            identity: Identity::default(),
            leases: Leases::new(),
            members: Members::new(),
            settings: BTreeMap::new(),
            users: Users::new(),
            rounds: Rounds::default(),
            seen: Seen::new(MAX_SEEN),
        }
    }

    /// Says whether a command may enter the log: the proposer asks before it proposes, so that what
    /// some member can't read is refused with a reason and never becomes an entry.
    ///
    /// # Errors
    ///
    /// A limit that is broken, or a format that the cluster has not agreed on.
    pub fn admit(&self, command: &Command) -> Result<(), Refusal> {
        command.check()?;
        if let Command::SetFormat(format) = *command
            && format > FORMAT
        {
            return Err(Refusal::BadFormat(format));
        }
        let needed = command.since();
        if needed > self.format {
            return Err(Refusal::FormatNotActive { needed, active: self.format });
        }
        Ok(())
    }

    /// Carries a command out. `index` is that of its log entry.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        self.applied = index;
        if let Command::Shares { time, batch } = command {
            return match command.check() {
                Ok(()) => Outcome::Shares(self.count(*time, batch)),
                Err(refusal) => Outcome::Refused(refusal),
            };
        }
        self.change(command).unwrap_or_else(Outcome::Refused)
    }

    /// The index of the newest command that was carried out.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The format that all members have agreed to read.
    pub fn format(&self) -> u8 {
        self.format
    }

    /// All credit since the cluster was formed. It equals the sum over the current round and all
    /// closed rounds that are not orphaned, as long as none has been forgotten.
    pub fn counted(&self) -> Credit {
        self.counted
    }

    /// Cluster id and keys.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The directory of nodes.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// A setting of the cluster.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// All settings of the cluster, by key.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Users.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The current round and past ones.
    pub fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Share hashes that are remembered.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    fn count(&mut self, time: u32, batch: &[Share]) -> Vec<ShareOutcome> {
        let mut newest = 0;
        let outcomes = batch.iter().map(|share| {
            if let Some(outcome) = self.seen.check(share) {
                return outcome;
            }
            if !self.users.is_active(share.user) {
                return ShareOutcome::UnknownUser;
            }
            self.seen.insert(share);
            self.rounds.count(share);
            self.counted += Credit { shares: 1, work: u128::from(share.work) };
            newest = newest.max(share.job_time);
            ShareOutcome::Counted
        });
        let outcomes = outcomes.collect();
        self.seen.advance(newest, time);
        outcomes
    }

    fn change(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        command.check()?;
        match command.clone() {
            Command::Shares { time, batch } => Ok(Outcome::Shares(self.count(time, &batch))),
            Command::Init { cluster, sid_key, ticket_key, time } => {
                self.identity.form(cluster, sid_key, ticket_key, time)?;
                Ok(Outcome::Done)
            }
            Command::AddUser(user) => self.users.add(user).map(Outcome::User),
            Command::ImportUsers(users) => self.import(users),
            Command::EnsureUser { name } => match self.users.id(&name) {
                Some(id) => Ok(Outcome::User(id)),
                None => {
                    self.users.add(NewUser { name, verifier: Verifier::None }).map(Outcome::User)
                }
            },
            Command::SetPassword { user, expected, verifier } => {
                let user = self.users.change(user)?;
                if expected.is_some_and(|expected| expected != user.verifier) {
                    return Err(Refusal::Changed);
                }
                user.verifier = verifier;
                Ok(Outcome::Done)
            }
            Command::SetUserDisabled { user, disabled } => {
                self.users.change(user)?.disabled = disabled;
                Ok(Outcome::Done)
            }
            Command::BlockFound(block) => {
                if self.rounds.by_hash(&block.hash).is_none() {
                    self.count(block.time, block.share.as_slice());
                }
                let (round, new) = self.rounds.close(*block);
                Ok(Outcome::Block { round, new })
            }
            Command::BlockStatus { hash, verdict } => {
                self.rounds.settle(&hash, verdict)?;
                Ok(Outcome::Done)
            }
            Command::GrantLease { kind, holder } => {
                self.leases.grant(kind, holder).map(Outcome::Lease)
            }
            Command::AllocateNodeId { name, token, address } => {
                self.members.allocate(name, token, address).map(Outcome::NodeId)
            }
            Command::SetMemberAddress { name, address, stratum } => {
                self.members.set_address(&name, address, stratum)?;
                Ok(Outcome::Done)
            }
            Command::RemoveMember { name } => {
                self.members.remove(&name)?;
                Ok(Outcome::Done)
            }
            Command::RotateTicketKey { key, time } => {
                self.identity.rotate(key, time).map(Outcome::TicketKey)
            }
            Command::Setting { key, value } => self.set(key, value),
            Command::SetFormat(format) => {
                if format < self.format {
                    return Err(Refusal::BadFormat(format));
                }
                self.format = format;
                Ok(Outcome::Done)
            }
        }
    }

    fn import(&mut self, users: Vec<NewUser>) -> Result<Outcome, Refusal> {
        if self.users.len() + users.len() > MAX_USERS {
            return Err(Refusal::Full { what: "users".into(), limit: MAX_USERS as u32 });
        }
        let (mut added, mut kept) = (0, 0);
        for user in users {
            match self.users.add(user) {
                Ok(_) => added += 1,
                Err(Refusal::UserExists) => kept += 1,
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Outcome::Imported { added, kept })
    }

    fn set(&mut self, key: String, value: String) -> Result<Outcome, Refusal> {
        if value.is_empty() {
            self.settings.remove(&key);
        } else if self.settings.len() >= MAX_SETTINGS && !self.settings.contains_key(&key) {
            return Err(Refusal::Full { what: "settings".into(), limit: MAX_SETTINGS as u32 });
        } else {
            self.settings.insert(key, value);
        }
        Ok(Outcome::Done)
    }
}
