//! One session of a link: its lines, in order, and what it says.

use std::sync::Arc;

use seam_cluster::link::Sender;
use seam_cluster::link::frame::{ByNode, ByProxy, Opening, ToProxy};
use seam_cluster::ticket::{TicketError, Tickets};

use crate::config::Limits;
use crate::jobs::Entry;
use crate::pool::Pool;
use crate::session::{Closed, Inbox, Next, Session, Start, Ticket, Via};

/// A session, and the lines that it has not taken yet.
pub(super) struct Linked {
    session: Session,
    /// Whole lines that wait while the session is held; the first `replayed` bytes are replays.
    waiting: Vec<u8>,
    replayed: usize,
    /// Its proxy was told to send it every job.
    wants: bool,
    opened: u64,
    last_line: u64,
}

/// What becomes of a session after it took something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on.
    Go,
    /// It ends, once what it said is sent.
    Close(Closed),
}

impl Linked {
    /// Starts the session that a proxy opens, with the ticket that it had on another node or on
    /// an earlier connection.
    pub(super) fn open(
        pool: &Pool,
        inbox: Arc<dyn Inbox>,
        number: u32,
        opening: &Opening<'_>,
        ticket: Option<Ticket>,
    ) -> Self {
        let (ticket, earlier) = if opening.moved { (ticket, None) } else { (None, ticket) };
        let start = Start {
            number,
            extranonce1: Some(opening.extranonce1),
            moved: ticket.is_some(),
            resume: opening.resume && ticket.is_none(),
            ticket,
            earlier,
            version_mask: opening.version_mask,
            minimum_difficulty: opening.minimum_difficulty,
            extranonce_subscribed: opening.extranonce_subscribed,
            ..Start::fresh(Via::Link, opening.peer, inbox)
        };
        let now = pool.clock.monotonic_millis();
        Self {
            session: Session::new(pool, start),
            waiting: Vec::new(),
            replayed: 0,
            wants: false,
            opened: now,
            last_line: now,
        }
    }

    /// Takes whole lines, or keeps them while the session is held.
    pub(super) fn lines(
        &mut self,
        pool: &Pool,
        replay: bool,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        self.last_line = pool.clock.monotonic_millis();
        if !self.waiting.is_empty() {
            if self.waiting.len() + bytes.len() > MAX_WAITING {
                return Step::Close(Closed::Limit);
            }
            self.keep(bytes, replay);
            return self.go_on(pool, out);
        }
        let (step, used) = self.feed(pool, bytes, replay, out);
        if used < bytes.len() && step == Step::Go {
            self.keep(&bytes[used..], replay);
        }
        step
    }

    /// Takes an event, and the lines that waited for it.
    pub(super) fn event(
        &mut self,
        pool: &Pool,
        token: u64,
        event: crate::session::Event,
        out: &mut Vec<u8>,
    ) -> Step {
        match self.session.event(pool, token, event, out) {
            Next::Close(why) => Step::Close(why),
            Next::Go | Next::Hold => self.go_on(pool, out),
        }
    }

    /// Tries again what the ledger had no room for.
    pub(super) fn retry(&mut self, pool: &Pool, out: &mut Vec<u8>) -> Step {
        match self.session.retry(pool, out) {
            Next::Close(why) => Step::Close(why),
            Next::Go | Next::Hold => self.go_on(pool, out),
        }
    }

    /// Appends the current job if the miner is ready for it and has not got it. True if its proxy
    /// has to send it every job from now on.
    pub(super) fn give_work(&mut self, pool: &Pool, out: &mut Vec<u8>) -> bool {
        if !self.session.wants_work() {
            return false;
        }
        if let Some(job) = pool.jobs.current().filter(|job| self.session.wants(job)) {
            let clean = self.session.work(pool, &job, out);
            out.extend_from_slice(job.line(clean));
            pool.metrics.notify_sent.inc();
        }
        !std::mem::replace(&mut self.wants, true)
    }

    /// Appends what has to precede a job that all get; `None` if this one does not get it, else
    /// whether it has to be a clean one.
    pub(super) fn prepare(&mut self, pool: &Pool, job: &Entry, out: &mut Vec<u8>) -> Option<bool> {
        (self.wants && self.session.wants(job)).then(|| self.session.work(pool, job, out))
    }

