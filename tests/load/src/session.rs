//! One miner: its handshake, its work, its shares and their answers.

use std::collections::VecDeque;
use std::rc::Rc;

use seam_stratum::client::{Answer, FromServer, HeaderHasher, Subscribed, configured_mask};
use seam_stratum::job::VERSION_ROLLING_MASK;
use seam_stratum::write::{self, SubmitParams};
use seam_stratum::{Difficulty, Nonce2, Target};

use crate::account::Fate;
use crate::connection::{Connection, Outgoing};
use crate::jobs::{Seen, Shared};
use crate::world::World;

/// What the sessions call themselves.
const AGENT: &str = concat!("seam-load/", env!("CARGO_PKG_VERSION"));

/// Expected hashes above which a share is not worth finding here.
pub(crate) const MAX_WORK: u128 = 1 << 20;

/// Submits a session may have unanswered; more are skipped.
const MAX_PENDING: usize = 4096;

/// Bytes a session may have unsent; more shares are skipped.
const MAX_UNSENT: usize = 1 << 20;

/// No notify is shorter: two hashes' worth of digits, and the coinbase.
const MIN_NOTIFY: usize = 200;

const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;
const SUGGEST: u64 = 4;
/// Submits have this id and the ones above, each once in the life of a session.
const FIRST_SUBMIT: u64 = 5;

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Connecting,
    Subscribing,
    Authorizing,
    Authorized,
}

/// A submit that waits for its answer.
pub(crate) struct Pending {
    id: u64,
    pub(crate) due_ns: u64,
    pub(crate) hash: [u8; 32],
    pub(crate) work: u128,
}

pub(crate) struct Session {
    pub(crate) index: u32,
    pub(crate) user: String,
    login: String,
    pub(crate) slow: bool,
    pub(crate) state: State,
    pub(crate) connection: Option<Connection>,
    pub(crate) out: Outgoing,
    /// Whether the poll waits for the socket to become writable.
    pub(crate) wants_write: bool,
    /// Which of the servers comes next.
    pub(crate) next_url: usize,
    /// When this connection was due.
    pub(crate) due_ns: u64,
    opened_ns: u64,
    subscribed_ns: u64,
    /// Since when it has been able to work without a break.
    pub(crate) ready_ns: Option<u64>,

    sid: Option<String>,
    extranonce1: Vec<u8>,
    nonce2_len: u8,
    version_mask: u32,
    /// Of the jobs to come.
    next_target: Target,
    next_work: u128,
    job: Option<Rc<Shared>>,
    seen: Seen,
    target: Target,
    pub(crate) work: u128,
    header: Option<(HeaderHasher, Nonce2)>,
    nonce: u32,
    nonce2: u64,

    next_id: u64,
    pub(crate) pending: VecDeque<Pending>,
    /// Since when a submit has been outstanding without any answer.
    waiting_since_ns: Option<u64>,
    pub(crate) longest_wait_ns: u64,
    /// When the longest wait was over.
    pub(crate) longest_wait_end_ns: u64,
}

impl Session {
    pub(crate) fn new(index: u32, user: String, slow: bool) -> Self {
        let one = Difficulty::ONE;
        Self {
            index,
            login: format!("{user}.s{index}"),
            user,
            slow,
            state: State::Closed,
            connection: None,
            out: Outgoing::default(),
            wants_write: false,
            next_url: index as usize,
            due_ns: 0,
            opened_ns: 0,
            subscribed_ns: 0,
            ready_ns: None,
            sid: None,
            extranonce1: Vec::new(),
            nonce2_len: 0,
            version_mask: 0,
            next_target: one.target(),
            next_work: one.expected_hashes(),
            job: None,
            seen: Seen::default(),
            target: one.target(),
            work: one.expected_hashes(),
            header: None,
            nonce: 0,
            nonce2: 0,
            next_id: FIRST_SUBMIT,
            pending: VecDeque::new(),
            waiting_since_ns: None,
            longest_wait_ns: 0,
            longest_wait_end_ns: 0,
        }
    }

    pub(crate) fn begin(&mut self, connection: Connection, due_ns: u64, now_ns: u64) {
        self.connection = Some(connection);
        self.state = State::Connecting;
        self.due_ns = due_ns;
        self.opened_ns = now_ns;
    }

    /// The socket is connected: says hello.
    pub(crate) fn connected(&mut self, world: &mut World, now_ns: u64) {
        world.stats.connect.add_ns(now_ns.saturating_sub(self.opened_ns));
        self.state = State::Subscribing;
        self.subscribed_ns = now_ns;
        let out = &mut self.out.bytes;
        if world.options.version_rolling {
            write::configure(out, CONFIGURE, VERSION_ROLLING_MASK, 2);
        }
        let sid = self.sid.as_deref().filter(|_| world.options.resume);
        write::subscribe(out, SUBSCRIBE, AGENT, sid);
    }

