//! A pool without Bitcoin Core, cluster or clock, for tests of sessions and connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use seam_cluster::ledger::{Share as LedgerShare, ShareOutcome, UserId};
use seam_cluster::{Completion, Full, Unavailable};
use seam_stratum::job::{Job, JobParams, Payout, Template};
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::{Difficulty, Extranonce1, JobId, Nonce2, SidKey, Target};

use crate::auth::Gate;
use crate::clock::Clock;
use crate::config::{Authorization, Config, Limits};
use crate::jobs::{Contents, Entry, Jobs};
use crate::ledger::{Ledger, LoginDone, UserDone};
use crate::limits::Addresses;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::pool::{self, Pool, Settings};
use crate::registry::Registry;
use crate::secret::Secret;
use crate::session::{BlockFate, Event, Inbox, LoginResult, Reply, Solved};

/// A share, and whom to answer.
pub(crate) type Submitted = (LedgerShare, Arc<dyn Completion>, u64);

/// A ledger that a test plays.
#[derive(Default)]
pub(crate) struct FakeLedger {
    pub(crate) submitted: Mutex<Vec<Submitted>>,
    pub(crate) is_full: Mutex<bool>,
    /// Logins wait here instead of being answered at once.
    pub(crate) holds_logins: Mutex<bool>,
    pub(crate) held: Mutex<Vec<LoginDone>>,
    pub(crate) added: Mutex<Vec<(String, String)>>,
}

impl FakeLedger {
    /// Answers all shares that wait.
    pub(crate) fn commit(&self, outcome: Result<ShareOutcome, Unavailable>) {
        for (_, completion, token) in self.submitted.lock().drain(..) {
            completion.complete(token, outcome);
            completion.flush();
        }
    }
}

impl Ledger for FakeLedger {
    fn submit(
        &self,
        share: LedgerShare,
        completion: Arc<dyn Completion>,
        token: u64,
    ) -> Result<(), Full> {
        if *self.is_full.lock() {
            return Err(Full);
        }
        self.submitted.lock().push((share, completion, token));
        Ok(())
    }

    fn login(&self, user: &str, password: &str, done: LoginDone) {
        if *self.holds_logins.lock() {
            return self.held.lock().push(done);
        }
        done(match (user, password) {
            ("alice", "secret") => LoginResult::Accepted(UserId(1)),
            ("bob", "secret") => LoginResult::Accepted(UserId(2)),
            ("nobody-home", _) => LoginResult::Unavailable,
            _ => LoginResult::Refused,
        });
    }

    fn ensure_user(&self, _user: &str, done: LoginDone) {
        done(LoginResult::Accepted(UserId(9)));
    }

    fn add_user(&self, user: &str, password: &str, done: UserDone) {
        self.added.lock().push((user.to_owned(), password.to_owned()));
        done(if user == "alice" { Err("a user of that name exists".into()) } else { Ok(()) });
    }
}

/// Keeps what sessions solve.
#[derive(Default)]
pub(crate) struct FakeSolver {
    pub(crate) solved: Mutex<Vec<(Solved, Reply)>>,
}

impl FakeSolver {
    pub(crate) fn judge(&self, fate: &BlockFate) {
        for (_, reply) in self.solved.lock().drain(..) {
            reply.send(Event::Block(fate.clone()));
        }
    }
}

impl pool::Solver for FakeSolver {
    fn solved(&self, solved: Solved, reply: Reply) {
        self.solved.lock().push((solved, reply));
    }
}

/// Keeps what is posted.
#[derive(Default)]
pub(crate) struct FakeInbox {
    pub(crate) events: Mutex<Vec<(u64, Event)>>,
}

impl Completion for FakeInbox {
    fn complete(&self, token: u64, answer: Result<ShareOutcome, Unavailable>) {
        self.events.lock().push((token, Event::Share(answer)));
    }
}

impl Inbox for FakeInbox {
    fn post(&self, token: u64, event: Event) {
        self.events.lock().push((token, event));
    }
}

struct Nothing;

impl Contents for Nothing {
    fn transactions(&self) -> Option<Vec<Bytes>> {
        Some(Vec::new())
    }

    fn txids(&self) -> Vec<[u8; 32]> {
        vec![[7; 32]]
    }
}

