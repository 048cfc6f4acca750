//! A miner's session as the proxy sees it: a socket, what is not answered yet, and a node.
//!
//! A session is driven from three sides: its [`Connection`](crate::connection::Connection) brings
//! what the miner sends, the link's task what its node says, and the [`Hub`] moves it. Each holds
//! the session's lock while it does; under that lock only the locks of tables are taken, and that
//! of an *older* session whose sid this one takes over.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use seam_cluster::link::frame::{ByNode, ByProxy, ToNode};
use seam_stratum::{Difficulty, Id, Reject, Sid, write};

use crate::hub::Hub;
use crate::limits::{Place, score};
use crate::metrics::{Ended, Why, labels};
use crate::unanswered::Unanswered;
use crate::uplink::Uplink;
use crate::wire::Wire;

/// One miner connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Unique in this process.
    pub(crate) id: u64,
    inner: Mutex<Inner>,
    /// Wakes the connection's task: to write, to read again, to end.
    waker: AtomicWaker,
}

/// What the session's lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) wire: Wire,
    pub(crate) tls: bool,
    /// The miner's own address, which a PROXY header may have said.
    pub(crate) peer: IpAddr,
    place: Option<Place>,
    pub(crate) phase: Phase,
    /// Since when it is in that phase.
    pub(crate) since: Instant,
    /// The beginning of a line.
    pub(crate) partial: Vec<u8>,
    pub(crate) unanswered: Unanswered,
    /// When the oldest open line was sent, for the metric.
    asked: Option<Instant>,
    pub(crate) ticket: Option<Box<[u8]>>,
    /// The ticket is of an earlier connection of the same miner.
    pub(crate) earlier_ticket: bool,
    pub(crate) sid: Option<Sid>,
    /// What the miner sent as its sid, whatever its tag.
    pub(crate) wanted: Option<Sid>,
    /// The miner asked for the sid that it has.
    pub(crate) resume: bool,
    pub(crate) configured: Configured,
    /// Its node, and its number there.
    pub(crate) at: Option<(Arc<Uplink>, u32)>,
    /// Its node wants it to get every job.
    wants: bool,
    /// It leaves its node as soon as nothing is open: since when, and why.
    pub(crate) moving: Option<(Instant, Why)>,
    /// Since when it has no node to talk to although it had one, and why.
    pub(crate) homeless: Option<(Instant, Why)>,
    /// Since when the miner does not read.
    stuck: Option<Instant>,
    /// It ended in a way that leaves nothing to say.
    hard: bool,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A PROXY header has to come first.
    Header,
    /// No request has said yet where it belongs.
    Opening,
    /// It has no node. The miner is not read.
    Held,
    /// A node has it.
    Live,
    /// What is left is to send what waits, and to close.
    Closing,
}

/// What `mining.configure` agreed on before the session had a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Configured {
    pub(crate) version_mask: Option<u32>,
    pub(crate) minimum_difficulty: Option<Difficulty>,
    pub(crate) subscribe_extranonce: bool,
}

/// What `client.show_message` says when no node was ready for too long.
const NO_NODE: &str = "no mining node is ready: try again later";

/// How long a closing connection may take to send what waits.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long it is then read, so that unread bytes do not make its last words be thrown away.
const LINGER: Duration = Duration::from_secs(1);