    /// Whether it could find shares now.
    pub(crate) fn has_work(&self, any_difficulty: bool) -> bool {
        self.state == State::Authorized
            && self.job.is_some()
            && (any_difficulty || self.work <= MAX_WORK)
    }

    /// Forgets the connection. Submits without an answer are returned.
    pub(crate) fn close(&mut self) -> VecDeque<Pending> {
        self.connection = None;
        self.state = State::Closed;
        self.wants_write = false;
        self.out.clear();
        self.job = None;
        self.header = None;
        self.version_mask = 0;
        self.ready_ns = None;
        std::mem::take(&mut self.pending)
    }

    /// Finds a share and writes its submit. False where it has no work it could do.
    pub(crate) fn submit(&mut self, world: &mut World, due_ns: u64, twice: bool) -> bool {
        if self.pending.len() >= MAX_PENDING || self.out.len() > MAX_UNSENT || !self.has_work(false)
        {
            return false;
        }
        let Some((hash, nonce, nonce2)) = self.find(&mut world.stats.hashes) else { return false };
        let Some(job) = &self.job else { return false };
        let params = SubmitParams {
            user: &self.login,
            job: &job.work.job_id,
            nonce2,
            ntime: job.work.ntime,
            nonce,
            version_bits: (self.version_mask != 0).then_some(self.rolled_bits()),
        };
        for _ in 0..=u8::from(twice) {
            write::submit(&mut self.out.bytes, self.next_id, &params);
            self.pending.push_back(Pending { id: self.next_id, due_ns, hash, work: self.work });
            self.next_id += 1;
            world.stats.submitted(due_ns);
        }
        self.waiting_since_ns.get_or_insert(due_ns);
        true
    }

    /// Takes one line from the server.
    pub(crate) fn line(&mut self, line: &[u8], world: &mut World, now_ns: u64) {
        // Thousands of sessions get the same notify: it is parsed for the first.
        if line.len() >= MIN_NOTIFY
            && let Some(job) = world.jobs.recognise(line)
        {
            return self.take_job(job, world, now_ns);
        }
        match FromServer::parse(line) {
            Ok(FromServer::Answer(answer)) => self.answer(&answer, world, now_ns),
            Ok(FromServer::Notify(notify)) => {
                let ready = world.ready.len();
                let job = world.jobs.learn(line, *notify, now_ns, ready);
                self.take_job(job, world, now_ns);
            }
            Ok(FromServer::SetDifficulty(difficulty)) => {
                self.next_target = difficulty.target();
                self.next_work = difficulty.expected_hashes();
            }
            Ok(FromServer::SetVersionMask(mask)) => self.version_mask = mask,
            Ok(FromServer::SetExtranonce { extranonce1, nonce2_len }) => {
                self.extranonce1 = extranonce1;
                self.nonce2_len = nonce2_len;
                self.header = None;
            }
            Ok(FromServer::Reconnect { wait_secs, .. }) => {
                world.reconnect_requests.push((self.index, wait_secs));
            }
            Ok(FromServer::ShowMessage(_)) => world.stats.messages += 1,
            Ok(FromServer::GetVersion(id)) => write::result(&mut self.out.bytes, id, AGENT),
            Ok(FromServer::Ping(id)) => write::pong(&mut self.out.bytes, id),
            Ok(FromServer::Unknown { .. }) => {}
            Err(_) => world.stats.bad_lines += 1,
        }
    }

    /// Ends the session's measurements at the end of the run.
    pub(crate) fn finish(&mut self, now_ns: u64) {
        self.waited(now_ns);
        self.waiting_since_ns = None;
    }

    /// Notes how long no answer came to what was outstanding.
    fn waited(&mut self, now_ns: u64) {
        let Some(since) = self.waiting_since_ns else { return };
        let wait = now_ns.saturating_sub(since);
        if wait > self.longest_wait_ns {
            (self.longest_wait_ns, self.longest_wait_end_ns) = (wait, now_ns);
        }
    }

    fn take_job(&mut self, job: Rc<Shared>, world: &mut World, now_ns: u64) {
        world.stats.notified += 1;
        world.jobs.arrived(&job, &mut self.seen, self.ready_ns, now_ns);
        if self.job.as_ref().is_some_and(|current| Rc::ptr_eq(current, &job)) {
            return;
        }
        self.job = Some(job);
        self.header = None;
        self.target = self.next_target;
        self.work = self.next_work;
        world.check_ready(self, now_ns);
    }

