//! `mining.submit`: from a line to the ledger and back.

use std::sync::Arc;

use seam_cluster::ledger::{Share as LedgerShare, ShareOutcome, UserId};
use seam_cluster::{Completion, Full, Unavailable};
use seam_stratum::job::Job;
use seam_stratum::login::split_worker;
use seam_stratum::message::{Id, Submit};
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::{Reject, Target, write};

use super::answers::{PendingShare, Wait};
use super::event::BlockFate;
use super::{Next, Session, seen};
use crate::jobs::Entry;
use crate::limits::score;
use crate::metrics::ShareAnswer;
use crate::pool::Pool;

/// A share whose header is a block.
pub struct Solved {
    /// The job it solves.
    pub job: Arc<Entry>,
    /// What the miner found.
    pub share: Share,
    /// The block's header.
    pub header: [u8; 80],
    /// Its hash.
    pub hash: [u8; 32],
    /// What the ledger counts for it, unless the share was refused.
    pub credit: Option<LedgerShare>,
    /// Who found it.
    pub user: UserId,
    /// His name, for the log.
    pub user_name: Box<str>,
}

/// A share that waits for room in the ledger's queue.
pub(super) struct Blocked {
    share: LedgerShare,
    sequence: u32,
    since: u64,
}

impl Session {
    pub(super) fn submit(
        &mut self,
        pool: &Pool,
        id: Id<'_>,
        submit: &Submit<'_>,
        replay: bool,
        out: &mut Vec<u8>,
    ) -> Next {
        let arrived = pool.clock.monotonic_micros();
        let (name, _worker) = split_worker(&submit.user);
        let (Some(extranonce1), true) = (self.extranonce1, self.subscribed) else {
            return self.refuse(pool, id, ShareAnswer::NotSubscribed, &Reject::NotSubscribed, out);
        };
        let Some(user) = self.users.iter().find(|user| *user.name == *name).cloned() else {
            return self.refuse(pool, id, ShareAnswer::Unauthorized, &Reject::Unauthorized, out);
        };
        let Some(job) = pool.jobs.find(submit.job) else {
            return self.refuse(pool, id, ShareAnswer::Stale, &Reject::JobNotFound, out);
        };
        let difficulty = self.difficulty.of_job(job.id());
        let rules = Rules {
            version_mask: self.version_mask.unwrap_or(0),
            max_ntime: Job::max_ntime(u64::from(pool.clock.unix_seconds())),
            target: difficulty.map_or(Target::MAX, |difficulty| difficulty.target()),
        };
        let share = Share {
            extranonce1,
            nonce2: submit.nonce2,
            ntime: submit.ntime,
            nonce: submit.nonce,
            version_bits: submit.version_bits.unwrap_or(0),
        };
        let started = pool.clock.monotonic_nanos();
        let verdict = match verify(&job.job, &share, &rules) {
            Ok(verdict) => verdict,
            Err(reject) => {
                self.refuse(pool, id, kind_of(&reject), &reject, out);
                return self.offend(pool, score::INVALID_SHARE);
            }
        };
        let took = pool.clock.monotonic_nanos().saturating_sub(started);
        pool.metrics.share_verify_seconds.observe(took as f64 / 1e9);

        let refusal = if pool.jobs.is_stale(&job) {
            Some((ShareAnswer::Stale, Reject::Stale, score::NONE))
        } else if difficulty.is_none() {
            Some((ShareAnswer::Stale, Reject::JobNotFound, score::NONE))
        } else if !verdict.meets_target && !verdict.solves_block {
            Some((ShareAnswer::LowDifficulty, Reject::HighHash, score::LOW_DIFFICULTY))
        } else if !self.seen.insert(&verdict.hash) && !replay {
            Some((ShareAnswer::Duplicate, Reject::Duplicate, score::DUPLICATE))
        } else {
            None
        };
        if let (Some((kind, reject, offence)), false) = (&refusal, verdict.solves_block) {
            self.refuse(pool, id, *kind, reject, out);
            return self.offend(pool, *offence);
        }

        // Where the network asks for less than we do, a block is worth what it took to find.
        let target = if verdict.meets_target { rules.target } else { job.job.network_target() };
        let work = u64::try_from(target.expected_hashes()).unwrap_or(u64::MAX);
        let pending = PendingShare {
            seen: seen::key(&verdict.hash),
            work,
            arrived,
            verdict: refusal.as_ref().map(|(kind, reject, _)| {
                pool.metrics.share(*kind);
                Err(reject.clone())
            }),
            block: verdict.solves_block.then_some(None),
        };
        let sequence = self.answers.push(id, Wait::Share(pending));
        let credit = LedgerShare {
            session: extranonce1.0,
            user: user.id,
            work,
            hash16: hash16(&verdict.hash),
            job_time: u32::try_from(job.job.created_at).unwrap_or(u32::MAX),
            time: pool.clock.unix_seconds(),
        };
        if verdict.solves_block {
            let solved = Solved {
                job: Arc::clone(&job),
                share,
                header: verdict.header,
                hash: verdict.hash,
                credit: refusal.is_none().then_some(credit),
                user: user.id,
                user_name: user.name.clone(),
            };
            // The block goes to Core at once, whatever becomes of the share.
            pool.solver.solved(solved, self.reply(sequence));
        }
        if refusal.is_some() {
            return Next::Go;
        }
        if let (Some(difficulty), false) = (difficulty, replay) {
            self.difficulty.on_share(&pool.settings, difficulty, arrived / 1_000);
        }
        if self.propose(pool, credit, sequence).is_err() {
            self.blocked =
                Some(Box::new(Blocked { share: credit, sequence, since: arrived / 1_000 }));
            return Next::Hold;
        }
        Next::Go
    }

