//! The session link: one connection per proxy and node, carrying many miners' sessions.
//!
//! [`frame`] says what crosses it, [`queue`] batches what leaves, [`connection`] greets, reads and
//! keeps both ends sure that the other lives. The proxy's end [`connect`]s, the node's [`accept`]s;
//! what the frames mean to either is theirs.

pub mod connection;
pub mod frame;
pub mod queue;

pub use connection::{Batch, Connection, LinkError, Timing, accept, connect};
pub use frame::{
    ByNode, ByProxy, FrameError, Member, NodeHello, NodeState, Opening, ProxyHello, ToNode, ToProxy,
};
pub use queue::{Sender, Writer};