    fn answer(&mut self, answer: &Answer<'_>, world: &mut World, now_ns: u64) {
        match answer.id.as_u64() {
            Some(CONFIGURE) => {
                self.version_mask =
                    answer.result.as_ref().ok().and_then(|r| configured_mask(r)).unwrap_or(0);
            }
            Some(SUBSCRIBE) => self.subscribed(answer, world, now_ns),
            Some(AUTHORIZE) => {
                if answer.is_true() {
                    self.state = State::Authorized;
                    world.check_ready(self, now_ns);
                } else {
                    world.stats.refused_logins += 1;
                }
            }
            Some(SUGGEST) => {}
            Some(id) => self.verdict(id, answer, world, now_ns),
            None => world.stats.unexpected_answers += 1,
        }
    }

    fn subscribed(&mut self, answer: &Answer<'_>, world: &mut World, now_ns: u64) {
        let parsed = answer.result.as_ref().ok().and_then(|result| Subscribed::parse(result).ok());
        let Some(subscribed) = parsed else {
            world.stats.bad_lines += 1;
            return;
        };
        world.stats.subscribe.add_ns(now_ns.saturating_sub(self.subscribed_ns));
        world.stats.join.add_ns(now_ns.saturating_sub(self.due_ns));
        if world.options.resume && self.sid.is_some() {
            if subscribed.extranonce1 == self.extranonce1 {
                world.stats.resumed += 1;
            } else {
                world.stats.not_resumed += 1;
            }
        }
        self.sid = subscribed.sid;
        self.extranonce1 = subscribed.extranonce1;
        self.nonce2_len = subscribed.nonce2_len.min(Nonce2::MAX_LEN as u8);
        self.state = State::Authorizing;

        let options = &world.options;
        let out = &mut self.out.bytes;
        match options.difficulty {
            Some(difficulty) if options.suggest => {
                write::suggest_difficulty(out, SUGGEST, difficulty);
                write::authorize(out, AUTHORIZE, &self.login, &options.password);
            }
            Some(difficulty) => {
                let password = format!("{},d={difficulty}", options.password);
                write::authorize(out, AUTHORIZE, &self.login, &password);
            }
            None => write::authorize(out, AUTHORIZE, &self.login, &options.password),
        }
    }

    fn verdict(&mut self, id: u64, answer: &Answer<'_>, world: &mut World, now_ns: u64) {
        let Some(position) = self.pending.iter().position(|pending| pending.id == id) else {
            world.stats.unexpected_answers += 1;
            return;
        };
        if position > 0 {
            world.stats.out_of_order += 1;
        }
        let Some(pending) = self.pending.remove(position) else { return };
        self.waited(now_ns);
        self.waiting_since_ns = (!self.pending.is_empty()).then_some(now_ns);

        let fate = match &answer.result {
            Ok("true") => Fate::Accepted,
            Ok(_) => Fate::Rejected(0),
            Err(error) => Fate::Rejected(error.code),
        };
        let reason = || match &answer.result {
            Err(error) => format!("{} {}", error.code, error.message),
            Ok(other) => (*other).to_owned(),
        };
        world.answered(self, &pending, fate, reason, now_ns);
    }

    fn find(&mut self, hashes: &mut u64) -> Option<([u8; 32], u32, Nonce2)> {
        // Chance alone exceeds this once in 10^27 shares.
        let attempts = self.work.saturating_mul(64).saturating_add(64);
        let bits = self.rolled_bits();
        for _ in 0..attempts {
            if self.header.is_none() || self.nonce == u32::MAX {
                let job = self.job.as_ref()?;
                self.nonce2 += 1;
                let nonce2 = Nonce2::from_counter(self.nonce2, self.nonce2_len);
                let hasher =
                    job.work.header(&self.extranonce1, nonce2.as_bytes(), bits, job.work.ntime);
                self.header = Some((hasher, nonce2));
                self.nonce = 0;
            }
            let (hasher, nonce2) = self.header.as_mut()?;
            self.nonce += 1;
            *hashes += 1;
            let hash = hasher.hash(self.nonce);
            if self.target.is_met_by(&hash) {
                return Some((hash, self.nonce, *nonce2));
            }
        }
        None
    }

    /// The same bits for all shares of a session, within what was granted.
    fn rolled_bits(&self) -> u32 {
        let pattern = self.index.wrapping_mul(0x9e37_79b9);
        pattern & self.version_mask
    }
}