/// A pool and everything that a test turns.
pub(crate) struct World {
    pub(crate) pool: Arc<Pool>,
    pub(crate) ledger: Arc<FakeLedger>,
    pub(crate) solver: Arc<FakeSolver>,
    pub(crate) clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Authorization::Registered, |_| {})
    }

    pub(crate) fn with(mode: Authorization, change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Clock::manual(NOW_MILLIS), mode, change)
    }

    pub(crate) fn on(clock: Clock, mode: Authorization, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.difficulty.start = START;
        config.difficulty.minimum = 1e-10;
        config.limits = Limits { refused_login_delay_ms: 0, ..Limits::default() };
        change(&mut config);
        let limits = config.limits.clone();
        let metrics = Arc::new(Metrics::new());
        let ledger = Arc::new(FakeLedger::default());
        let solver = Arc::new(FakeSolver::default());
        let registry = Registry::new(limits.parked_sessions, limits.parked_seconds, clock.clone());
        registry.set_sid_key(SidKey([3; 32]));
        registry.add_numbers(0x0100_0000..0x0100_8000);
        let pool = Arc::new(Pool {
            settings: Settings::new(&config),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            jobs: Arc::new(Jobs::new()),
            gate: Gate::new(
                Arc::clone(&ledger) as _,
                mode,
                bitcoin::Network::Regtest,
                Some(Secret::new("master")),
                Duration::from_millis(limits.refused_login_delay_ms),
            ),
            ledger: Arc::clone(&ledger) as _,
            solver: Arc::clone(&solver) as _,
            registry,
            addresses: Arc::new(Addresses::new(limits, clock.clone(), metrics)),
            links: Links::default(),
        });
        Self { pool, ledger, solver, clock }
    }

    /// Publishes a job.
    pub(crate) fn publish(&self, counter: u32, height: u32, nbits: u32) -> Arc<Entry> {
        let entry = self.entry(LEASE, counter, height, nbits);
        self.pool.jobs.set_tip_height(height - 1, self.clock.unix_seconds());
        self.pool.jobs.publish(Arc::clone(&entry), self.clock.unix_seconds());
        entry
    }

    pub(crate) fn entry(&self, lease: u32, counter: u32, height: u32, nbits: u32) -> Arc<Entry> {
        let template = Template {
            height,
            version: 0x3000_0000,
            prev_hash: [height as u8; 32],
            nbits,
            ntime: self.clock.unix_seconds(),
            min_ntime: self.clock.unix_seconds() - 600,
            coinbase_value: 5_000_000_000,
            witness_commitment: None,
            merkle_branch: Vec::new(),
            transaction_count: 0,
        };
        let params = JobParams {
            id: JobId::new(lease, counter).unwrap(),
            payout: &Payout::to_script(vec![0x51]),
            tag: b"/test/",
            nonce2_len: self.pool.settings.nonce2_len,
            version_mask: self.pool.settings.version_mask,
            clean: true,
            created_at: u64::from(self.clock.unix_seconds()),
        };
        let job = Job::assemble(&template, &params).unwrap();
        Arc::new(Entry::new(job, Box::new(Nothing)))
    }
}

/// Which nonce is looked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// Meets the difficulty.
    Good,
    /// Does not.
    Bad,
    /// Solves a block.
    Block,
}

/// Finds a nonce from `from` on.
pub(crate) fn grind(
    job: &Job,
    extranonce1: Extranonce1,
    difficulty: f64,
    bits: u32,
    from: u32,
    wanted: Wanted,
) -> u32 {
    let target = Difficulty::new(difficulty).map_or(Target::MAX, |d| d.target());
    let rules = Rules { version_mask: 0x1fff_e000, max_ntime: u32::MAX, target };
    (from..)
        .find(|nonce| {
            let share = Share {
                extranonce1,
                nonce2: Nonce2::from_counter(0, job.nonce2_len),
                ntime: job.ntime,
                nonce: *nonce,
                version_bits: bits,
            };
            let verdict = verify(job, &share, &rules).unwrap();
            match wanted {
                Wanted::Good => verdict.meets_target && !verdict.solves_block,
                Wanted::Bad => !verdict.meets_target && !verdict.solves_block,
                Wanted::Block => verdict.solves_block,
            }
        })
        .unwrap()
}

/// Difficulty 1e-9: one hash in four is a share.
pub(crate) const START: f64 = 1e-9;

/// No hash of a test solves a block.
pub(crate) const HARD: u32 = 0x1d00_ffff;

/// Every other hash does.
pub(crate) const EASY: u32 = 0x207f_ffff;

/// Jobs of this node.
pub(crate) const LEASE: u32 = 5;

const NOW_MILLIS: u64 = 1_790_000_000_000;
