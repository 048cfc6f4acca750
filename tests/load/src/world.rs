//! What all sessions of a run share: the jobs, the counters, the account, who is ready.

use std::collections::BTreeMap;

use crate::account::{Account, Entry, Fate};
use crate::jobs::Jobs;
use crate::options::Options;
use crate::report::{Second, Timing};
use crate::session::{Pending, Session};

/// Nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Reports keep this many seconds of timeline.
const MAX_TIMELINE: usize = 100_000;

/// What all sessions share.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) jobs: Jobs,
    pub(crate) stats: Stats,
    pub(crate) ready: ReadySet,
    /// Sessions told to reconnect, and after how many seconds.
    pub(crate) reconnect_requests: Vec<(u32, u32)>,
    pub(crate) account: Option<Account>,
    pub(crate) account_error: Option<std::io::Error>,
    /// Unix time of the clock's zero, milliseconds.
    pub(crate) epoch_unix_ms: u64,
    /// Slow sessions that have stopped reading.
    pub(crate) asleep: u32,
    pub(crate) outstanding: u64,
    /// Whether no shares are to be found, so that any job is work.
    pub(crate) any_difficulty: bool,
    /// Whether a session got a job it could not find shares for.
    pub(crate) too_difficult: bool,
}

impl World {
    /// Counts a session that can work from now on.
    pub(crate) fn check_ready(&mut self, session: &mut Session, now_ns: u64) {
        if session.ready_ns.is_some() || !session.has_work(self.any_difficulty) {
            self.too_difficult |= session.has_work(true) && !session.has_work(self.any_difficulty);
            return;
        }
        session.ready_ns = Some(now_ns);
        self.stats.work.add_ns(now_ns.saturating_sub(session.due_ns));
        if session.slow {
            self.asleep += 1;
        } else {
            self.ready.insert(session.index);
        }
        self.stats.most_ready = self.stats.most_ready.max(self.ready.len() + self.asleep);
    }

    /// Counts an answer to a submit.
    pub(crate) fn answered(
        &mut self,
        session: &Session,
        pending: &Pending,
        fate: Fate,
        reason: impl FnOnce() -> String,
        now_ns: u64,
    ) {
        self.outstanding -= 1;
        let latency = now_ns.saturating_sub(pending.due_ns);
        self.stats.submit.add_ns(latency);
        let ready = self.ready.len();
        let accepted = fate == Fate::Accepted;
        if accepted {
            self.stats.accepted += 1;
        } else {
            *self.stats.rejected.entry(reason()).or_default() += 1;
        }
        if let Some(second) = self.stats.second(now_ns) {
            second.accepted += u64::from(accepted);
            second.rejected += u64::from(!accepted);
            second.max_ms = second.max_ms.max(latency as f64 / 1e6);
            second.ready = ready;
        }
        self.record(session, pending, fate, now_ns);
    }

    /// Writes the fate of a submit down.
    pub(crate) fn record(&mut self, session: &Session, pending: &Pending, fate: Fate, now_ns: u64) {
        let Some(account) = &mut self.account else { return };
        let unix_ms = |ns: u64| self.epoch_unix_ms + ns / 1_000_000;
        let written = account.add(&Entry {
            hash: &pending.hash,
            user: &session.user,
            session: session.index,
            work: pending.work,
            fate,
            due_unix_ms: unix_ms(pending.due_ns),
            answered_unix_ms: unix_ms(now_ns),
        });
        if let Err(error) = written {
            // The run goes on; it is reported at its end.
            self.account = None;
            self.account_error = Some(error);
        }
    }
}

/// The sessions that can submit, for taking turns.
pub(crate) struct ReadySet {
    members: Vec<u32>,
    /// Where each session stands among the members.
    places: Vec<Option<u32>>,
}

impl ReadySet {
    pub(crate) fn new(sessions: u32) -> Self {
        Self { members: Vec::new(), places: vec![None; sessions as usize] }
    }

    pub(crate) fn len(&self) -> u32 {
        self.members.len() as u32
    }

    /// The session whose `turn` it is, taken in a circle.
    pub(crate) fn nth(&self, turn: usize) -> Option<u32> {
        self.members.get(turn % self.members.len().max(1)).copied()
    }

    pub(crate) fn insert(&mut self, session: u32) {
        let place = &mut self.places[session as usize];
        if place.is_none() {
            *place = Some(self.members.len() as u32);
            self.members.push(session);
        }
    }

    pub(crate) fn remove(&mut self, session: u32) {
        if let Some(place) = self.places[session as usize].take() {
            self.members.swap_remove(place as usize);
            if let Some(moved) = self.members.get(place as usize) {
                self.places[*moved as usize] = Some(place);
            }
        }
    }
}

/// What is counted while it runs.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) connect: Timing,
    pub(crate) subscribe: Timing,
    pub(crate) join: Timing,
    pub(crate) work: Timing,
    pub(crate) submit: Timing,
    pub(crate) late: Timing,
    pub(crate) submitted: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    pub(crate) unanswered: u64,
    pub(crate) unexpected_answers: u64,
    pub(crate) out_of_order: u64,
    pub(crate) skipped: u64,
    pub(crate) drops: u64,
    pub(crate) connect_failures: u64,
    pub(crate) reconnect_requests: u64,
    pub(crate) messages: u64,
    pub(crate) refused_logins: u64,
    pub(crate) bad_lines: u64,
    pub(crate) resumed: u64,
    pub(crate) not_resumed: u64,
    pub(crate) slow_dropped: u64,
    pub(crate) hashes: u64,
    pub(crate) notified: u64,
    pub(crate) most_ready: u32,
    pub(crate) from_ns: Option<u64>,
    pub(crate) timeline: Vec<Second>,
}

impl Stats {
    /// Counts a submit that was due at `due_ns`.
    pub(crate) fn submitted(&mut self, due_ns: u64) {
        self.submitted += 1;
        if let Some(second) = self.second(due_ns) {
            second.submitted += 1;
        }
    }

    /// The second of the timeline that holds `now_ns`.
    fn second(&mut self, now_ns: u64) -> Option<&mut Second> {
        let index = (now_ns.saturating_sub(self.from_ns?) / SECOND) as usize;
        if index >= MAX_TIMELINE {
            return None;
        }
        if self.timeline.len() <= index {
            self.timeline.resize_with(index + 1, Second::default);
        }
        self.timeline.get_mut(index)
    }
}
