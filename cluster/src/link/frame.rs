//! The frames of the link: what each end tells the other, and their bytes.
//!
//! A frame is a little-endian `u32` length of what follows it, a byte that says its kind, and a
//! body. Integers are little-endian; what is cold travels as `postcard`. Decoding borrows from the
//! receive buffer and refuses, never panics on, anything it does not know.

use std::net::IpAddr;

use seam_stratum::{Difficulty, Extranonce1, SidKey};
use serde::{Deserialize, Serialize};

/// The oldest and newest protocol version this build speaks.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The longest frame, in bytes after the length: several times the unanswered lines of a session.
pub const MAX_FRAME: usize = 1 << 20;

/// The longest ticket, in bytes.
pub const MAX_TICKET: usize = 16 * 1024;

/// The most members a node may name.
pub const MAX_MEMBERS: usize = 256;

/// What a proxy says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyHello {
    /// The oldest and newest version it speaks.
    pub versions: (u16, u16),
    /// Its name, as in its certificate.
    pub name: String,
    /// The cluster it belongs to, if it has learned that.
    pub cluster: Option<String>,
}

/// What a node answers to [`ProxyHello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHello {
    /// The version both will speak.
    pub version: u16,
    /// Its name, as in its certificate.
    pub name: String,
    /// Its cluster; `None` before that is formed.
    pub cluster: Option<String>,
}

/// How a node is: sent after the greeting and whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Chain synced, quorum there, not stopping: sessions may come.
    pub ready: bool,
    /// Sessions shall leave, at the proxy's pace.
    pub draining: bool,
    /// The key of the sids' tags, once the ledger has one.
    pub sid_key: Option<SidKey>,
    /// The cluster's nodes, itself among them.
    pub members: Vec<Member>,
}

/// A node of the cluster, as another knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its name, as in its certificate.
    pub name: String,
    /// `host:port` of its cluster listener.
    pub address: String,
}

/// A session to be taken over or started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening<'a> {
    /// Its extranonce1: verified if the miner sent a sid, else leased by the proxy.
    pub extranonce1: Extranonce1,
    /// The miner asked for this extranonce1 with a sid whose tag is right; whoever holds it loses it.
    pub resume: bool,
    /// The session has run on another node within this miner connection, and continues.
    pub moved: bool,
    /// The miner's own address.
    pub peer: IpAddr,
    /// The version mask that `mining.configure` agreed on before the session was routed.
    pub version_mask: Option<u32>,
    /// The minimum difficulty that `mining.configure` asked for.
    pub minimum_difficulty: Option<Difficulty>,
    /// Whether `mining.configure` agreed on `subscribe-extranonce`.
    pub extranonce_subscribed: bool,
    /// The newest ticket of the session, if it has one.
    #[serde(borrow)]
    pub ticket: Option<&'a [u8]>,
}

/// Why a proxy closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByProxy {
    /// The miner went away, and may come back with its sid.
    MinerGone,
    /// The session now lives on another node.
    Moved,
}

/// Why a node closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByNode {
    /// The miner is done for: what it broke has been said to it.
    Ended,
    /// The miner's address misbehaved and shall stay out for so many seconds.
    Banned {
        /// How long, in seconds.
        seconds: u32,
    },
    /// The same sid came in over another connection.
    TakenOver,
    /// This node cannot take the session now; another may.
    Refused,
}

/// Frames from proxy to node.
#[derive(Clone, Debug, PartialEq)]
pub enum ToNode<'a> {
    /// The greeting, once.
    Hello(ProxyHello),
    /// Alive.
    Ping,
    /// A session starts on this node. The number is the link's own, never used again on it.
    Open {
        /// Link-local number.
        session: u32,
        /// What is known of the session.
        opening: Opening<'a>,
    },
    /// Whole lines of a miner, each with its `\n`. Every line is settled once, in order.
    Lines {
        /// Link-local number.
        session: u32,
        /// Another node had them and did not answer: a share among them may be counted already.
        replay: bool,
        /// The lines.
        bytes: &'a [u8],
    },
    /// The session ends here. No frame for it follows.
    Close {
        /// Link-local number.
        session: u32,
        /// Why.
        why: ByProxy,
    },
    /// A range of extranonce1 is wanted.
    RangeWanted,
    /// What the proxy has, for the operator.
    Stats {
        /// Its miners' connections.
        sessions: u32,
    },
}

