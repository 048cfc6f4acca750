//! A miner's session, whatever carries it: lines come in, answers and work go out.
//!
//! [`Session`] owns no socket and never waits. Its owner (a connection's task in
//! [`direct`](crate::direct), a proxy's link in `linked`) gives it each line of the miner with
//! [`Session::line`], each event that it is posted with [`Session::event`], and each new job with
//! [`Session::work`]; all three append to a buffer what the miner shall read. Answers leave in
//! the order of the lines, whether they were known at once or had to wait for the cluster.
//!
//! After a call that returns [`Next::Hold`] the owner feeds no further line until
//! [`Session::is_held`] is false; events still come.

mod answers;
mod difficulty;
mod event;
mod login;
mod seen;
mod submit;
#[cfg(test)]
mod tests;
mod ticket;

use std::net::IpAddr;
use std::sync::Arc;

use seam_cluster::ledger::UserId;
use seam_stratum::configure::Policy;
use seam_stratum::message::{Call, Id, Incoming, ParseErrorKind, Request};
use seam_stratum::{Difficulty, Extranonce1, Reject, Sid, write};
use smallvec::SmallVec;

use self::answers::Answers;
use self::difficulty::Assigned;
pub use self::event::{BlockFate, Event, Inbox, LoginResult, Reply};
use self::seen::Seen;
use self::submit::Blocked;
pub use self::submit::Solved;
pub use self::ticket::Ticket;
use crate::jobs::Entry;
use crate::limits::{Offence, score};
use crate::pool::Pool;

/// One miner's work context.
pub struct Session {
    via: Via,
    peer: IpAddr,
    inbox: Arc<dyn Inbox>,
    /// Upper half of every token: tells the sessions of one inbox apart.
    number: u32,
    /// Given by the link, or drawn when the miner subscribes.
    extranonce1: Option<Extranonce1>,
    /// The registry's number of this hold of `extranonce1`.
    hold: Option<u64>,
    subscribed: bool,
    admin: bool,
    extranonce_subscribed: bool,
    /// What the miner may roll, once it negotiated that.
    version_mask: Option<u32>,
    /// The mask was granted without `mining.configure` and has to be told with the next work.
    mask_untold: bool,
    users: SmallVec<[User; 1]>,
    refused_logins: u32,
    difficulty: Assigned,
    seen: Seen,
    answers: Answers,
    /// The newest job that was sent: 0 is none, no lease is 0.
    last_job: u64,
    /// The previous block that the miner's work builds on.
    last_tip: LastTip,
    /// A share that the ledger's queue had no room for.
    blocked: Option<Box<Blocked>>,
    /// A login or user creation is on its way: what follows it waits.
    held: bool,
    changed: bool,
}

/// How a session's bytes come; the label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The miner's own connection.
    Direct,
    /// A proxy's link.
    Link,
}

impl Via {
    /// The label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Link => "link",
        }
    }
}

/// What a session starts from.
pub struct Start {
    /// How it comes.
    pub via: Via,
    /// The miner's own address.
    pub peer: IpAddr,
    /// Where its events go.
    pub inbox: Arc<dyn Inbox>,
    /// Upper half of its tokens, for an inbox of many sessions.
    pub number: u32,
    /// Its extranonce1, where a proxy gave it; else it is drawn when the miner subscribes.
    pub extranonce1: Option<Extranonce1>,
    /// What it was on another node.
    pub ticket: Option<Ticket>,
    /// What its proxy kept of an earlier connection: where this node kept nothing, with `resume`.
    pub earlier: Option<Ticket>,
    /// The miner came with the sid of this extranonce1: what this node kept of it is taken up.
    pub resume: bool,
    /// The miner's connection goes on and its work with it: the first job is not a clean one.
    pub moved: bool,
    /// What a proxy negotiated before the session was routed.
    pub version_mask: Option<u32>,
    /// The minimum difficulty that it agreed on.
    pub minimum_difficulty: Option<Difficulty>,
    /// Whether it agreed on `subscribe-extranonce`.
    pub extranonce_subscribed: bool,
}

impl Start {
    /// A session from nothing.
    #[must_use]
    pub fn fresh(via: Via, peer: IpAddr, inbox: Arc<dyn Inbox>) -> Self {
        Self {
            via,
            peer,
            inbox,
            number: 0,
            extranonce1: None,
            ticket: None,
            earlier: None,
            resume: false,
            moved: false,
            version_mask: None,
            minimum_difficulty: None,
            extranonce_subscribed: false,
        }
    }
}

