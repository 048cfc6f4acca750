//! Requests between nodes: framed, multiplexed, on connections that know who is at the other end.
//!
//! Two classes of connection go to every peer: *raft* for what is small and urgent, *bulk* for
//! snapshots, jobs, blocks and transactions. A third protocol on the same port, the session link,
//! is handed to the host as it is.

mod append;
mod connection;
mod directory;
mod network;
mod server;
mod wire;

pub use network::{Incoming, Listener, Network, Stream, TlsNetwork};

pub(crate) use append::{AppendLane, join as join_append};
pub(crate) use connection::{Answer, Connection, Hello, RequestError, Welcome, decode, encode};
pub(crate) use directory::{Peer, Peers};
pub(crate) use server::{Remote, Service, serve};
#[cfg(test)]
pub(crate) use wire::decode as decode_frame;
pub(crate) use wire::{Kind, Outbox};

/// Largest frame. A block of 4 MB with its framing fits.
pub(crate) const MAX_FRAME: usize = 8 << 20;
/// Bytes that may wait to be written to one connection.
pub(crate) const MAX_OUTBOX: usize = 32 << 20;
/// Requests of one connection that may be worked on at once; beyond it the connection is not read.
pub(crate) const MAX_REQUESTS_IN_FLIGHT: usize = 256;
/// Connections to the cluster port that may be in their handshake at once.
pub(crate) const MAX_HANDSHAKES: usize = 128;
/// Connections to the cluster port in all.
pub(crate) const MAX_CONNECTIONS: usize = 1_024;
/// Version of the frames and of what is in them.
pub(crate) const WIRE_VERSION: u16 = 1;
