//! What was agreed with the pool: the miner's side of a stratum conversation, without its socket.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use seam_stratum::client::{Answer, RpcError, Subscribed, Work, configured_mask};
use seam_stratum::job::{VERSION_ROLLING_MASK, display_hash};
use seam_stratum::write::{self, SubmitParams};
use seam_stratum::{Difficulty, FromServer, Notify, Target};

use super::MineOptions;
use super::hashers::{Assignment, Found};
use super::tally::Tally;
use crate::failure::Failure;

/// Submits that may wait for their answer. Beyond that the threads wait.
const MAX_PENDING: usize = 256;
/// Jobs that are kept until the previous block changes.
const MAX_JOBS: usize = 64;
/// Codes of answers to a share that was sent again which leave open whether it counted the first time: its job is gone,
/// or it was seen before.
const MAY_HAVE_COUNTED: [i64; 2] = [21, 22];
/// How the miner calls itself.
const AGENT: &str = concat!("seamctl/", env!("CARGO_PKG_VERSION"));

/// What the caller has to do after a line.
pub(super) enum Next {
    /// Nothing.
    Listen,
    /// Search this, or nothing for now.
    Assign(Option<Arc<Assignment>>),
    /// Tell the user.
    Say(String),
    /// Connect anew, there if it is named, after so many seconds.
    Reconnect(Option<(String, u16)>, u32),
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Break {
    /// The connection is of no use; another may be.
    #[error("{0}")]
    Connection(String),
    /// The pool does not want this user.
    #[error("{0}")]
    User(String),
}

impl From<Break> for Failure {
    fn from(reason: Break) -> Self {
        Self::Refused(reason.to_string())
    }
}

/// A request that waits for its answer.
enum Request {
    Configure,
    Subscribe,
    Authorize,
    /// An answer that changes nothing.
    Other,
    Submit(Submitted),
}

/// A share on its way.
#[derive(Clone)]
struct Submitted {
    found: Found,
    job: Arc<Job>,
    /// Sent before, on a connection that broke.
    again: bool,
}

/// A job of the current previous block.
struct Job {
    assignment: Arc<Assignment>,
    prev_hash: [u8; 32],
    difficulty: Difficulty,
}

/// The session. It outlives connections.
pub(super) struct Session {
    user: String,
    password: String,
    suggested: Option<Difficulty>,
    wanted_mask: u32,

    sid: Option<String>,
    extranonce1: Vec<u8>,
    nonce2_len: u8,
    mask: u32,
    /// Holds from the next job on.
    difficulty: Difficulty,
    jobs: HashMap<u64, Arc<Job>>,
    /// The newest job.
    newest: Option<Arc<Job>>,
    /// The job of a block that was sent: its work is over, unless the block is refused.
    solved: Option<[u8; 32]>,
    generation: u64,

    next_id: u64,
    pending: BTreeMap<u64, Request>,
    /// Shares whose connection broke before their answer came.
    unanswered: Vec<Submitted>,
    /// Whether this connection is authorized.
    ready: bool,
    /// Whether any was.
    was_ready: bool,
}

impl Session {
    /// Before the first connection.
    pub(super) fn new(options: &MineOptions) -> Self {
        Self {
            user: options.user.clone(),
            password: options.password.clone(),
            suggested: options.suggest_difficulty,
            wanted_mask: if options.no_version_rolling { 0 } else { VERSION_ROLLING_MASK },
            sid: None,
            extranonce1: Vec::new(),
            nonce2_len: 0,
            mask: 0,
            difficulty: Difficulty::ONE,
            jobs: HashMap::new(),
            newest: None,
            solved: None,
            generation: 0,
            next_id: 1,
            pending: BTreeMap::new(),
            unanswered: Vec::new(),
            ready: false,
            was_ready: false,
        }
    }

    /// Begins on a new connection.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        self.ready = false;
        self.mask = 0;
        if self.wanted_mask == 0 {
            self.subscribe(out);
        } else {
            let id = self.expect(Request::Configure);
            write::configure(out, id, self.wanted_mask, 2);
        }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        for request in std::mem::take(&mut self.pending).into_values() {
            if let Request::Submit(share) = request {
                self.unanswered.push(share);
            }
        }
        // A pool that crashed may come back without the block, and then its parent is the tip again.
        self.solved = None;
        self.ready = false;
    }

    /// Shares whose answer never came.
    pub(super) fn unanswered(&self) -> u64 {
        self.unanswered.len() as u64
    }