/// What the owner does after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Feed the next line.
    Go,
    /// Feed none until [`Session::is_held`] is false.
    Hold,
    /// Write what is in the buffer, then close.
    Close(Closed),
}

/// Why a session ends; the label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The miner hung up.
    Miner,
    /// It was silent, or never came to work.
    Idle,
    /// It does not read.
    SlowReader,
    /// A limit.
    Limit,
    /// Its address is banned.
    Banned,
    /// Its sid came in over another connection.
    TakenOver,
    /// It lives on another node now.
    Moved,
    /// This node drains.
    Drain,
    /// The socket failed.
    Error,
}

impl Closed {
    /// The label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Limit => "limit",
            Self::Banned => "banned",
            Self::TakenOver => "taken_over",
            Self::Moved => "moved",
            Self::Drain => "drain",
            Self::Error => "error",
        }
    }
}

impl Session {
    /// Begins a session.
    #[must_use]
    pub fn new(pool: &Pool, start: Start) -> Self {
        let now = pool.clock.monotonic_millis();
        let mut session = Self {
            via: start.via,
            peer: start.peer,
            inbox: start.inbox,
            number: start.number,
            extranonce1: start.extranonce1,
            hold: None,
            subscribed: false,
            admin: false,
            extranonce_subscribed: start.extranonce_subscribed,
            version_mask: start.version_mask,
            mask_untold: false,
            users: SmallVec::new(),
            refused_logins: 0,
            difficulty: Assigned::new(&pool.settings, start.minimum_difficulty, now),
            seen: Seen::default(),
            answers: Answers::default(),
            last_job: 0,
            last_tip: if start.moved { LastTip::Unknown } else { LastTip::None },
            blocked: None,
            held: false,
            changed: true,
        };
        let has_ticket = start.ticket.is_some();
        if let Some(ticket) = start.ticket {
            session.restore(pool, &ticket, now);
        }
        if session.extranonce1.is_some() {
            session.claim(pool, session.extranonce1, has_ticket, start.resume, start.earlier);
        }
        session
    }

    /// Takes one line of the miner, without its line end. `replay` says that another node may
    /// have counted the share in it.
    pub fn line(&mut self, pool: &Pool, line: &[u8], replay: bool, out: &mut Vec<u8>) -> Next {
        debug_assert!(!self.is_held(), "a line for a held session");
        let next = match Incoming::parse(line) {
            Ok(Incoming::Request(Request { id, call })) => self.call(pool, id, call, replay, out),
            Ok(Incoming::Response(_)) => {
                self.answers.settle_silently();
                Next::Go
            }
            Err(error) => {
                let offence = match error.kind {
                    ParseErrorKind::NotJson | ParseErrorKind::NotRequest => score::MALFORMED,
                    ParseErrorKind::Params | ParseErrorKind::ForeignJob => score::INVALID_PARAMS,
                };
                self.answers.reject(out, error.id, &error.kind.reject());
                self.offend(pool, offence)
            }
        };
        if matches!(next, Next::Go) && self.is_held() { Next::Hold } else { next }
    }

    /// Takes a line that says nothing: it has its turn, and no answer.
    pub fn skip(&mut self) {
        self.answers.settle_silently();
    }

    /// Takes an event that was posted for this session (the lower half of its token).
    pub fn event(&mut self, pool: &Pool, token: u64, event: Event, out: &mut Vec<u8>) -> Next {
        let next = match event {
            Event::Share(outcome) => self.share_done(pool, token as u32, outcome, out),
            Event::Block(fate) => self.block_done(pool, token as u32, fate, out),
            Event::Login(result) => self.login_done(pool, token as u32, result, out),
            Event::UserAdded(result) => self.user_added(pool, token as u32, result, out),
            Event::TakenOver => Next::Close(Closed::TakenOver),
        };
        if matches!(next, Next::Go) && self.is_held() { Next::Hold } else { next }
    }

    /// Whether the miner is ready for work and has not got `job` yet.
    #[must_use]
    pub fn wants(&self, job: &Entry) -> bool {
        self.wants_work() && self.last_job != job.id().0
    }

    /// Whether the miner subscribed and logged in: from now on it gets every job.
    #[must_use]
    pub fn wants_work(&self) -> bool {
        self.subscribed && !self.users.is_empty()
    }

