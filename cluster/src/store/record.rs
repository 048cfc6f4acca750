//! How ids, votes and entries are written into the log's records. The order of the fields is the
//! format: it is read by later versions too.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use raft_log::codeq::{Decode, Encode};

use crate::engine::{LogId, Node, Proposal, Vote};
use crate::handle::NodeId;
use crate::peer::MAX_FRAME;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) LogId);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
pub(crate) struct VoteRecord(pub(crate) Vote);

#[derive(Debug, Clone)]
pub(crate) struct Payload(pub(crate) EntryPayload<Proposal, NodeId, Node>);

impl Payload {
    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        match &self.0 {
            EntryPayload::Normal(proposal) => proposal.0.len() + 32,
            EntryPayload::Blank | EntryPayload::Membership(_) => 256,
        }
    }
}

impl Encode for Id {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let leader = &self.0.leader_id;
        for number in [leader.term, leader.node_id, self.0.index] {
            w.write_all(&number.to_le_bytes())?;
        }
        Ok(24)
    }
}

impl Decode for Id {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let (term, node_id, index) = (number(&mut r)?, number(&mut r)?, number(&mut r)?);
        Ok(Self(LogId::new(LeaderId { term, node_id }, index)))
    }
}

impl Encode for VoteRecord {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        w.write_all(&self.0.leader_id.term.to_le_bytes())?;
        w.write_all(&self.0.leader_id.node_id.to_le_bytes())?;
        w.write_all(&[u8::from(self.0.committed)])?;
        Ok(17)
    }
}

impl Decode for VoteRecord {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let (term, node_id) = (number(&mut r)?, number(&mut r)?);
        let mut committed = [0];
        r.read_exact(&mut committed)?;
        let leader_id = LeaderId { term, node_id };
        Ok(Self(Vote { leader_id, committed: committed[0] != 0 }))
    }
}

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

impl Encode for Payload {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let membership;
        let (kind, body): (u8, &[u8]) = match &self.0 {
            EntryPayload::Blank => (BLANK, &[]),
            EntryPayload::Normal(proposal) => (COMMAND, &proposal.0),
            EntryPayload::Membership(members) => {
                membership = postcard::to_stdvec(members).map_err(io::Error::other)?;
                (MEMBERSHIP, &membership)
            }
        };
        w.write_all(&[kind])?;
        w.write_all(&(body.len() as u32).to_le_bytes())?;
        w.write_all(body)?;
        Ok(5 + body.len())
    }
}

impl Decode for Payload {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let mut head = [0; 5];
        r.read_exact(&mut head)?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME {
            return Err(invalid(format!("log entry of {length} bytes")));
        }
        // Grows with what is really there, whatever the length claims.
        let mut body = Vec::with_capacity(length.min(64 << 10));
        r.take(length as u64).read_to_end(&mut body)?;
        if body.len() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self(match kind {
            BLANK => EntryPayload::Blank,
            COMMAND => EntryPayload::Normal(Proposal(Bytes::from(body))),
            MEMBERSHIP => EntryPayload::Membership(postcard::from_bytes(&body).map_err(invalid)?),
            kind => return Err(invalid(format!("log entry of unknown kind {kind}"))),
        }))
    }
}

fn number(r: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    r.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn invalid(reason: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}