/// Frames from node to proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum ToProxy<'a> {
    /// The greeting, once.
    Hello(NodeHello),
    /// Alive.
    Ping,
    /// How the node is.
    State(NodeState),
    /// Bytes for one miner: answers, or what precedes a job.
    Out {
        /// Link-local number.
        session: u32,
        /// How many of the session's lines these bytes settle: each line is answered in them, or
        /// wants no answer.
        settled: u16,
        /// The session's new ticket, if what it holds has changed.
        ticket: Option<&'a [u8]>,
        /// The lines.
        bytes: &'a [u8],
    },
    /// Bytes for every session that wants work.
    Notify {
        /// The line.
        bytes: &'a [u8],
    },
    /// Whether a session wants [`ToProxy::Notify`].
    Wants {
        /// Link-local number.
        session: u32,
        /// From now on.
        on: bool,
    },
    /// The session ended on the node. No frame for it follows.
    Closed {
        /// Link-local number.
        session: u32,
        /// Why.
        why: ByNode,
    },
    /// The range asked for: `count` numbers from `first`.
    Range {
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
    },
    /// No range can be had now.
    NoRange,
    /// The node in figures, for people: a [`crate::pulse::Pulse`].
    Pulse {
        /// Its bytes.
        bytes: &'a [u8],
    },
}

/// Bytes that are no frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`], or empty.
    #[error("frame of {0} bytes")]
    Length(usize),
    /// A kind this version does not have.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The body does not fit its kind.
    #[error("malformed frame of kind {0}")]
    Body(u8),
}

/// Something that can be put on a link.
pub trait Encode {
    /// Appends kind and body, without the length.
    fn encode(&self, to: &mut Vec<u8>);

    /// Appends the whole frame.
    fn encode_frame(&self, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(&[0; 4]);
        self.encode(to);
        let length = to.len() - start - 4;
        debug_assert!(length <= MAX_FRAME, "frame of {length} bytes");
        to[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    }
}

/// The extent of the first frame's kind and body in `buffer`, once it is there whole.
///
/// # Errors
/// [`FrameError::Length`] as soon as the length is known to be out of bounds.
pub fn split(buffer: &[u8]) -> Result<Option<std::ops::Range<usize>>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    Ok((rest.len() >= length).then_some(4..4 + length))
}

const HELLO: u8 = 1;
const PING: u8 = 2;
const OPEN: u8 = 3;
const LINES: u8 = 4;
const CLOSE: u8 = 5;
const RANGE_WANTED: u8 = 6;
const STATS: u8 = 7;
const STATE: u8 = 33;
const OUT: u8 = 34;
const NOTIFY: u8 = 35;
const WANTS: u8 = 36;
const CLOSED: u8 = 37;
const RANGE: u8 = 38;
const NO_RANGE: u8 = 39;
const PULSE: u8 = 40;

impl Encode for ToNode<'_> {
    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => cold(to, HELLO, hello),
            Self::Ping => to.push(PING),
            Self::Open { session, opening } => {
                to.push(OPEN);
                number(to, *session);
                append(to, opening);
            }
            Self::Lines { session, replay, bytes } => {
                to.push(LINES);
                number(to, *session);
                to.push(u8::from(*replay));
                to.extend_from_slice(bytes);
            }
            Self::Close { session, why } => {
                to.push(CLOSE);
                number(to, *session);
                append(to, why);
            }
            Self::RangeWanted => to.push(RANGE_WANTED),
            Self::Stats { sessions } => {
                to.push(STATS);
                number(to, *sessions);
            }
        }
    }
}

impl<'a> ToNode<'a> {
    /// Reads what [`split`] found.
    ///
    /// # Errors
    /// [`FrameError`] if it is no frame that a proxy sends.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (&kind, body) = frame.split_first().ok_or(FrameError::Length(0))?;
        let parsed = match kind {
            HELLO => whole(body).map(Self::Hello),
            PING => empty(body, Self::Ping),
            OPEN => session(body).and_then(|(session, body)| {
                let opening: Opening<'a> = whole(body)?;
                let ticket = opening.ticket.map_or(0, <[u8]>::len);
                (ticket <= MAX_TICKET).then_some(Self::Open { session, opening })
            }),
            LINES => session(body).and_then(|(session, body)| {
                let (&replay, bytes) = body.split_first()?;
                (replay <= 1).then_some(Self::Lines { session, replay: replay == 1, bytes })
            }),
            CLOSE => session(body)
                .and_then(|(session, body)| Some(Self::Close { session, why: whole(body)? })),
            RANGE_WANTED => empty(body, Self::RangeWanted),
            STATS => {
                session(body).and_then(|(sessions, body)| empty(body, Self::Stats { sessions }))
            }
            _ => return Err(FrameError::Kind(kind)),
        };
        parsed.ok_or(FrameError::Body(kind))
    }
}