    /// Prepares the miner for `job`: appends what has to go out before its `mining.notify`, and
    /// says with which `clean_jobs` that has to go out.
    pub fn work(&mut self, pool: &Pool, job: &Entry, out: &mut Vec<u8>) -> bool {
        let clean = match self.last_tip {
            LastTip::None => true,
            LastTip::Unknown => false,
            LastTip::Known(tip) => tip != job.tip(),
        };
        if self.mask_untold {
            self.mask_untold = false;
            write::set_version_mask(out, self.version_mask.unwrap_or(0));
        }
        let new_tip = matches!(self.last_tip, LastTip::Known(tip) if tip != job.tip());
        if new_tip {
            self.seen.clear();
        }
        self.last_tip = LastTip::Known(job.tip());
        self.last_job = job.id().0;
        let now = pool.clock.monotonic_millis();
        let before = self.difficulty.sent();
        self.changed |= self.difficulty.at_job(&pool.settings, job.id(), new_tip, now);
        if self.difficulty.sent() != before {
            if let Some(difficulty) = self.difficulty.sent() {
                write::set_difficulty(out, difficulty);
            }
            self.remember(pool);
        }
        clean
    }

    /// Tries again what the ledger had no room for. To be called while [`Session::is_held`].
    pub fn retry(&mut self, pool: &Pool, out: &mut Vec<u8>) -> Next {
        self.retry_blocked(pool, out);
        if self.is_held() { Next::Hold } else { Next::Go }
    }