impl Session {
    pub(crate) fn new(
        id: u64,
        wire: Wire,
        peer: IpAddr,
        place: Option<Place>,
        phase: Phase,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            waker: AtomicWaker::new(),
            inner: Mutex::new(Inner {
                tls: wire.is_tls(),
                wire,
                peer,
                place,
                phase,
                since: Instant::now(),
                partial: Vec::new(),
                unanswered: Unanswered::default(),
                asked: None,
                ticket: None,
                earlier_ticket: false,
                sid: None,
                wanted: None,
                resume: false,
                configured: Configured::default(),
                at: None,
                wants: false,
                moving: None,
                homeless: None,
                stuck: None,
                hard: false,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Takes whole lines of the miner, once it is known where the session belongs.
    pub(crate) fn forward(self: &Arc<Self>, hub: &Hub, inner: &mut Inner, lines: &[u8]) {
        match (inner.phase, &inner.at) {
            (Phase::Live, Some((uplink, number))) if inner.moving.is_none() => {
                uplink.sender.send(&ToNode::Lines {
                    session: *number,
                    replay: false,
                    bytes: lines,
                });
                inner.unanswered.push(lines, true);
                inner.asked.get_or_insert_with(Instant::now);
            }
            (Phase::Live, _) => inner.unanswered.push(lines, false),
            (Phase::Held, _) => {
                inner.unanswered.push(lines, false);
                hub.place(self, inner);
            }
            (Phase::Header | Phase::Opening | Phase::Closing, _) => {}
        }
    }

    /// Takes what the node says to this miner.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        hub: &Hub,
        from: (&Arc<Uplink>, u32),
        settled: u16,
        ticket: Option<&[u8]>,
        bytes: &[u8],
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if !inner.is_at(from) {
            return;
        }
        if let Some(ticket) = ticket {
            inner.ticket = Some(ticket.into());
            inner.earlier_ticket = false;
        }
        let read_again = !inner.may_read(hub);
        if !inner.unanswered.settle(settled) {
            tracing::error!(node = %from.0.node, "node settled lines that it was not sent");
            return self.end(hub, inner, Ended::Error);
        }
        self.send(hub, inner, bytes);
        if inner.unanswered.is_settled() {
            if let Some(asked) = inner.asked.take() {
                hub.metrics.submit_seconds.observe(asked.elapsed().as_secs_f64());
            }
            if inner.moving.is_some() {
                hub.finish_move(self, inner);
            }
        }
        if read_again {
            self.wake();
        }
    }

    /// Takes a job that its node sent once for many.
    pub(crate) fn notify(&self, hub: &Hub, from: &Arc<Uplink>, bytes: &[u8]) -> bool {
        let mut inner = self.inner.lock();
        let wants = inner.wants && inner.at.as_ref().is_some_and(|(at, _)| Arc::ptr_eq(at, from));
        if wants {
            self.send(hub, &mut inner, bytes);
        }
        wants
    }

    /// Its node wants it to get every job, or no longer.
    pub(crate) fn set_wants(&self, from: (&Arc<Uplink>, u32), on: bool) {
        let mut inner = self.inner.lock();
        if inner.is_at(from) {
            inner.wants = on;
        }
    }

    /// Its node ended it.
    pub(crate) fn closed_by_node(
        self: &Arc<Self>,
        hub: &Hub,
        from: (&Arc<Uplink>, u32),
        why: ByNode,
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if !inner.is_at(from) {
            return;
        }
        inner.at = None;
        match why {
            ByNode::Ended => self.end(hub, inner, Ended::Limit),
            ByNode::TakenOver => self.end(hub, inner, Ended::TakenOver),
            ByNode::Banned { seconds } => {
                hub.addresses.ban(inner.peer, Duration::from_secs(seconds.into()));
                self.end(hub, inner, Ended::Banned);
            }
            ByNode::Refused => {
                inner.homeless.get_or_insert((Instant::now(), Why::NotReady));
                inner.hold();
                // Unless that is still where it belongs: then the next sweep tries again.
                if !hub.belongs_to(inner, from.0) {
                    hub.place(self, inner);
                }
            }
        }
    }

    /// Another connection brought this session's sid: gives up its ticket, and ends.
    pub(crate) fn take_over(&self, hub: &Hub) -> Option<Box<[u8]>> {
        let mut inner = self.inner.lock();
        let ticket = inner.ticket.take();
        self.end(hub, &mut inner, Ended::TakenOver);
        ticket
    }

    /// Writes to the miner, within the bound of what may wait.
    pub(crate) fn send(&self, hub: &Hub, inner: &mut Inner, bytes: &[u8]) {
        if bytes.is_empty() || inner.wire.is_finished() {
            return;
        }
        hub.metrics.bytes_out.inc_by(bytes.len() as u64);
        if inner.wire.write(bytes).is_err() {
            return self.end(hub, inner, Ended::Error);
        }
        let backlog = inner.wire.backlog();
        if backlog == 0 {
            inner.stuck = None;
        } else if backlog > hub.config.limits.write_backlog {
            hub.metrics.limit_hit("write_backlog");
            self.end(hub, inner, Ended::SlowReader);
        } else {
            inner.stuck.get_or_insert_with(Instant::now);
            self.wake();
        }
    }

    /// Ends the session. What was written before still goes out, unless there is nobody to read.
    pub(crate) fn end(&self, hub: &Hub, inner: &mut Inner, why: Ended) {
        if inner.phase == Phase::Closing {
            return;
        }
        if let Some((uplink, number)) = inner.at.take() {
            uplink.remove(number);
            uplink.sender.send(&ToNode::Close { session: number, why: ByProxy::MinerGone });
        }
        if let Some((_, moved)) = inner.homeless.take().filter(|_| why != Ended::Miner) {
            hub.metrics.moved(moved, "lost");
        }
        if let Some(sid) = inner.sid {
            hub.forget(sid.extranonce1(), self);
            if let Some(ticket) = inner.ticket.take().filter(|_| why.may_come_back()) {
                hub.park(sid.extranonce1(), ticket);
            }
        }
        inner.enter(Phase::Closing);
        inner.place = None;
        inner.moving = None;
        inner.partial = Vec::new();
        inner.unanswered = Unanswered::default();
        inner.hard = matches!(why, Ended::Miner | Ended::SlowReader | Ended::Error);
        if inner.hard {
            inner.wire.finish();
        }
        let listener = if inner.tls { "tls" } else { "plain" };
        hub.metrics.sessions.get_or_create(&labels([("listener", listener)])).dec();
        hub.metrics.sessions_closed.get_or_create(&labels([("reason", why.label())])).inc();
        tracing::debug!(session = self.id, peer = %inner.peer, reason = why.label(), "session ended");
        self.wake();
    }

    /// A line without end.
    pub(crate) fn too_long(&self, hub: &Hub, inner: &mut Inner) {
        hub.metrics.limit_hit("line_length");
        hub.addresses.offend(inner.peer, score::LINE);
        let mut answer = Vec::new();
        write::reject(&mut answer, Id::NULL, &Reject::other("line too long"));
        self.send(hub, inner, &answer);
        self.end(hub, inner, Ended::Limit);
    }

    /// Looks at the clock: whatever takes too long ends here.
    pub(crate) fn sweep(self: &Arc<Self>, hub: &Hub, now: Instant) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let age = now.saturating_duration_since(inner.since);
        let config = &hub.config;
        match inner.phase {
            Phase::Header | Phase::Opening => {
                if age >= Duration::from_secs(config.limits.handshake_seconds) {
                    hub.metrics.limit_hit("handshake_time");
                    self.end(hub, inner, Ended::Idle);
                }
            }
            Phase::Held => {
                let patience = Duration::from_secs(config.moves.hold_seconds);
                if !hub.place(self, inner) && age >= patience + hub.jitter(self.id) {
                    let mut message = Vec::new();
                    write::show_message(&mut message, NO_NODE);
                    self.send(hub, inner, &message);
                    self.end(hub, inner, Ended::NoNode);
                }
            }
            Phase::Live => {
                let settle = Duration::from_millis(config.moves.settle_ms);
                if inner.moving.is_some_and(|(since, _)| now - since >= settle) {
                    hub.finish_move(self, inner);
                }
            }
            Phase::Closing => {
                if age >= LINGER {
                    self.wake();
                }
            }
        }
        let patience = Duration::from_secs(config.limits.write_seconds);
        if inner.stuck.is_some_and(|since| now.saturating_duration_since(since) >= patience) {
            hub.metrics.limit_hit("write_backlog");
            self.end(hub, inner, Ended::SlowReader);
        }
    }
}

impl Inner {
    pub(crate) fn is_at(&self, (uplink, number): (&Arc<Uplink>, u32)) -> bool {
        self.at.as_ref().is_some_and(|(at, own)| *own == number && Arc::ptr_eq(at, uplink))
    }