    /// The ledger judged a share, or could not.
    pub(super) fn share_done(
        &mut self,
        pool: &Pool,
        sequence: u32,
        outcome: Result<ShareOutcome, Unavailable>,
        out: &mut Vec<u8>,
    ) -> Next {
        let (kind, verdict) = match outcome {
            Ok(ShareOutcome::Counted) => (ShareAnswer::Credited, Ok(ShareAnswer::Credited)),
            Ok(ShareOutcome::Replayed) => (ShareAnswer::Replayed, Ok(ShareAnswer::Replayed)),
            Ok(ShareOutcome::Duplicate) => (ShareAnswer::Duplicate, Err(Reject::Duplicate)),
            Ok(ShareOutcome::Expired) => (ShareAnswer::Expired, Err(Reject::Stale)),
            Ok(ShareOutcome::UnknownUser) => (ShareAnswer::Unauthorized, Err(Reject::Unauthorized)),
            Err(Unavailable) => (ShareAnswer::NoQuorum, Err(Reject::other(NO_QUORUM))),
        };
        self.judge(pool, sequence, kind, verdict);
        self.flush(pool, out);
        Next::Go
    }

    /// Core judged the block that a share solved.
    pub(super) fn block_done(
        &mut self,
        pool: &Pool,
        sequence: u32,
        fate: BlockFate,
        out: &mut Vec<u8>,
    ) -> Next {
        if let Some(pending) = self.answers.get(sequence)
            && let Wait::Share(share) = &mut pending.wait
        {
            share.block = Some(Some(fate));
        }
        self.flush(pool, out);
        Next::Go
    }

    /// Tries to hand over the share that waits for room; gives up on it after a while.
    pub(super) fn retry_blocked(&mut self, pool: &Pool, out: &mut Vec<u8>) {
        let Some(blocked) = self.blocked.take() else { return };
        if self.propose(pool, blocked.share, blocked.sequence).is_ok() {
            return;
        }
        let waited = pool.clock.monotonic_millis().saturating_sub(blocked.since);
        if waited < pool.settings.commit_wait_millis {
            self.blocked = Some(blocked);
            return;
        }
        let reject = Err(Reject::other(BUSY));
        self.judge(pool, blocked.sequence, ShareAnswer::Busy, reject);
        self.flush(pool, out);
    }

    fn propose(&self, pool: &Pool, share: LedgerShare, sequence: u32) -> Result<(), Full> {
        let completion: Arc<dyn Completion> = Arc::clone(&self.inbox) as Arc<dyn Completion>;
        pool.ledger.submit(share, completion, self.token(sequence))
    }

    fn judge(
        &mut self,
        pool: &Pool,
        sequence: u32,
        kind: ShareAnswer,
        verdict: Result<ShareAnswer, Reject>,
    ) {
        let Some(pending) = self.answers.get(sequence) else { return };
        let Wait::Share(share) = &mut pending.wait else { return };
        pool.metrics.share(kind);
        match kind {
            ShareAnswer::Credited => {
                pool.metrics.share_work.inc_by(share.work);
            }
            // It may be sent again: nothing was counted, or nobody knows.
            ShareAnswer::NoQuorum | ShareAnswer::Busy => self.seen.remove(share.seen),
            _ => {}
        }
        share.verdict = Some(verdict);
    }

    fn refuse(
        &mut self,
        pool: &Pool,
        id: Id<'_>,
        kind: ShareAnswer,
        reject: &Reject,
        out: &mut Vec<u8>,
    ) -> Next {
        pool.metrics.share(kind);
        self.answers.reject(out, id, reject);
        Next::Go
    }
}

/// The answer of a decided share; what became of its block stands behind what miners read.
pub(super) fn write_share(pool: &Pool, out: &mut Vec<u8>, id: Id<'_>, share: &PendingShare) {
    match &share.verdict {
        Some(Err(reject)) => write::reject(out, id, reject),
        _ => write::result_bool(out, id, true),
    }
    if let Some(Some(fate)) = &share.block {
        out.truncate(out.len() - LINE_END.len());
        out.extend_from_slice(format!(",\"block\":\"{}\"", fate.word()).as_bytes());
        out.extend_from_slice(LINE_END);
    }
    let took = pool.clock.monotonic_micros().saturating_sub(share.arrived);
    pool.metrics.submit_seconds.observe(took as f64 / 1e6);
}

/// The random end of a header hash, as the ledger keeps it.
fn hash16(hash: &[u8; 32]) -> [u8; 16] {
    let mut end = [0; 16];
    end.copy_from_slice(&hash[..16]);
    end
}

fn kind_of(reject: &Reject) -> ShareAnswer {
    if *reject == Reject::VERSION_BITS {
        ShareAnswer::Version
    } else if *reject == Reject::TIME_TOO_OLD || *reject == Reject::TIME_TOO_NEW {
        ShareAnswer::Time
    } else {
        ShareAnswer::Malformed
    }
}

/// How every answer ends.
const LINE_END: &[u8] = b"}\n";

/// A commit that was not seen in time may have happened all the same.
const NO_QUORUM: &str = "no quorum in time: it is not known whether the share was counted";

const BUSY: &str = "busy: the share was not counted";
