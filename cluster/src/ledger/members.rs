//! Members: the nodes of the cluster by name, and Raft ids that are never used twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outcome::Refusal;

/// Members of a cluster at most.
pub const MAX_MEMBERS: usize = 256;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its Raft id.
    pub id: u64,
    /// What its disk was marked with when it asked for the id.
    pub token: [u8; 16],
    /// `host:port` that its peers reach it at.
    pub address: String,
    /// `host:port` of its stratum port that miners know, or empty.
    pub stratum: String,
}

/// The directory of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    next_id: u64,
    by_name: BTreeMap<String, Member>,
}

impl Members {
    pub(super) fn new() -> Self {
        Self { next_id: 1, by_name: BTreeMap::new() }
    }

    /// The member of that name.
    pub fn by_name(&self, name: &str) -> Option<&Member> {
        self.by_name.get(name)
    }

    /// The member with that Raft id, and its name.
    pub fn by_id(&self, id: u64) -> Option<(&str, &Member)> {
        self.iter().find(|(_, member)| member.id == id)
    }

    /// Whether that Raft id was given to some member, listed or removed since.
    pub fn was_given(&self, id: u64) -> bool {
        (1..self.next_id).contains(&id)
    }

    /// All members, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.by_name.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn allocate(
        &mut self,
        name: String,
        token: [u8; 16],
        address: String,
    ) -> Result<u64, Refusal> {
        if let Some(member) = self.by_name.get_mut(&name) {
            if member.token != token {
                return Err(Refusal::MemberExists { id: member.id });
            }
            member.address = address;
            return Ok(member.id);
        }
        if self.len() >= MAX_MEMBERS {
            return Err(Refusal::Full { what: "members".into(), limit: MAX_MEMBERS as u32 });
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or(Refusal::Exhausted)?;
        self.by_name.insert(name, Member { id, token, address, stratum: String::new() });
        Ok(id)
    }

    pub(super) fn set_address(
        &mut self,
        name: &str,
        address: String,
        stratum: String,
    ) -> Result<(), Refusal> {
        let member = self.by_name.get_mut(name).ok_or(Refusal::NoSuchMember)?;
        member.address = address;
        member.stratum = stratum;
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        self.by_name.remove(name).map(drop).ok_or(Refusal::NoSuchMember)
    }
}
