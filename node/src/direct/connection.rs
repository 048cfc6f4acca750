//! One connection: bytes to lines to its session, and back.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use seam_stratum::line::Opening;
use seam_stratum::{JobId, LineScanner, Reject, write};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::{Closed, Direct, Mailbox, Session};
use crate::limits::score;
use crate::session::{Next, Start, Via};

/// A connection and its session.
pub(super) struct Connection {
    direct: Arc<Direct>,
    stream: TcpStream,
    session: Session,
    mailbox: Arc<Mailbox>,
    /// Bytes that were read and not yet used: part of a line, or lines that have to wait.
    unread: Vec<u8>,
    scanner: LineScanner,
    /// Bytes that the miner has not taken yet.
    unsent: Vec<u8>,
    is_stratum: bool,
    /// Why it ends, once everything is sent.
    closing: Option<Closed>,
    /// When it began, and when the last line came, in monotonic milliseconds.
    began: u64,
    last_line: u64,
    /// When the miner last took bytes.
    last_sent: u64,
    /// The newest job that this connection was woken for.
    handled_job: Option<JobId>,
    /// What `seam_session_memory_bytes` was told.
    memory: usize,
}

thread_local! {
    /// For reading and writing: a connection that waits needs none.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        read: vec![0; READ_BUFFER].into_boxed_slice(),
        write: Vec::with_capacity(READ_BUFFER),
    });
}

struct Buffers {
    read: Box<[u8]>,
    write: Vec<u8>,
}

impl Connection {
    pub(super) fn new(
        direct: Arc<Direct>,
        stream: TcpStream,
        address: SocketAddr,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let peer = address.ip().to_canonical();
        let start = Start::fresh(Via::Direct, peer, Arc::clone(&mailbox) as _);
        let session = Session::new(&direct.pool, start);
        let now = direct.pool.clock.monotonic_millis();
        Self {
            handled_job: direct.pool.jobs.current().map(|job| job.id()),
            session,
            direct,
            stream,
            mailbox,
            unread: Vec::new(),
            scanner: LineScanner::default(),
            unsent: Vec::new(),
            is_stratum: false,
            closing: None,
            began: now,
            last_line: now,
            last_sent: now,
            memory: 0,
        }
    }

    /// Serves it until it ends, and says why.
    pub(super) async fn run(mut self) -> Closed {
        let why = self.serve().await;
        self.session.close(&self.direct.pool, why);
        self.direct.pool.metrics.session_memory_bytes.dec_by(self.memory as i64);
        why
    }

