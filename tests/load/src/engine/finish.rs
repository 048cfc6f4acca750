//! The end of a run: what is open is settled, and the counters become a report.

use std::cmp::Reverse;

use anyhow::{Context, bail};

use super::{Engine, Phase};
use crate::options::Rate;
use crate::report::{Report, Silence, Timing, WORST, missed, spread};
use crate::session::Session;
use crate::world::SECOND;

impl Engine<'_> {
    /// Closes everything and tells what was seen.
    pub(super) fn finish(mut self) -> anyhow::Result<Report> {
        let now = self.now();
        for index in 0..self.sessions.len() {
            self.sessions[index].finish(now);
        }
        let most_ready = self.world.stats.most_ready;
        let hopeless = self.world.too_difficult && self.world.stats.submitted == 0;
        for index in 0..self.sessions.len() {
            self.close(index);
        }
        self.publish();
        if let Some(account) = &mut self.world.account
            && let Err(error) = account.flush()
        {
            self.world.account_error.get_or_insert(error);
        }
        if let Some(error) = self.world.account_error.take() {
            return Err(error).context("accounting file");
        }
        if hopeless {
            bail!("the jobs are too difficult to find shares for: ask with --difficulty");
        }

        let mut silence = Timing::default();
        for session in &self.sessions {
            if session.longest_wait_ns > 0 {
                silence.add_ns(session.longest_wait_ns);
            }
        }
        let mut worst: Vec<&Session> = self.sessions.iter().collect();
        worst.sort_by_key(|session| Reverse(session.longest_wait_ns));
        let (from, stopped) = match self.phase {
            Phase::Draining { from, stopped, .. } => (from, stopped),
            Phase::Working { from, .. } => (from, now),
            Phase::Joining { .. } => (now, now),
        };
        let secs = (stopped - from) as f64 / SECOND as f64;
        let since = |at: u64| at.saturating_sub(from) as f64 / SECOND as f64;
        let worst = worst.iter().take(WORST).filter(|session| session.longest_wait_ns > 0);
        let worst = worst.map(|session| Silence {
            session: session.index,
            ms: session.longest_wait_ns as f64 / 1e6,
            ended_secs: since(session.longest_wait_end_ns),
        });
        let worst = worst.collect();
        let stats = self.world.stats;
        Ok(Report {
            sessions: self.world.options.sessions,
            ready: most_ready,
            rate: match self.world.options.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            secs,
            connect: stats.connect.latency(),
            subscribe: stats.subscribe.latency(),
            join: stats.join.latency(),
            work: stats.work.latency(),
            submit: stats.submit.latency(),
            late: stats.late.latency(),
            submitted: stats.submitted,
            accepted: stats.accepted,
            accepted_per_sec: if secs > 0.0 { stats.accepted as f64 / secs } else { 0.0 },
            rejected: stats.rejected,
            unanswered: stats.unanswered,
            unexpected_answers: stats.unexpected_answers,
            out_of_order: stats.out_of_order,
            skipped: stats.skipped,
            drops: stats.drops,
            connect_failures: stats.connect_failures,
            reconnect_requests: stats.reconnect_requests,
            messages: stats.messages,
            refused_logins: stats.refused_logins,
            bad_lines: stats.bad_lines,
            resumed: stats.resumed,
            not_resumed: stats.not_resumed,
            slow_dropped: stats.slow_dropped,
            silence: silence.latency(),
            worst,
            job_spread: spread(&self.world.jobs.jobs),
            tip_spread: spread(&self.world.jobs.tips),
            tips_missed: missed(&self.world.jobs.tips),
            jobs: self.world.jobs.jobs.len() as u64,
            tips: self.world.jobs.tips.len() as u64,
            hashes: stats.hashes,
            generator_cpu_secs: thread_cpu_secs(),
            timeline: stats.timeline,
        })
    }
}

/// Processor time of this thread, by the kernel's ticks of 10 ms.
fn thread_cpu_secs() -> f64 {
    const TICKS_PER_SEC: f64 = 100.0;

    let read = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
        // Behind the name, which may hold anything: state is the first, utime the 12th field.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11);
        let user: f64 = times.next()?.parse().ok()?;
        let system: f64 = times.next()?.parse().ok()?;
        Some((user + system) / TICKS_PER_SEC)
    };
    read().unwrap_or(0.0)
}