    /// Whether more of the miner can be taken now.
    pub(crate) fn may_read(&self, hub: &Hub) -> bool {
        match self.phase {
            Phase::Header | Phase::Opening | Phase::Closing => true,
            Phase::Held => false,
            Phase::Live => {
                self.moving.is_none()
                    && self.unanswered.len() < hub.config.limits.session_bytes
                    && self.at.as_ref().is_none_or(|(uplink, _)| uplink.has_room())
            }
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    /// Leaves its node, which knows or is gone; what was open has to be sent again.
    pub(crate) fn hold(&mut self) {
        self.at = None;
        self.wants = false;
        self.moving = None;
        if self.phase != Phase::Held {
            self.enter(Phase::Held);
        }
    }

    /// A node has it now.
    pub(crate) fn settle_at(&mut self, uplink: Arc<Uplink>, number: u32) {
        self.at = Some((uplink, number));
        self.wants = false;
        self.unanswered.all_sent();
        if self.unanswered.len() > 0 {
            self.asked.get_or_insert_with(Instant::now);
        }
        self.enter(Phase::Live);
    }

    /// The real address, and the place that goes with it.
    pub(crate) fn identify(&mut self, peer: IpAddr, place: Place) {
        self.peer = peer;
        self.place = Some(place);
    }

    pub(crate) fn unstick(&mut self) {
        self.stuck = None;
    }

    /// Whether the connection's task is done with a closing session.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.hard || (self.wire.backlog() > 0 && self.since.elapsed() >= LAST_WORDS) {
            self.wire.finish();
            return true;
        }
        if self.wire.backlog() > 0 {
            return false;
        }
        if !self.wire.is_finished() {
            self.wire.finish();
            self.since = Instant::now();
        }
        self.since.elapsed() >= LINGER
    }

    /// What it holds on the heap and in itself, in bytes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Session>()
            + self.partial.capacity()
            + self.unanswered.memory()
            + self.wire.memory()
            + self.ticket.as_ref().map_or(0, |ticket| ticket.len())
    }
}