impl Encode for ToProxy<'_> {
    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => cold(to, HELLO, hello),
            Self::Ping => to.push(PING),
            Self::State(state) => cold(to, STATE, state),
            Self::Out { session, settled, ticket, bytes } => {
                to.push(OUT);
                number(to, *session);
                to.extend_from_slice(&settled.to_le_bytes());
                let ticket = ticket.unwrap_or_default();
                debug_assert!(ticket.len() <= MAX_TICKET, "ticket of {} bytes", ticket.len());
                to.extend_from_slice(&(ticket.len() as u16).to_le_bytes());
                to.extend_from_slice(ticket);
                to.extend_from_slice(bytes);
            }
            Self::Notify { bytes } => {
                to.push(NOTIFY);
                to.extend_from_slice(bytes);
            }
            Self::Wants { session, on } => {
                to.push(WANTS);
                number(to, *session);
                to.push(u8::from(*on));
            }
            Self::Closed { session, why } => {
                to.push(CLOSED);
                number(to, *session);
                append(to, why);
            }
            Self::Range { first, count } => {
                to.push(RANGE);
                number(to, *first);
                number(to, *count);
            }
            Self::NoRange => to.push(NO_RANGE),
            Self::Pulse { bytes } => {
                to.push(PULSE);
                to.extend_from_slice(bytes);
            }
        }
    }
}

impl<'a> ToProxy<'a> {
    /// Reads what [`split`] found.
    ///
    /// # Errors
    /// [`FrameError`] if it is no frame that a node sends.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (&kind, body) = frame.split_first().ok_or(FrameError::Length(0))?;
        let parsed = match kind {
            HELLO => whole(body).map(Self::Hello),
            PING => empty(body, Self::Ping),
            STATE => whole(body)
                .filter(|state: &NodeState| state.members.len() <= MAX_MEMBERS)
                .map(Self::State),
            OUT => session(body).and_then(|(session, body)| {
                let (&settled, body) = body.split_first_chunk::<2>()?;
                let (&ticket, body) = body.split_first_chunk::<2>()?;
                let ticket = usize::from(u16::from_le_bytes(ticket));
                if ticket > MAX_TICKET {
                    return None;
                }
                let (ticket, bytes) = body.split_at_checked(ticket)?;
                Some(Self::Out {
                    session,
                    settled: u16::from_le_bytes(settled),
                    ticket: (!ticket.is_empty()).then_some(ticket),
                    bytes,
                })
            }),
            NOTIFY => Some(Self::Notify { bytes: body }),
            WANTS => session(body).and_then(|(session, body)| match body {
                [on @ 0..=1] => Some(Self::Wants { session, on: *on == 1 }),
                _ => None,
            }),
            CLOSED => session(body)
                .and_then(|(session, body)| Some(Self::Closed { session, why: whole(body)? })),
            RANGE => session(body).and_then(|(first, body)| {
                let (count, body) = session(body)?;
                empty(body, Self::Range { first, count })
            }),
            NO_RANGE => empty(body, Self::NoRange),
            PULSE => Some(Self::Pulse { bytes: body }),
            _ => return Err(FrameError::Kind(kind)),
        };
        parsed.ok_or(FrameError::Body(kind))
    }
}

fn cold(to: &mut Vec<u8>, kind: u8, value: &impl Serialize) {
    to.push(kind);
    append(to, value);
}

fn append(to: &mut Vec<u8>, value: &impl Serialize) {
    // Only a failing writer or a type without a known length can fail, and neither is here.
    if let Err(error) = postcard::to_io(value, &mut *to) {
        unreachable!("postcard: {error}");
    }
}

