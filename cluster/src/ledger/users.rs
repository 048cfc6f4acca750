//! Users: who can be credited, and what their passwords are checked against.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::command::NewUser;
use super::digest::{self, Digest};
use super::outcome::Refusal;

/// Users in a ledger at most. In `open` mode strangers create them, so there has to be a bound:
/// this many take about 1 GB.
pub const MAX_USERS: usize = 4_000_000;

/// Bytes of an encoded password hash at most.
pub const MAX_PHC: usize = 256;

/// Users in one section of a snapshot, and the unit that is copied when a user changes while a
/// snapshot is being written.
const CHUNK: usize = 512;

/// A user's number, given in the order of creation and never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UserId(pub u32);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a password is checked against.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verifier {
    /// Nothing: no password is right. Users of the `address` and `open` modes, where none is asked
    /// for; in `registered` mode they can't log in until they are given one.
    None,
    /// An Argon2id hash as a PHC string, with its parameters and salt.
    Argon2id(Box<str>),
    /// bcoin-stratum's double SHA-256 of the password, in the byte order that its hex shows. To be
    /// replaced when the user next logs in.
    Legacy(Box<[u8; 32]>),
}

impl Verifier {
    /// Checks its form.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadVerifier`] if it claims to be Argon2id and can't be.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::None | Self::Legacy(_) => Ok(()),
            Self::Argon2id(phc) if phc.starts_with("$argon2id$") && phc.len() <= MAX_PHC => Ok(()),
            Self::Argon2id(_) => Err(Refusal::BadVerifier),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Argon2id(_) => "Argon2id(…)",
            Self::Legacy(_) => "Legacy(…)",
        })
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name that miners log in with, and that rounds and dumps show.
    pub name: Box<str>,
    /// What the password is checked against.
    pub verifier: Verifier,
    /// A disabled user can't log in and is not credited.
    pub disabled: bool,
}

/// All users. Cheap to clone: what does not change afterwards is shared.
#[derive(Clone)]
pub struct Users {
    chunks: Vec<Arc<Chunk>>,
    len: usize,
    /// Number of each user, found by name. Never iterated over and never encoded, so that its
    /// random hash keys show nowhere.
    index: Arc<HashTable<u32>>,
    hasher: RandomState,
}

#[derive(Clone, Default)]
pub(super) struct Chunk {
    users: Vec<User>,
    digest: OnceLock<Digest>,
}

impl Users {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), len: 0, index: Arc::default(), hasher: RandomState::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of the user of that name.
    pub fn id(&self, name: &str) -> Option<UserId> {
        let hash = self.hasher.hash_one(name);
        self.index.find(hash, |&id| self.name(id) == name).map(|&id| UserId(id))
    }

    /// The user of that number.
    pub fn by_id(&self, id: UserId) -> Option<&User> {
        let id = id.0 as usize;
        self.chunks.get(id / CHUNK)?.users.get(id % CHUNK)
    }

    /// The user of that name.
    pub fn by_name(&self, name: &str) -> Option<(UserId, &User)> {
        let id = self.id(name)?;
        Some((id, self.by_id(id)?))
    }

    /// Users in the order of their numbers, from one on.
    pub fn from(&self, first: UserId) -> impl Iterator<Item = (UserId, &User)> {
        (first.0..self.len as u32).filter_map(|id| Some((UserId(id), self.by_id(UserId(id))?)))
    }

    /// All users in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (UserId, &User)> {
        self.from(UserId(0))
    }

    /// Whether shares of that user are credited.
    pub(super) fn is_active(&self, id: UserId) -> bool {
        self.by_id(id).is_some_and(|user| !user.disabled)
    }

    pub(super) fn add(&mut self, user: NewUser) -> Result<UserId, Refusal> {
        if self.id(&user.name).is_some() {
            return Err(Refusal::UserExists);
        }
        let NewUser { name, verifier } = user;
        self.push(User { name: name.into(), verifier, disabled: false })
    }

    pub(super) fn change(&mut self, id: UserId) -> Result<&mut User, Refusal> {
        let index = id.0 as usize;
        if index >= self.len {
            return Err(Refusal::NoSuchUser);
        }
        let chunk = Arc::make_mut(&mut self.chunks[index / CHUNK]);
        chunk.digest = OnceLock::new();
        Ok(&mut chunk.users[index % CHUNK])
    }

    pub(super) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Adds the users of the next section of a snapshot.
    pub(super) fn extend(&mut self, users: Vec<User>) -> Result<(), &'static str> {
        for user in users {
            if self.id(&user.name).is_some() {
                return Err("a user name comes twice");
            }
            self.push(user).map_err(|_| "there are too many users")?;
        }
        Ok(())
    }

    fn push(&mut self, user: User) -> Result<UserId, Refusal> {
        if self.len >= MAX_USERS {
            return Err(Refusal::Full { what: "users".into(), limit: MAX_USERS as u32 });
        }
        let id = self.len as u32;
        let hash = self.hasher.hash_one(&*user.name);
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.chunks[self.len / CHUNK]);
        chunk.digest = OnceLock::new();
        chunk.users.push(user);
        self.len += 1;
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        let rehash = |&id: &u32| {
            let id = id as usize;
            hasher.hash_one(&*chunks[id / CHUNK].users[id % CHUNK].name)
        };
        Arc::make_mut(&mut self.index).insert_unique(hash, id, rehash);
        Ok(UserId(id))
    }

    fn name(&self, id: u32) -> &str {
        &self.chunks[id as usize / CHUNK].users[id as usize % CHUNK].name
    }
}

impl Chunk {
    pub(super) fn encode(&self) -> Vec<u8> {
        digest::encode(&self.users)
    }

    pub(super) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| digest::of(&self.encode()))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("len", &self.len).finish_non_exhaustive()
    }
}