    async fn serve(&mut self) -> Closed {
        let mut timer = pin!(sleep_until(Instant::now() + TICK));
        loop {
            if let (Some(why), true) = (self.closing, self.unsent.is_empty()) {
                return why;
            }
            let interest = self.interest();
            let result = tokio::select! {
                biased;
                () = self.mailbox.woken() => self.handle_mail(),
                ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)),
                    if interest.is_some() => self.handle_ready(ready),
                () = &mut timer => {
                    let result = self.handle_tick();
                    let pause = if self.session.is_blocked() { RETRY } else { TICK };
                    timer.as_mut().reset(Instant::now() + pause);
                    result
                }
            };
            if let Err(why) = result {
                return why;
            }
            if self.session.is_blocked() && timer.deadline() > Instant::now() + RETRY {
                timer.as_mut().reset(Instant::now() + RETRY);
            }
            self.account();
        }
    }

    /// What the socket is waited for: nothing to read while the session is held.
    fn interest(&self) -> Option<Interest> {
        let reads = self.closing.is_none() && !self.session.is_held() && self.unsent.is_empty();
        match (reads, !self.unsent.is_empty()) {
            (true, _) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn handle_ready(&mut self, ready: io::Result<tokio::io::Ready>) -> Result<(), Closed> {
        let ready = ready.map_err(|_| Closed::Error)?;
        if ready.is_writable() && !self.unsent.is_empty() {
            self.send_more()?;
        }
        if !ready.is_readable() || !self.unsent.is_empty() || self.closing.is_some() {
            return Ok(());
        }
        BUFFERS.with_borrow_mut(|buffers| {
            let Buffers { read, write } = buffers;
            write.clear();
            match self.stream.try_read(read) {
                Ok(0) => return Err(Closed::Miner),
                Ok(count) => {
                    self.count_bytes("in", count);
                    self.take_bytes(&read[..count], write);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Closed::Miner),
            }
            self.give_work(write);
            self.send(write)
        })
    }

    fn handle_mail(&mut self) -> Result<(), Closed> {
        BUFFERS.with_borrow_mut(|Buffers { write, .. }| {
            write.clear();
            let pool = Arc::clone(&self.direct.pool);
            for (token, event) in self.mailbox.take() {
                let next = self.session.event(&pool, token, event, write);
                self.close_if(next);
            }
            // Lines that waited for this.
            self.take_lines(write);
            self.give_work(write);
            self.drain_if_asked(write);
            let sent = self.send(write);
            self.count_fan_out();
            sent
        })
    }

    fn handle_tick(&mut self) -> Result<(), Closed> {
        let pool = Arc::clone(&self.direct.pool);
        let now = pool.clock.monotonic_millis();
        let limits = &self.direct.limits;
        if !self.unsent.is_empty() && now.saturating_sub(self.last_sent) > STALLED_MILLIS {
            pool.metrics.limit_hit("write_backlog");
            return Err(Closed::SlowReader);
        }
        if self.closing.is_some() {
            return Ok(());
        }
        let handshake = limits.handshake_seconds * 1_000;
        if !self.session.wants_work() && now.saturating_sub(self.began) > handshake {
            pool.metrics.limit_hit("handshake_time");
            return Err(Closed::Idle);
        }
        if now.saturating_sub(self.last_line) > limits.idle_seconds * 1_000 {
            pool.metrics.limit_hit("idle_time");
            return Err(Closed::Idle);
        }
        if !self.session.is_blocked() {
            return Ok(());
        }
        BUFFERS.with_borrow_mut(|Buffers { write, .. }| {
            write.clear();
            let next = self.session.retry(&pool, write);
            self.close_if(next);
            self.take_lines(write);
            self.send(write)
        })
    }

    /// Uses bytes that were just read.
    fn take_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.unread.is_empty() {
            let used = self.use_bytes(bytes, out);
            if self.closing.is_none() {
                self.unread.extend_from_slice(&bytes[used..]);
            }
        } else {
            self.unread.extend_from_slice(bytes);
            self.take_lines(out);
        }
    }

    /// Uses what is left of earlier reads.
    fn take_lines(&mut self, out: &mut Vec<u8>) {
        if self.unread.is_empty() || self.session.is_held() || self.closing.is_some() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.unread);
        let used = self.use_bytes(&bytes, out);
        if self.closing.is_none() && used < bytes.len() {
            bytes.drain(..used);
            self.unread = bytes;
        }
    }

    /// Feeds whole lines to the session, as long as it takes them. Returns how many bytes are done.
    fn use_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let pool = Arc::clone(&self.direct.pool);
        if !self.is_stratum {
            match Opening::detect(bytes) {
                Opening::Unknown => return 0,
                Opening::Stratum => self.is_stratum = true,
                Opening::Tls => {
                    self.closing = Some(Closed::Miner);
                    return bytes.len();
                }
                Opening::Http => {
                    self.answer_http(out);
                    self.closing = Some(Closed::Miner);
                    return bytes.len();
                }
            }
        }
        let mut used = 0;
        while self.closing.is_none() && !self.session.is_held() {
            match self.scanner.next(&bytes[used..]) {
                Ok(Some(found)) => {
                    used += found.consumed;
                    if found.line.is_empty() {
                        continue;
                    }
                    self.last_line = pool.clock.monotonic_millis();
                    let next = self.session.line(&pool, found.line, false, out);
                    self.close_if(next);
                }
                Ok(None) => break,
                Err(_too_long) => {
                    pool.metrics.limit_hit("line_length");
                    pool.addresses.offend(self.session.peer(), score::MALFORMED);
                    let reject = Reject::other("line too long");
                    write::reject(out, seam_stratum::Id::NULL, &reject);
                    self.closing = Some(Closed::Limit);
                }
            }
        }
        used
    }

    fn answer_http(&self, out: &mut Vec<u8>) {
        match (self.direct.endpoint(), self.stream.local_addr()) {
            (Some((host, port)), _) => write::http_redirect(out, host, port),
            (None, Ok(local)) => {
                write::http_redirect(out, &local.ip().to_canonical().to_string(), local.port());
            }
            (None, Err(_)) => {}
        }
    }

    /// Appends the current job, if the miner has not got it.
    fn give_work(&mut self, out: &mut Vec<u8>) {
        if self.closing.is_some() || !self.session.wants_work() {
            return;
        }
        let pool = Arc::clone(&self.direct.pool);
        let Some(job) = pool.jobs.current() else { return };
        if self.session.wants(&job) {
            let clean = self.session.work(&pool, &job, out);
            out.extend_from_slice(job.line(clean));
            pool.metrics.notify_sent.inc();
        }
    }

    /// Says that this connection is done with the newest job; the last one measures.
    fn count_fan_out(&mut self) {
        let pool = &self.direct.pool;
        let newest = pool.jobs.current().map(|job| job.id());
        if newest == self.handled_job {
            return;
        }
        self.handled_job = newest;
        if let Some(micros) = self.direct.roster.handled(pool.clock.monotonic_micros()) {
            pool.metrics.notify_fanout_seconds.observe(micros as f64 / 1e6);
        }
    }

    fn drain_if_asked(&mut self, out: &mut Vec<u8>) {
        let is_draining = self.direct.is_draining.load(Ordering::Acquire);
        if is_draining && self.closing.is_none() && self.session.owes() == 0 {
            if self.session.wants_work() {
                write::reconnect(out, self.direct.endpoint(), RECONNECT_WAIT_SECONDS);
            }
            self.closing = Some(Closed::Drain);
        }
    }

    fn close_if(&mut self, next: Next) {
        if let (Next::Close(why), None) = (next, self.closing) {
            self.closing = Some(why);
        }
    }

    /// Writes `out`, as far as the miner takes it.
    fn send(&mut self, out: &mut Vec<u8>) -> Result<(), Closed> {
        if out.is_empty() {
            return Ok(());
        }
        let mut sent = 0;
        if self.unsent.is_empty() {
            sent = self.write_some(out)?;
        }
        self.unsent.extend_from_slice(&out[sent..]);
        out.clear();
        if self.unsent.len() > self.direct.limits.write_backlog {
            self.direct.pool.metrics.limit_hit("write_backlog");
            return Err(Closed::SlowReader);
        }
        Ok(())
    }

    fn send_more(&mut self) -> Result<(), Closed> {
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write_some(&unsent)?;
        if sent < unsent.len() {
            self.unsent = unsent;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> Result<usize, Closed> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(0) => return Err(Closed::Miner),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Closed::Miner),
            }
        }
        if sent > 0 {
            self.last_sent = self.direct.pool.clock.monotonic_millis();
            self.count_bytes("out", sent);
        }
        if sent < bytes.len() && self.unsent.is_empty() {
            // The miner's silence is counted from now on.
            self.last_sent = self.direct.pool.clock.monotonic_millis();
        }
        Ok(sent)
    }

    fn count_bytes(&self, direction: &'static str, count: usize) {
        let bytes = &self.direct.pool.metrics.miner_bytes;
        bytes.get_or_create(&[("direction", direction)]).inc_by(count as u64);
    }

    /// Tells the metric what this connection holds.
    fn account(&mut self) {
        let memory = size_of::<Self>() - size_of::<Session>()
            + self.session.memory()
            + self.unread.capacity()
            + self.unsent.capacity();
        if memory != self.memory {
            let change = memory as i64 - self.memory as i64;
            self.direct.pool.metrics.session_memory_bytes.inc_by(change);
            self.memory = memory;
        }
    }
}

/// A thread's buffer for reading: a burst of submits, or one line of the greatest length.
const READ_BUFFER: usize = 32 * 1024;

/// How often a connection looks at its deadlines.
const TICK: Duration = Duration::from_secs(10);

/// How often a session tries again while the ledger's queue is full.
const RETRY: Duration = Duration::from_millis(5);

/// A miner that takes no byte for so long is gone.
const STALLED_MILLIS: u64 = 30_000;

/// What a miner is asked to wait before it reconnects.
const RECONNECT_WAIT_SECONDS: u32 = 1;
