//! Miners that connect to this node itself.
//!
//! Each connection is one task that holds little while it is idle: its [`Session`], a mailbox, and
//! whatever part of a line or of an answer is under way. Bytes are read into and written from
//! buffers of the worker thread.

mod connection;
mod mailbox;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seam_cluster::settings::split_host_port;
use slab::Slab;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use self::connection::Connection;
pub use self::mailbox::Mailbox;
use crate::config::Limits;
use crate::fault::{Code, Fault};
use crate::limits::Place;
use crate::pool::Pool;
use crate::session::{Closed, Session};

/// The stratum port and everyone connected to it.
pub struct Direct {
    pool: Arc<Pool>,
    limits: Limits,
    /// What miners know this node as.
    public: Option<(String, u16)>,
    roster: Roster,
    is_draining: AtomicBool,
}

impl Direct {
    /// A port that nobody is connected to.
    #[must_use]
    pub fn new(pool: Arc<Pool>, limits: Limits, public: &str) -> Arc<Self> {
        let public = split_host_port(public).map(|(host, port)| (host.to_owned(), port));
        Arc::new(Self {
            pool,
            limits,
            public,
            roster: Roster::default(),
            is_draining: AtomicBool::new(false),
        })
    }

    /// Accepts connections until the listener fails for good.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) -> io::Error {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.take(stream, address),
                Err(error) if is_transient(&error) => {
                    // Out of file descriptors: those who are here go on, and leave in time.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => return error,
            }
        }
    }

    /// Hands each new job to all sessions.
    pub async fn fan_out(self: Arc<Self>) {
        let mut jobs = self.pool.jobs.watch();
        while jobs.changed().await.is_ok() {
            jobs.borrow_and_update();
            let now = self.pool.clock.monotonic_micros();
            self.roster.wake_all(now);
        }
    }

    /// Takes no more sessions; those that are here are answered, then sent elsewhere.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.roster.wake_all(0);
    }

    /// Takes sessions again.
    pub fn undrain(&self) {
        self.is_draining.store(false, Ordering::Release);
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.roster.len.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let peer = address.ip().to_canonical();
        if self.is_draining.load(Ordering::Acquire) {
            return;
        }
        let Ok(place) = self.pool.addresses.admit(peer) else { return };
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%peer, %error, "a connection could not be prepared");
            return;
        }
        let direct = Arc::clone(self);
        tokio::spawn(direct.serve(stream, address, place));
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: Place) {
        let mailbox = Mailbox::new();
        let slot = self.roster.add(&mailbox);
        let connection = Connection::new(Arc::clone(&self), stream, address, mailbox);
        let why = connection.run().await;
        self.roster.remove(slot);
        if !matches!(why, Closed::Miner) {
            tracing::debug!(%address, reason = why.label(), "connection closed");
        }
        drop(place);
    }

    fn endpoint(&self) -> Option<(&str, u16)> {
        self.public.as_ref().map(|(host, port)| (host.as_str(), *port))
    }
}

/// Opens a listening socket as all of ours are.
pub fn listen(key: &str, address: &str) -> Result<std::net::TcpListener, Fault> {
    let failed = |error: io::Error| {
        Fault::new(Code::Listen, format!("{key}: cannot listen on {address}: {error}"))
    };
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| Fault::new(Code::Listen, format!("{key}: {address:?} is no address")))?;
    let domain = if parsed.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let open = || {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&parsed.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(failed)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY),
    )?;
    // What the kernel keeps for a client that does not read is bounded, too.
    socket.set_send_buffer_size(SEND_BUFFER)
}

fn is_transient(error: &io::Error) -> bool {
    // Errors of the one connection, or of resources that come back; anything else is ours.
    !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Everyone who has to hear of a new job.
#[derive(Default)]
struct Roster {
    shards: [Mutex<Slab<Arc<Mailbox>>>; SHARDS],
    next: AtomicUsize,
    len: AtomicUsize,
    /// Connections that have not handled the newest job yet.
    fan_out_left: AtomicUsize,
    fan_out_began: AtomicU64,
}

/// A connection's place in the roster.
#[derive(Clone, Copy)]
struct Slot {
    shard: usize,
    key: usize,
}

impl Roster {
    fn add(&self, mailbox: &Arc<Mailbox>) -> Slot {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let key = self.shards[shard].lock().insert(Arc::clone(mailbox));
        self.len.fetch_add(1, Ordering::Relaxed);
        Slot { shard, key }
    }

    fn remove(&self, slot: Slot) {
        self.shards[slot.shard].lock().remove(slot.key);
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    fn wake_all(&self, now_micros: u64) {
        self.fan_out_began.store(now_micros, Ordering::Relaxed);
        self.fan_out_left.store(self.len.load(Ordering::Relaxed), Ordering::Release);
        for shard in &self.shards {
            for (_, mailbox) in shard.lock().iter() {
                mailbox.wake();
            }
        }
    }

    /// A connection handled the newest job: the last one says how long that took, in microseconds.
    fn handled(&self, now_micros: u64) -> Option<u64> {
        let left = self
            .fan_out_left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        (left == Ok(1))
            .then(|| now_micros.saturating_sub(self.fan_out_began.load(Ordering::Relaxed)))
    }
}

/// So that joining and leaving miners seldom wait for each other.
const SHARDS: usize = 16;

/// Connections that the kernel accepts for us ahead of time: a herd of miners that reconnects.
const LISTEN_BACKLOG: i32 = 4_096;

/// Before accepting is tried again after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Silence after which the kernel asks whether the miner is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// And how often.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// Bytes of the kernel's send buffer; it takes twice that.
const SEND_BUFFER: usize = 65_536;

#[cfg(test)]
mod tests;
