//! The loop: connections as they are due, shares as they are due, and what the servers send.

mod finish;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::account::{Account, Fate};
use crate::connection::{Connection, Input};
use crate::jobs::Jobs;
use crate::options::{Options, Rate, spread_percent};
use crate::report::Report;
use crate::run::Live;
use crate::session::{Session, State};
use crate::world::{ReadySet, SECOND, Stats, World};

/// The shortest sleep between two looks at the schedule: what is due within it goes out in one
/// go.
const QUANTUM_NS: u64 = 250_000;

/// The longest sleep, so that a request to stop is seen.
const LONGEST_SLEEP_NS: u64 = 50_000_000;

/// Shares and connections that are served before the sockets are looked at again.
const BATCH: usize = 256;

/// Seconds a connection may take.
const CONNECT_TIMEOUT_NS: u64 = 10 * SECOND;

/// The timer among the sessions' events.
const TIMER: u64 = u64::MAX;

/// Runs to the end. Called on a thread of its own.
pub(crate) fn run(options: Options, live: &Arc<Live>) -> anyhow::Result<Report> {
    raise_file_limit(u64::from(options.sessions) + 64);
    Engine::new(options, live)?.run()
}

struct Engine<'a> {
    world: World,
    live: &'a Live,
    servers: Vec<SocketAddr>,
    sessions: Vec<Session>,
    epoll: OwnedFd,
    timer: OwnedFd,
    clock: Instant,
    /// Connections to open, by when they are due.
    opens: BinaryHeap<Reverse<(u64, u32)>>,
    /// Connections that must have come about, by when.
    timeouts: BinaryHeap<Reverse<(u64, u32)>>,
    scratch: Vec<u8>,
    phase: Phase,
    shares_due: u64,
    turn: usize,
    next_storm: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Until all sessions are ready, or this time.
    Joining { until: u64 },
    /// Shares are due.
    Working { from: u64, until: u64 },
    /// The last answers are awaited.
    Draining { from: u64, stopped: u64, until: u64 },
}