fn number(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn session(body: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = body.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn whole<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

fn empty<T>(body: &[u8], frame: T) -> Option<T> {
    body.is_empty().then_some(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opening<'a>(ticket: Option<&'a [u8]>, number: u32) -> Opening<'a> {
        Opening {
            extranonce1: Extranonce1(number),
            resume: number & 1 == 1,
            moved: number & 2 == 2,
            peer: IpAddr::from([10, 0, 0, number as u8]),
            version_mask: (number & 4 == 4).then_some(number),
            minimum_difficulty: (number & 8 == 8).then(|| Difficulty::new(0.5).unwrap()),
            extranonce_subscribed: number & 16 == 16,
            ticket,
        }
    }

    fn state(count: usize) -> NodeState {
        NodeState {
            ready: true,
            draining: count == 1,
            sid_key: (count > 0).then_some(SidKey([7; 32])),
            members: (0..count)
                .map(|i| Member { name: format!("node-{i}"), address: format!("host-{i}:7333") })
                .collect(),
        }
    }

    fn to_node(frame: &ToNode<'_>) {
        let mut bytes = Vec::new();
        frame.encode_frame(&mut bytes);
        let extent = split(&bytes).unwrap().unwrap();
        assert_eq!(extent.end, bytes.len());
        assert_eq!(&ToNode::decode(&bytes[extent]).unwrap(), frame);
        assert_eq!(split(&bytes[..bytes.len() - 1]).unwrap(), None);
    }

    fn to_proxy(frame: &ToProxy<'_>) {
        let mut bytes = Vec::new();
        frame.encode_frame(&mut bytes);
        let extent = split(&bytes).unwrap().unwrap();
        assert_eq!(extent.end, bytes.len());
        assert_eq!(&ToProxy::decode(&bytes[extent]).unwrap(), frame);
    }

    proptest! {
        #[test]
        fn frames_of_a_proxy_come_back_as_they_went(
            session in any::<u32>(), bytes in prop::collection::vec(any::<u8>(), 0..600),
            replay in any::<bool>(), name in "[a-z0-9-]{0,20}", id in prop::option::of("[a-f0-9]{32}"),
        ) {
            to_node(&ToNode::Hello(ProxyHello { versions: VERSIONS, name, cluster: id }));
            to_node(&ToNode::Ping);
            let ticket = (!bytes.is_empty()).then_some(&bytes[..]);
            to_node(&ToNode::Open { session, opening: opening(ticket, session) });
            to_node(&ToNode::Lines { session, replay, bytes: &bytes });
            to_node(&ToNode::Close { session, why: ByProxy::Moved });
            to_node(&ToNode::RangeWanted);
            to_node(&ToNode::Stats { sessions: session });
        }

        #[test]
        fn frames_of_a_node_come_back_as_they_went(
            session in any::<u32>(), settled in any::<u16>(), on in any::<bool>(),
            ticket in prop::collection::vec(any::<u8>(), 1..300),
            bytes in prop::collection::vec(any::<u8>(), 0..600), members in 0_usize..5,
        ) {
            to_proxy(&ToProxy::Hello(NodeHello { version: 1, name: "n".into(), cluster: None }));
            to_proxy(&ToProxy::Ping);
            to_proxy(&ToProxy::State(state(members)));
            to_proxy(&ToProxy::Out { session, settled, ticket: on.then_some(&ticket), bytes: &bytes });
            to_proxy(&ToProxy::Notify { bytes: &bytes });
            to_proxy(&ToProxy::Wants { session, on });
            to_proxy(&ToProxy::Closed { session, why: ByNode::Banned { seconds: session } });
            to_proxy(&ToProxy::Range { first: session, count: 4096 });
            to_proxy(&ToProxy::NoRange);
            to_proxy(&ToProxy::Pulse { bytes: &bytes });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(extent)) = split(&bytes) {
                let _ = ToNode::decode(&bytes[extent.clone()]);
                let _ = ToProxy::decode(&bytes[extent]);
            }
            let _ = ToNode::decode(&bytes);
            let _ = ToProxy::decode(&bytes);
        }

        #[test]
        fn broken_frames_never_panic(
            at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            ToNode::Open { session: 9, opening: opening(Some(b"ticket"), 31) }.encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = ToNode::decode(&bytes[..=cut.index(bytes.len())]);
            bytes.clear();
            ToProxy::State(state(3)).encode(&mut bytes);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = ToProxy::decode(&bytes[..=cut.index(bytes.len())]);
        }
    }

    #[test]
    fn length_out_of_bounds_is_an_error_at_once() {
        assert_eq!(split(&[0, 0, 0, 0]), Err(FrameError::Length(0)));
        let long = MAX_FRAME as u32 + 1;
        assert_eq!(split(&long.to_le_bytes()), Err(FrameError::Length(MAX_FRAME + 1)));
        assert_eq!(split(&[1, 0]), Ok(None));
    }
}