    /// Whether a share can be sent now.
    pub(super) fn can_submit(&self) -> bool {
        self.ready && self.pending.len() < MAX_PENDING
    }

    /// Submits that wait for their answer.
    pub(super) fn submits_pending(&self) -> u64 {
        self.pending.values().filter(|request| matches!(request, Request::Submit(_))).count() as u64
    }

    /// Of them, those that are blocks.
    pub(super) fn blocks_pending(&self) -> u64 {
        let is_block =
            |request: &&Request| matches!(request, Request::Submit(share) if share.found.is_block);
        self.pending.values().filter(is_block).count() as u64
    }

    /// Sends a share, unless its work is over.
    pub(super) fn submit(&mut self, found: Found, tally: &mut Tally, out: &mut Vec<u8>) -> Next {
        let Some(job) = self.jobs.get(&found.generation).cloned() else {
            tally.stale += 1;
            return Next::Listen;
        };
        if self.solved == Some(job.prev_hash) {
            tally.stale += 1;
            return Next::Listen;
        }
        let is_block = found.is_block;
        let prev_hash = job.prev_hash;
        self.send(Submitted { found, job, again: false }, out);
        if is_block {
            self.solved = Some(prev_hash);
            return Next::Assign(None);
        }
        Next::Listen
    }

    /// Takes one line.
    pub(super) fn hear(
        &mut self,
        line: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<Next, Break> {
        let message = FromServer::parse(line).map_err(|error| {
            Break::Connection(format!("{error}: {}", String::from_utf8_lossy(line)))
        })?;
        Ok(match message {
            FromServer::Answer(answer) => self.answered(&answer, tally, out)?,
            FromServer::Notify(notify) => self.notified(*notify)?,
            FromServer::SetDifficulty(difficulty) => {
                self.difficulty = difficulty;
                Next::Listen
            }
            FromServer::SetVersionMask(mask) => {
                self.mask = mask & self.wanted_mask;
                Next::Listen
            }
            FromServer::SetExtranonce { extranonce1, nonce2_len } => {
                self.extranonce1 = extranonce1;
                self.nonce2_len = nonce2_len;
                Next::Listen
            }
            FromServer::Reconnect { host, port, wait_secs } => {
                let place = host.filter(|host| !host.is_empty()).zip(port);
                Next::Reconnect(place.map(|(host, port)| (host.into_owned(), port)), wait_secs)
            }
            FromServer::ShowMessage(text) => Next::Say(format!("the pool says: {text}")),
            FromServer::GetVersion(id) => {
                write::result(out, id, AGENT);
                Next::Listen
            }
            FromServer::Ping(id) => {
                write::pong(out, id);
                Next::Listen
            }
            FromServer::Unknown { .. } => Next::Listen,
        })
    }

    /// What to search, if there is work that is not over.
    pub(super) fn assignment(&self) -> Option<Arc<Assignment>> {
        self.newest
            .as_ref()
            .filter(|job| self.ready && self.solved != Some(job.prev_hash))
            .map(|job| Arc::clone(&job.assignment))
    }

    fn answered(
        &mut self,
        answer: &Answer<'_>,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<Next, Break> {
        let id = answer.id.as_json().parse::<u64>().ok();
        let Some(request) = id.and_then(|id| self.pending.remove(&id)) else {
            return Ok(Next::Listen);
        };
        match request {
            Request::Configure => {
                // A pool without BIP 310 answers with an error: then there is no rolling.
                let granted =
                    answer.result.as_ref().ok().and_then(|result| configured_mask(result));
                self.mask = granted.unwrap_or(0) & self.wanted_mask;
                self.subscribe(out);
                Ok(Next::Listen)
            }
            Request::Subscribe => {
                self.subscribed(answer, tally)?;
                if let Some(difficulty) = self.suggested {
                    let id = self.expect(Request::Other);
                    write::suggest_difficulty(out, id, difficulty);
                }
                let id = self.expect(Request::Authorize);
                write::authorize(out, id, &self.user, &self.password);
                Ok(Next::Listen)
            }
            Request::Authorize if answer.is_true() => {
                self.ready = true;
                self.was_ready = true;
                for mut share in std::mem::take(&mut self.unanswered) {
                    share.again = true;
                    tally.resubmitted += 1;
                    self.send(share, out);
                }
                Ok(Next::Assign(self.assignment()))
            }
            Request::Authorize => {
                let text = format!("{} may not mine: {}", self.user, reason(answer));
                Err(if self.was_ready { Break::Connection(text) } else { Break::User(text) })
            }
            Request::Other => Ok(Next::Listen),
            Request::Submit(share) => Ok(self.judged(&share, answer, tally)),
        }
    }

    fn subscribed(&mut self, answer: &Answer<'_>, tally: &mut Tally) -> Result<(), Break> {
        let given = match &answer.result {
            Ok(result) => Subscribed::parse(result).ok(),
            Err(_) => None,
        };
        let given = given.ok_or_else(|| {
            Break::Connection(format!("mining.subscribe refused: {}", reason(answer)))
        })?;
        if !self.extranonce1.is_empty() && given.extranonce1 == self.extranonce1 {
            tally.resumed += 1;
        } else {
            // Another session: nothing of the old one means anything here.
            tally.unanswered += self.unanswered.len() as u64;
            self.unanswered.clear();
            self.jobs.clear();
            self.newest = None;
            self.solved = None;
            self.difficulty = Difficulty::ONE;
        }
        tally.connected += 1;
        self.sid = given.sid;
        self.extranonce1 = given.extranonce1;
        self.nonce2_len = given.nonce2_len;
        Ok(())
    }

    fn notified(&mut self, notify: Notify<'_>) -> Result<Next, Break> {
        let network_target = Target::from_nbits(notify.nbits)
            .ok_or_else(|| Break::Connection(format!("no target: {:08x}", notify.nbits)))?;
        if notify.clean || self.jobs.len() >= MAX_JOBS {
            self.jobs.clear();
        }
        let prev_hash = notify.prev_hash;
        if self.solved != Some(prev_hash) {
            // Should a reorganisation bring the old parent back, it is work again.
            self.solved = None;
        }
        self.generation += 1;
        let assignment = Arc::new(Assignment {
            generation: self.generation,
            work: Work::new(notify),
            extranonce1: self.extranonce1.clone(),
            nonce2_len: self.nonce2_len,
            version_mask: self.mask,
            target: self.difficulty.target(),
            network_target,
        });
        let job = Arc::new(Job { assignment, prev_hash, difficulty: self.difficulty });
        self.jobs.insert(self.generation, Arc::clone(&job));
        self.newest = Some(job);
        Ok(Next::Assign(self.assignment()))
    }

    fn judged(&mut self, share: &Submitted, answer: &Answer<'_>, tally: &mut Tally) -> Next {
        if answer.is_true() {
            tally.accepted += 1;
            tally.work += share.job.difficulty.expected_hashes();
            if share.found.is_block {
                tally.blocks += 1;
                let hash = display_hash(&share.found.hash);
                return Next::Say(format!("block {}: {hash}", tally.blocks));
            }
            return Next::Listen;
        }
        let is_open = |error: &RpcError<'_>| MAY_HAVE_COUNTED.contains(&error.code);
        let is_open = share.again && answer.result.as_ref().is_err_and(is_open);
        let reason = reason(answer);
        if is_open {
            tally.unanswered += 1;
        } else {
            *tally.rejected.entry(reason.clone()).or_default() += 1;
        }
        if share.found.is_block && self.solved == Some(share.job.prev_hash) {
            self.solved = None;
            return Next::Assign(self.assignment());
        }
        if is_open { Next::Listen } else { Next::Say(format!("rejected: {reason}")) }
    }

    fn subscribe(&mut self, out: &mut Vec<u8>) {
        let id = self.expect(Request::Subscribe);
        write::subscribe(out, id, AGENT, self.sid.as_deref());
    }

    fn send(&mut self, share: Submitted, out: &mut Vec<u8>) {
        let found = &share.found;
        let params = SubmitParams {
            user: &self.user,
            job: &share.job.assignment.work.job_id,
            nonce2: found.nonce2,
            ntime: found.ntime,
            nonce: found.nonce,
            version_bits: (share.job.assignment.version_mask != 0).then_some(found.version_bits),
        };
        write::submit(out, self.next_id, &params);
        self.expect(Request::Submit(share));
    }

    fn expect(&mut self, request: Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, request);
        id
    }
}

fn reason(answer: &Answer<'_>) -> String {
    match &answer.result {
        Ok(result) => format!("answered {result}"),
        Err(error) => format!("{} {}", error.code, error.message),
    }
}

#[cfg(test)]
mod tests;