    /// Sends what was appended, with what it settles and the new ticket.
    pub(super) fn flush(
        &mut self,
        tickets: Option<&Tickets>,
        sender: &Sender,
        number: u32,
        out: &mut Vec<u8>,
    ) {
        let settled = self.session.take_settled();
        let ticket = self.session.take_ticket().and_then(|ticket| seal(tickets, &ticket));
        if out.is_empty() && settled == 0 && ticket.is_none() {
            return;
        }
        sender.send(&ToProxy::Out {
            session: number,
            // A session holds far fewer open lines.
            settled: u16::try_from(settled).unwrap_or(u16::MAX),
            ticket: ticket.as_deref(),
            bytes: out,
        });
        out.clear();
    }

    /// Sends the ticket as it is, sealed with the newest key.
    pub(super) fn seal_anew(&mut self, tickets: Option<&Tickets>, sender: &Sender, number: u32) {
        let ticket = self.session.ticket().and_then(|ticket| seal(tickets, &ticket));
        if ticket.is_some() {
            let ticket = ticket.as_deref();
            sender.send(&ToProxy::Out { session: number, settled: 0, ticket, bytes: &[] });
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.session.is_blocked()
    }

    /// Whether it did not come to work in time, or has been silent for too long.
    pub(super) fn is_idle(&self, pool: &Pool, limits: &Limits) -> bool {
        let now = pool.clock.monotonic_millis();
        let since = |then: u64| now.saturating_sub(then);
        if !self.session.wants_work() && since(self.opened) > limits.handshake_seconds * 1_000 {
            pool.metrics.limit_hit("handshake_time");
            return true;
        }
        let idle = since(self.last_line) > limits.idle_seconds * 1_000;
        if idle {
            pool.metrics.limit_hit("idle_time");
        }
        idle
    }

    pub(super) fn close(mut self, pool: &Pool, why: Closed) {
        self.session.close(pool, why);
    }

    fn go_on(&mut self, pool: &Pool, out: &mut Vec<u8>) -> Step {
        while !self.waiting.is_empty() && !self.session.is_held() {
            let waiting = std::mem::take(&mut self.waiting);
            let replay = self.replayed > 0;
            let end = if replay { self.replayed } else { waiting.len() };
            let (step, used) = self.feed(pool, &waiting[..end], replay, out);
            if step != Step::Go {
                return step;
            }
            self.replayed = self.replayed.saturating_sub(used);
            if used < waiting.len() {
                self.waiting = waiting;
                self.waiting.drain(..used);
            }
        }
        Step::Go
    }

    /// Feeds lines until the session is held; how many bytes it took.
    fn feed(
        &mut self,
        pool: &Pool,
        bytes: &[u8],
        replay: bool,
        out: &mut Vec<u8>,
    ) -> (Step, usize) {
        let mut used = 0;
        while used < bytes.len() && !self.session.is_held() {
            let rest = &bytes[used..];
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len() - 1);
            used += length + 1;
            let line = rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]);
            if line.is_empty() {
                self.session.skip();
                continue;
            }
            if let Next::Close(why) = self.session.line(pool, line, replay, out) {
                return (Step::Close(why), used);
            }
        }
        (Step::Go, used)
    }

    fn keep(&mut self, bytes: &[u8], replay: bool) {
        debug_assert!(!replay || self.replayed == self.waiting.len(), "replays come first");
        self.waiting.extend_from_slice(bytes);
        if replay {
            self.replayed = self.waiting.len();
        }
    }
}

/// What a proxy's reason is to a session.
pub(super) fn by_proxy(why: ByProxy) -> Closed {
    match why {
        ByProxy::MinerGone => Closed::Miner,
        ByProxy::Moved => Closed::Moved,
    }
}

/// What a session's end is to a proxy.
pub(super) fn by_node(why: Closed, limits: &Limits) -> ByNode {
    match why {
        Closed::Banned => {
            ByNode::Banned { seconds: u32::try_from(limits.ban_seconds).unwrap_or(u32::MAX) }
        }
        Closed::TakenOver => ByNode::TakenOver,
        Closed::Drain => ByNode::Refused,
        _ => ByNode::Ended,
    }
}

/// A ticket that this node cannot read, or a session without one, starts anew.
pub(super) fn unseal(
    tickets: Option<&Tickets>,
    sealed: &[u8],
) -> Result<Option<Ticket>, TicketError> {
    let tickets = tickets.ok_or(TicketError::NoKey)?;
    Ok(Ticket::decode(&tickets.open(sealed)?))
}

fn seal(tickets: Option<&Tickets>, ticket: &Ticket) -> Option<Vec<u8>> {
    let sealed = tickets?.seal(&ticket.encode());
    sealed.inspect_err(|error| tracing::warn!(%error, "a session's ticket was not sealed")).ok()
}

/// Bytes of lines that may wait for a held session: more than a proxy leaves unanswered.
const MAX_WAITING: usize = 1 << 20;