    /// Whether lines have to wait.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held || self.blocked.is_some() || self.answers.is_full()
    }

    /// Whether [`Session::retry`] has something to try.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Answers that are still owed.
    #[must_use]
    pub fn owes(&self) -> usize {
        self.answers.len()
    }

    /// How many lines were settled since this was last asked: answered in what was appended, or
    /// in need of no answer.
    pub fn take_settled(&mut self) -> u32 {
        self.answers.take_settled()
    }

    /// What another node needs to go on with this session, if that changed since it was last
    /// asked.
    pub fn take_ticket(&mut self) -> Option<Ticket> {
        std::mem::take(&mut self.changed).then(|| self.ticket()).flatten()
    }

    /// Its extranonce1, once it has one.
    #[must_use]
    pub fn extranonce1(&self) -> Option<Extranonce1> {
        self.extranonce1
    }

    /// The miner's own address.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Ends the session: its sid may be taken up again for a while, unless it lives elsewhere.
    pub fn close(&mut self, pool: &Pool, why: Closed) {
        let (Some(extranonce1), Some(hold)) = (self.extranonce1, self.hold.take()) else { return };
        pool.metrics.session_closed(self.via.label(), why.label());
        let parked = match why {
            Closed::TakenOver | Closed::Moved | Closed::Banned => None,
            _ => self.ticket(),
        };
        pool.registry.release(extranonce1, hold, parked);
    }

    /// What it holds on the heap and in itself, in bytes, for the metric.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.seen.memory()
            + self.answers.memory()
            + self.users.iter().map(|user| user.name.len()).sum::<usize>()
    }

    fn call(
        &mut self,
        pool: &Pool,
        id: Id<'_>,
        call: Call<'_>,
        replay: bool,
        out: &mut Vec<u8>,
    ) -> Next {
        match call {
            Call::Submit(submit) => return self.submit(pool, id, &submit, replay, out),
            Call::Authorize { user, password } => {
                return self.authorize(pool, id, &user, &password, out);
            }
            Call::AuthorizeAdmin { password } => {
                return self.authorize_admin(pool, id, &password, out);
            }
            Call::AddUser { user, password } => {
                return self.add_user(pool, id, &user, &password, out);
            }
            Call::Unknown { .. } => {
                self.answers.reject(out, id, &Reject::UNKNOWN_METHOD);
                return self.offend(pool, score::UNKNOWN_METHOD);
            }
            Call::Subscribe { sid, .. } => self.subscribe(pool, id, sid.as_deref(), out),
            Call::Configure(request) => {
                let outcome = request.negotiate(&policy(pool));
                if outcome.version_mask.is_some() {
                    self.version_mask = outcome.version_mask;
                }
                if let Some(minimum) = outcome.minimum_difficulty {
                    self.difficulty.set_minimum(&pool.settings, minimum);
                }
                self.extranonce_subscribed |= outcome.subscribe_extranonce;
                self.changed = true;
                self.answers.answer(out, id, |out, id| outcome.write(out, id));
            }
            Call::ExtranonceSubscribe => {
                self.extranonce_subscribed = true;
                self.changed = true;
                self.answers.answer(out, id, |out, id| write::result_bool(out, id, true));
            }
            Call::SuggestDifficulty(difficulty) => {
                self.suggest(pool, difficulty);
                self.answers.answer(out, id, |out, id| write::result_bool(out, id, true));
            }
            Call::SuggestTarget(target) => {
                self.suggest(pool, target.difficulty());
                self.answers.answer(out, id, |out, id| write::result_bool(out, id, true));
            }
            Call::GetTransactions(job) => match pool.jobs.find(job) {
                Some(entry) => {
                    let txids = entry.txids();
                    self.answers.answer(out, id, |out, id| write::transactions(out, id, &txids));
                }
                None => self.answers.reject(out, id, &Reject::JobNotFound),
            },
            Call::Ping => self.answers.answer(out, id, write::pong),
            Call::Pong => self.answers.settle_silently(),
            Call::MultiVersion => {
                if self.version_mask.is_none() {
                    self.version_mask = Some(policy(pool).version_mask);
                    self.mask_untold = true;
                    self.changed = true;
                }
                self.answers.answer(out, id, |out, id| write::result_bool(out, id, true));
            }
        }
        Next::Go
    }

    fn subscribe(&mut self, pool: &Pool, id: Id<'_>, sid: Option<&str>, out: &mut Vec<u8>) {
        let Some(key) = pool.registry.sid_key() else {
            return self.answers.reject(out, id, &Reject::other(NOT_FORMED));
        };
        if self.extranonce1.is_none() {
            let wanted = sid.and_then(|text| Sid::verify(&key, text));
            if !self.claim(pool, wanted, false, wanted.is_some(), None) {
                return self.answers.reject(out, id, &Reject::other(NO_EXTRANONCE));
            }
        }
        if let Some(extranonce1) = self.extranonce1 {
            self.subscribed = true;
            self.changed = true;
            let sid = Sid::mint(&key, extranonce1);
            let nonce2_len = pool.settings.nonce2_len;
            self.answers.answer(out, id, |out, id| write::subscribed(out, id, &sid, nonce2_len));
        }
    }

    /// Holds `wanted`, or a number that is free; false if there is none.
    fn claim(
        &mut self,
        pool: &Pool,
        wanted: Option<Extranonce1>,
        has_ticket: bool,
        resume: bool,
        earlier: Option<Ticket>,
    ) -> bool {
        let Some(claim) = pool.registry.claim(wanted, &self.inbox, self.token(0)) else {
            return false;
        };
        self.extranonce1 = Some(claim.extranonce1);
        self.hold = Some(claim.hold);
        let kept = claim.ticket.or(earlier);
        if let (Some(ticket), true, false) = (kept, resume, has_ticket) {
            self.resume(pool, &ticket);
        }
        let how = match (has_ticket, resume) {
            (true, _) => "ticket",
            (false, true) => "resumed",
            (false, false) => "fresh",
        };
        pool.metrics.session_opened(self.via.label(), how);
        true
    }

    fn suggest(&mut self, pool: &Pool, difficulty: Difficulty) {
        let now = pool.clock.monotonic_millis();
        if self.difficulty.suggest(&pool.settings, difficulty, now) {
            self.changed = true;
            if self.last_job != 0 {
                pool.jobs.want_refresh();
            }
        }
    }

    /// Counts an offence of the miner's address.
    fn offend(&self, pool: &Pool, offence: Offence) -> Next {
        if pool.addresses.offend(self.peer, offence) {
            Next::Close(Closed::Banned)
        } else {
            Next::Go
        }
    }

    fn token(&self, sequence: u32) -> u64 {
        u64::from(self.number) << 32 | u64::from(sequence)
    }

    fn reply(&self, sequence: u32) -> Reply {
        Reply::new(Arc::clone(&self.inbox), self.token(sequence))
    }

    /// Leaves what a resume needs with the registry, for a connection that dies without notice.
    fn remember(&self, pool: &Pool) {
        if let (Some(extranonce1), Some(hold)) = (self.extranonce1, self.hold)
            && let Some(ticket) = self.ticket()
        {
            pool.registry.remember(extranonce1, hold, ticket);
        }
    }
}

/// A user that the session may submit for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: Box<str>,
    id: UserId,
}

/// What is known of the block that the miner's work builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastTip {
    /// It has no work.
    None,
    /// It has work from another node: the newest, as far as anyone knows.
    Unknown,
    /// The jobs' fingerprint of it.
    Known(u64),
}

fn policy(pool: &Pool) -> Policy {
    Policy { version_mask: pool.settings.version_mask, ..Policy::default() }
}

const NOT_FORMED: &str = "this node belongs to no cluster yet";

const NO_EXTRANONCE: &str = "no quorum: there is no session id to give";