impl<'a> Engine<'a> {
    fn new(options: Options, live: &'a Live) -> anyhow::Result<Self> {
        let servers = options
            .url
            .iter()
            .map(|url| resolve(url).with_context(|| format!("server {url}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let account = match &options.accounting {
            Some(path) => Some(
                Account::create(path)
                    .with_context(|| format!("accounting file {}", path.display()))?,
            ),
            None => None,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .context("timer")?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN).context("timer")?;

        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ramp_ns = seconds(options.ramp);
        let mut opens = BinaryHeap::with_capacity(options.sessions as usize);
        for index in 0..options.sessions {
            let share = u128::from(ramp_ns) * u128::from(index) / u128::from(options.sessions);
            opens.push(Reverse((share as u64, index)));
        }
        let sessions = (0..options.sessions)
            .map(|index| Session::new(index, options.user_of(index), options.is_slow(index)))
            .collect();
        let until = ramp_ns + seconds(options.ready_timeout);
        let ready = ReadySet::new(options.sessions);
        let any_difficulty = options.rate == Rate::PerSecond(0.0);
        Ok(Self {
            world: World {
                options,
                jobs: Jobs::default(),
                stats: Stats::default(),
                ready,
                reconnect_requests: Vec::new(),
                account,
                account_error: None,
                epoch_unix_ms: epoch.as_millis() as u64,
                asleep: 0,
                outstanding: 0,
                any_difficulty,
                too_difficult: false,
            },
            live,
            servers,
            sessions,
            epoll,
            timer,
            clock: Instant::now(),
            opens,
            timeouts: BinaryHeap::new(),
            scratch: vec![0; 1 << 16],
            phase: Phase::Joining { until },
            shares_due: 0,
            turn: 0,
            next_storm: u64::MAX,
        })
    }

    fn run(mut self) -> anyhow::Result<Report> {
        let mut events = Vec::with_capacity(1024);
        loop {
            let now = self.now();
            self.open_due(now);
            self.close_late(now);
            if self.step(now) {
                break;
            }
            self.shares(now);
            self.storm(now);
            self.publish();

            self.arm(now)?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                let (data, flags) = (event.data.u64(), event.flags);
                if data != TIMER {
                    self.event(data as usize, flags);
                }
            }
            self.reconnects();
        }
        self.finish()
    }

    /// Nanoseconds since the run began.
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Moves on to the next phase when it is time. True at the end.
    fn step(&mut self, now: u64) -> bool {
        let stop = self.live.stop.load(Ordering::Relaxed);
        match self.phase {
            Phase::Joining { until } => {
                let ready = self.world.ready.len() + self.world.asleep;
                if ready >= self.world.options.sessions || now >= until || stop {
                    let end = now + seconds(self.world.options.secs);
                    self.phase = Phase::Working { from: now, until: end };
                    self.world.stats.from_ns = Some(now);
                    self.live.working.store(true, Ordering::Relaxed);
                    if self.world.options.storm_every > 0.0 {
                        self.next_storm = now + seconds(self.world.options.storm_every);
                    }
                    if self.world.options.rate == Rate::Max {
                        for index in 0..self.sessions.len() {
                            self.refill(index, now);
                        }
                    }
                }
                false
            }
            Phase::Working { from, until } => {
                let sent = self.share_due().is_none_or(|due| due >= until);
                if (now >= until && sent) || stop {
                    let until = now + seconds(self.world.options.drain);
                    self.phase = Phase::Draining { from, stopped: now, until };
                    self.next_storm = u64::MAX;
                }
                false
            }
            Phase::Draining { until, .. } => self.world.outstanding == 0 || now >= until,
        }
    }

    fn open_due(&mut self, now: u64) {
        for _ in 0..BATCH {
            match self.opens.peek() {
                Some(Reverse((due, _))) if *due <= now => {}
                _ => return,
            }
            if let Some(Reverse((due, index))) = self.opens.pop() {
                self.open(index, due);
            }
        }
    }

    fn open(&mut self, index: u32, due: u64) {
        let now = self.now();
        let session = &mut self.sessions[index as usize];
        if session.state != State::Closed {
            return;
        }
        let server = self.servers[session.next_url % self.servers.len()];
        session.next_url += 1;
        let opened = Connection::open(server, session.slow).and_then(|connection| {
            let flags = EventFlags::IN | EventFlags::OUT;
            epoll::add(&self.epoll, &connection, EventData::new_u64(u64::from(index)), flags)?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => {
                session.begin(connection, due, now);
                session.wants_write = true;
                self.timeouts.push(Reverse((now + CONNECT_TIMEOUT_NS, index)));
            }
            Err(_) => {
                self.world.stats.connect_failures += 1;
                self.reopen_later(index, now);
            }
        }
    }

    /// Gives up connections that do not come about.
    fn close_late(&mut self, now: u64) {
        while let Some(Reverse((deadline, index))) = self.timeouts.peek().copied() {
            if deadline > now {
                return;
            }
            self.timeouts.pop();
            let session = &self.sessions[index as usize];
            let opened = deadline - CONNECT_TIMEOUT_NS;
            if session.state == State::Connecting && session.due_ns <= opened {
                self.close(index as usize);
                self.world.stats.connect_failures += 1;
                self.reopen_later(index, now);
            }
        }
    }

    /// When the next share is due; `None` where none ever is.
    fn share_due(&self) -> Option<u64> {
        match (self.phase, self.world.options.rate) {
            (Phase::Working { from, .. }, Rate::PerSecond(rate)) if rate > 0.0 => {
                Some(from + (self.shares_due as f64 / rate * SECOND as f64) as u64)
            }
            _ => None,
        }
    }

    fn shares(&mut self, now: u64) {
        let Phase::Working { until, .. } = self.phase else { return };
        for _ in 0..BATCH {
            let Some(due) = self.share_due().filter(|due| *due <= now && *due < until) else {
                return;
            };
            self.shares_due += 1;
            let twice = spread_percent(
                (self.shares_due % 10_000) as u32,
                self.world.options.duplicate_percent,
            );
            if !self.submit_next(due, twice) {
                self.world.stats.skipped += 1;
            }
        }
    }

    /// Lets the session whose turn it is submit; a few others if it cannot.
    fn submit_next(&mut self, due: u64, twice: bool) -> bool {
        for _ in 0..8 {
            self.turn += 1;
            let Some(index) = self.world.ready.nth(self.turn) else { return false };
            let session = &mut self.sessions[index as usize];
            if session.submit(&mut self.world, due, twice) {
                let late = self.clock.elapsed().as_nanos() as u64;
                self.world.stats.late.add_ns(late.saturating_sub(due));
                self.world.outstanding += 1 + u64::from(twice);
                self.flush(index as usize);
                return true;
            }
        }
        false
    }

    /// Keeps the window of a session full, where the rate is `max`.
    fn refill(&mut self, index: usize, now: u64) {
        if !matches!(self.phase, Phase::Working { .. }) || self.world.options.rate != Rate::Max {
            return;
        }
        let session = &mut self.sessions[index];
        if session.slow {
            return;
        }
        let before = session.pending.len();
        while session.pending.len() < self.world.options.window as usize {
            if !session.submit(&mut self.world, now, false) {
                break;
            }
        }
        let added = (session.pending.len() - before) as u64;
        self.world.outstanding += added;
        if added > 0 {
            self.flush(index);
        }
    }

    fn storm(&mut self, now: u64) {
        if now < self.next_storm {
            return;
        }
        self.next_storm = now + seconds(self.world.options.storm_every);
        for index in 0..self.world.options.sessions {
            let slow = self.sessions[index as usize].slow;
            if !slow && spread_percent(index, self.world.options.storm_percent) {
                self.close(index as usize);
                self.opens.push(Reverse((now, index)));
            }
        }
    }

    fn event(&mut self, index: usize, flags: EventFlags) {
        let now = self.now();
        let session = &mut self.sessions[index];
        if session.state == State::Connecting {
            let Some(connection) = &session.connection else { return };
            if connection.connect_error().is_some() {
                self.close(index);
                self.world.stats.connect_failures += 1;
                return self.reopen_later(index as u32, now);
            }
            if !flags.contains(EventFlags::OUT) {
                return;
            }
            session.connected(&mut self.world, now);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            let Some(mut connection) = session.connection.take() else { return };
            let world = &mut self.world;
            let asleep = session.slow && session.ready_ns.is_some();
            let input = if asleep {
                // A session that does not read only notices that it was dropped.
                let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
                if gone { Input::Closed } else { Input::Drained }
            } else {
                connection.read(&mut self.scratch, |line| session.line(line, world, now))
            };
            session.connection = Some(connection);
            if input == Input::Closed {
                return self.dropped(index, now);
            }
        }
        self.refill(index, now);
        self.flush(index);
    }

    /// Sends what a session has to say, and waits for the socket where it takes no more.
    fn flush(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        if session.state == State::Connecting {
            return;
        }
        let Some(connection) = &mut session.connection else { return };
        let asleep = session.slow && session.ready_ns.is_some();
        let Ok(done) = connection.flush(&mut session.out) else {
            let now = self.now();
            return self.dropped(index, now);
        };
        // A sleeping session has its interest changed once, when it falls asleep.
        if session.wants_write == done || asleep {
            session.wants_write = !done;
            let mut flags = if asleep { EventFlags::empty() } else { EventFlags::IN };
            flags.set(EventFlags::OUT, !done);
            let data = EventData::new_u64(index as u64);
            if epoll::modify(&self.epoll, &*connection, data, flags).is_err() {
                let now = self.now();
                self.dropped(index, now);
            }
        }
    }

    /// The server closed the connection.
    fn dropped(&mut self, index: usize, now: u64) {
        let slow = self.sessions[index].slow && self.sessions[index].ready_ns.is_some();
        self.close(index);
        if slow {
            self.world.stats.slow_dropped += 1;
        } else {
            self.world.stats.drops += 1;
            self.reopen_later(index as u32, now);
        }
    }

    /// Closes a connection from our side, and settles what was unanswered.
    fn close(&mut self, index: usize) {
        let now = self.now();
        let session = &mut self.sessions[index];
        if session.slow && session.ready_ns.is_some() {
            self.world.asleep -= 1;
        }
        self.world.ready.remove(session.index);
        let pending = session.close();
        self.world.outstanding -= pending.len() as u64;
        for pending in pending {
            self.world.stats.unanswered += 1;
            self.world.record(&self.sessions[index], &pending, Fate::Unanswered, now);
        }
    }

    /// Serves `client.reconnect`.
    fn reconnects(&mut self) {
        while let Some((index, wait_secs)) = self.world.reconnect_requests.pop() {
            let now = self.now();
            self.world.stats.reconnect_requests += 1;
            self.close(index as usize);
            self.opens.push(Reverse((now + u64::from(wait_secs.min(60)) * SECOND, index)));
        }
    }

    fn reopen_later(&mut self, index: u32, now: u64) {
        let wait = self.world.options.reconnect_ms * 1_000_000;
        self.opens.push(Reverse((now + wait, index)));
    }

    /// Sets the timer to when something is due next.
    fn arm(&mut self, now: u64) -> anyhow::Result<()> {
        let mut next = now + LONGEST_SLEEP_NS;
        if let Some(Reverse((due, _))) = self.opens.peek() {
            next = next.min(*due);
        }
        let (Phase::Joining { until }
        | Phase::Working { until, .. }
        | Phase::Draining { until, .. }) = self.phase;
        next = next.min(until);
        if let Some(due) = self.share_due() {
            next = next.min(due.max(now + QUANTUM_NS));
        }
        let wait = next.min(self.next_storm).saturating_sub(self.now()).max(1);
        let value = Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as _ };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec).context("timer")?;
        Ok(())
    }

    /// Shows the counters to whoever watches the run.
    fn publish(&self) {
        let (world, live) = (&self.world, self.live);
        let ready = world.ready.len() + world.asleep;
        live.ready.store(u64::from(ready), Ordering::Relaxed);
        live.submitted.store(world.stats.submitted, Ordering::Relaxed);
        live.accepted.store(world.stats.accepted, Ordering::Relaxed);
        live.rejected.store(world.stats.rejected.values().sum(), Ordering::Relaxed);
        live.drops.store(world.stats.drops, Ordering::Relaxed);
        live.notified.store(world.stats.notified, Ordering::Relaxed);
    }
}

fn seconds(secs: f64) -> u64 {
    // Saturates; a year is long enough for any run.
    (secs.clamp(0.0, 3.2e7) * SECOND as f64) as u64
}

fn resolve(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url.strip_prefix("stratum+tcp://").unwrap_or(url);
    address.to_socket_addrs()?.next().context("has no address")
}

/// Each session is an open file. Where the limit cannot be raised, connecting will fail and say so.
fn raise_file_limit(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let current = Some(limit.maximum.map_or(files, |maximum| maximum.min(files)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}
