//! Jobs as sessions get them: parsed once however many get the same line, and timed.

use std::collections::VecDeque;
use std::rc::Rc;

use seam_stratum::client::{Notify, Work};

/// Lines that are remembered to recognise them: a few nodes with a few jobs each.
const REMEMBERED: usize = 32;

/// Jobs and tips that are timed in one run.
const MAX_TIMED: usize = 100_000;

/// A job that any number of sessions work on.
pub(crate) struct Shared {
    pub(crate) work: Work,
    line: Vec<u8>,
    job: usize,
    tip: usize,
}

/// From first to last session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// Sessions that were ready when the first one got it.
    pub(crate) expected: u32,
    /// Those of them that got it.
    pub(crate) sessions: u32,
}

/// The jobs of a run.
#[derive(Default)]
pub(crate) struct Jobs {
    recent: VecDeque<Rc<Shared>>,
    pub(crate) jobs: Vec<Spread>,
    pub(crate) tips: Vec<Spread>,
    last_tips: VecDeque<([u8; 32], usize)>,
}

impl Jobs {
    /// The job of this line, if a session got it before.
    pub(crate) fn recognise(&self, line: &[u8]) -> Option<Rc<Shared>> {
        self.recent.iter().find(|job| job.line == line).cloned()
    }

    /// A job that is new to all sessions.
    pub(crate) fn learn(
        &mut self,
        line: &[u8],
        notify: Notify<'_>,
        now_ns: u64,
        ready: u32,
    ) -> Rc<Shared> {
        let spread = Spread { first_ns: now_ns, last_ns: now_ns, expected: ready, sessions: 0 };
        let tip = match self.last_tips.iter().find(|(hash, _)| *hash == notify.prev_hash) {
            Some((_, tip)) => *tip,
            None => {
                let tip = push_bounded(&mut self.tips, spread);
                self.last_tips.push_front((notify.prev_hash, tip));
                self.last_tips.truncate(REMEMBERED);
                tip
            }
        };
        let job = push_bounded(&mut self.jobs, spread);
        let shared = Rc::new(Shared { work: Work::new(notify), line: line.to_vec(), job, tip });
        self.recent.push_front(Rc::clone(&shared));
        self.recent.truncate(REMEMBERED);
        shared
    }

    /// A session that has been ready since `since_ns`, and has seen `seen`, got `job`.
    pub(crate) fn arrived(
        &mut self,
        job: &Rc<Shared>,
        seen: &mut Seen,
        since_ns: Option<u64>,
        now_ns: u64,
    ) {
        let timed = |spread: Option<&mut Spread>| {
            // Who joined later gets the job then: that says nothing about the server's speed.
            if let Some(spread) = spread
                && since_ns.is_some_and(|since| since < spread.first_ns)
            {
                spread.last_ns = now_ns;
                spread.sessions += 1;
            }
        };
        // Sent again, or from a node that is behind: not the first time.
        if seen.jobs <= job.job {
            seen.jobs = job.job + 1;
            timed(self.jobs.get_mut(job.job));
        }
        if seen.tips <= job.tip {
            seen.tips = job.tip + 1;
            timed(self.tips.get_mut(job.tip));
        }
    }
}

/// How many of the run's jobs and tips, in the order in which they came up, are behind a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    jobs: usize,
    tips: usize,
}

/// The index of the new element, or one past the end when the list is full.
fn push_bounded(list: &mut Vec<Spread>, spread: Spread) -> usize {
    let index = list.len();
    if index < MAX_TIMED {
        list.push(spread);
    }
    index
}
