//! A small pool to try the load generator on: correct unless it is told to misbehave.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seam_stratum::job::{JobParams, Payout, VERSION_ROLLING_MASK};
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::{
    Call, Difficulty, Extranonce1, Id, Incoming, Job, JobId, LineScanner, Reject, Sid, SidKey,
    Template, configure, login, write,
};

const KEY: SidKey = SidKey([7; 32]);

/// How the pool treats submits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    Correct,
    /// Answers every submit twice.
    AnswersTwice,
    /// Answers none.
    Silent,
    /// Answers only after so many milliseconds.
    Late(u64),
    /// Closes the connection at the n-th submit of it.
    DropsAt(u64),
}

/// What the pool holds.
pub(crate) struct Pool {
    pub(crate) address: String,
    manner: Manner,
    next_extranonce1: AtomicU32,
    next_job: AtomicU32,
    jobs: Mutex<HashMap<JobId, Arc<Job>>>,
    current: Mutex<Arc<Job>>,
    miners: Mutex<Vec<TcpStream>>,
    seen: Mutex<HashSet<[u8; 32]>>,
    /// Shares counted, by user.
    pub(crate) ledger: Mutex<HashMap<String, HashSet<[u8; 32]>>>,
    pub(crate) submits: AtomicU64,
}

impl Pool {
    pub(crate) fn start(manner: Manner) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = Arc::new(job(0, 1));
        let pool = Arc::new(Self {
            address: listener.local_addr().unwrap().to_string(),
            manner,
            next_extranonce1: AtomicU32::new(1),
            next_job: AtomicU32::new(1),
            jobs: Mutex::new(HashMap::from([(first.id, Arc::clone(&first))])),
            current: Mutex::new(first),
            miners: Mutex::default(),
            seen: Mutex::default(),
            ledger: Mutex::default(),
            submits: AtomicU64::new(0),
        });
        let serving = Arc::clone(&pool);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let pool = Arc::clone(&serving);
                std::thread::spawn(move || pool.serve(stream));
            }
        });
        pool
    }

    /// Sends everyone a job on a new previous block.
    pub(crate) fn new_tip(&self) {
        let number = self.next_job.fetch_add(1, Ordering::Relaxed);
        let job = Arc::new(job(number, number as u8 + 1));
        self.jobs.lock().unwrap().insert(job.id, Arc::clone(&job));
        *self.current.lock().unwrap() = Arc::clone(&job);
        let line = job.notify_line(true);
        self.miners.lock().unwrap().retain(|mut miner| miner.write_all(&line).is_ok());
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut miner = Session {
            extranonce1: Extranonce1(0),
            mask: 0,
            users: HashSet::new(),
            difficulty: Difficulty::ONE,
            submits: 0,
        };
        let (mut buffer, mut scanner) = (Vec::new(), LineScanner::default());
        let mut chunk = [0; 4096];
        loop {
            let len = stream.read(&mut chunk).ok().filter(|len| *len > 0)?;
            buffer.extend_from_slice(&chunk[..len]);
            let mut out = Vec::new();
            let mut at = 0;
            while let Some(found) = scanner.next(&buffer[at..]).unwrap() {
                at += found.consumed;
                let Ok(Incoming::Request(request)) = Incoming::parse(found.line) else {
                    panic!("{}", String::from_utf8_lossy(found.line));
                };
                self.call(&mut miner, request.id, request.call, &mut out, &stream)?;
            }
            buffer.drain(..at);
            stream.write_all(&out).ok()?;
        }
    }

    fn call(
        &self,
        miner: &mut Session,
        id: Id<'_>,
        call: Call<'_>,
        out: &mut Vec<u8>,
        stream: &TcpStream,
    ) -> Option<()> {
        match call {
            Call::Configure(request) => {
                let outcome = request.negotiate(&configure::Policy::default());
                miner.mask = outcome.version_mask.unwrap_or(0);
                outcome.write(out, id);
            }
            Call::Subscribe { sid, .. } => {
                miner.extranonce1 =
                    sid.and_then(|sid| Sid::verify(&KEY, &sid)).unwrap_or_else(|| {
                        Extranonce1(self.next_extranonce1.fetch_add(1, Ordering::Relaxed))
                    });
                write::subscribed(out, id, &Sid::mint(&KEY, miner.extranonce1), 8);
            }
            Call::Authorize { user, password } => {
                if let Some(difficulty) = login::Password::parse(&password).difficulty {
                    miner.difficulty = difficulty;
                }
                miner.users.insert(user.into_owned());
                write::result_bool(out, id, true);
                write::set_difficulty(out, miner.difficulty);
                out.extend_from_slice(&self.current.lock().unwrap().notify_line(true));
                self.miners.lock().unwrap().push(stream.try_clone().unwrap());
            }
            Call::SuggestDifficulty(difficulty) => {
                miner.difficulty = difficulty;
                write::result_bool(out, id, true);
            }
            Call::Submit(submit) => {
                self.submits.fetch_add(1, Ordering::Relaxed);
                miner.submits += 1;
                match self.manner {
                    Manner::Silent => return Some(()),
                    Manner::Late(ms) => std::thread::sleep(Duration::from_millis(ms)),
                    Manner::DropsAt(n) if miner.submits == n => {
                        stream.shutdown(std::net::Shutdown::Both).ok()?;
                        return None;
                    }
                    _ => {}
                }
                let verdict = self.judge(miner, &submit);
                for _ in 0..1 + u8::from(self.manner == Manner::AnswersTwice) {
                    match &verdict {
                        Ok(()) => write::result_bool(out, id, true),
                        Err(reason) => write::reject(out, id, reason),
                    }
                }
            }
            other => panic!("{other:?}"),
        }
        Some(())
    }

    fn judge(&self, miner: &Session, submit: &seam_stratum::Submit<'_>) -> Result<(), Reject> {
        if !miner.users.contains(&*submit.user) {
            return Err(Reject::Unauthorized);
        }
        let job = self.jobs.lock().unwrap().get(&submit.job).cloned().ok_or(Reject::JobNotFound)?;
        let share = Share {
            extranonce1: miner.extranonce1,
            nonce2: submit.nonce2,
            ntime: submit.ntime,
            nonce: submit.nonce,
            version_bits: submit.version_bits.unwrap_or(0),
        };
        let rules = Rules {
            version_mask: miner.mask,
            max_ntime: u32::MAX,
            target: miner.difficulty.target(),
        };
        let verdict = verify(&job, &share, &rules)?;
        if !verdict.meets_target {
            return Err(Reject::HighHash);
        }
        if !self.seen.lock().unwrap().insert(verdict.hash) {
            return Err(Reject::Duplicate);
        }
        let (user, _) = login::split_worker(&submit.user);
        self.ledger.lock().unwrap().entry(user.to_owned()).or_default().insert(verdict.hash);
        Ok(())
    }
}

struct Session {
    extranonce1: Extranonce1,
    mask: u32,
    users: HashSet<String>,
    difficulty: Difficulty,
    submits: u64,
}

fn job(number: u32, prev: u8) -> Job {
    let template = Template {
        height: 100,
        version: 0x2000_0000,
        prev_hash: [prev; 32],
        nbits: 0x1d00_ffff,
        ntime: 1_700_000_000,
        min_ntime: 1,
        coinbase_value: 5_000_000_000,
        witness_commitment: Some(vec![0x6a; 38]),
        merkle_branch: vec![[3; 32]; 4],
        transaction_count: 9,
    };
    let payout = Payout::to_script(vec![0x51]);
    let params = JobParams {
        id: JobId::new(1, number).unwrap(),
        payout: &payout,
        tag: b"/test/",
        nonce2_len: 8,
        version_mask: VERSION_ROLLING_MASK,
        clean: true,
        created_at: 0,
    };
    Job::assemble(&template, &params).unwrap()
}
