//! What was measured.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::jobs::Spread;

/// The result of a run. Times are in milliseconds unless their name says otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Sessions asked for.
    pub sessions: u32,
    /// Sessions that were ready at the same time at some moment.
    pub ready: u32,
    /// Shares a second that were asked for; absent for `max`.
    pub rate: Option<f64>,
    /// Seconds over which shares were due.
    pub secs: f64,
    /// TCP connect.
    pub connect: Latency,
    /// `mining.subscribe` sent → its answer read.
    pub subscribe: Latency,
    /// Connection due → answer to subscribe read, schedule and TCP included.
    pub join: Latency,
    /// Connection due → authorized, with a job.
    pub work: Latency,
    /// Share due → its answer read, whatever it was.
    pub submit: Latency,
    /// Share due → written: how late the generator itself was.
    pub late: Latency,
    /// Submits written.
    pub submitted: u64,
    /// Answered `true`.
    pub accepted: u64,
    /// Accepted shares a second.
    pub accepted_per_sec: f64,
    /// Other answers, by code and message.
    pub rejected: BTreeMap<String, u64>,
    /// Submits whose connection closed, or whose run ended, without an answer.
    pub unanswered: u64,
    /// Answers to nothing: a submit answered twice, or never sent.
    pub unexpected_answers: u64,
    /// Answers that came before one to an earlier submit of their session.
    pub out_of_order: u64,
    /// Shares that were due when no session could take them.
    pub skipped: u64,
    /// Connections the server closed or reset.
    pub drops: u64,
    /// Connections that were refused or timed out.
    pub connect_failures: u64,
    /// `client.reconnect` received.
    pub reconnect_requests: u64,
    /// `client.show_message` received.
    pub messages: u64,
    /// `mining.authorize` not answered `true`.
    pub refused_logins: u64,
    /// Lines that no stratum server sends.
    pub bad_lines: u64,
    /// Reconnects that got their extranonce1 back.
    pub resumed: u64,
    /// Reconnects that asked for it and did not.
    pub not_resumed: u64,
    /// Sessions that did not read, and were dropped for it.
    pub slow_dropped: u64,
    /// For each session the longest time that a submit was outstanding and no answer came.
    pub silence: Latency,
    /// The sessions whose silence was longest, the worst first.
    pub worst: Vec<Silence>,
    /// First → last session, each job that was sent to at least nine in ten of the sessions ready.
    pub job_spread: Latency,
    /// First → last session, each new previous block.
    pub tip_spread: Latency,
    /// Over all new previous blocks: sessions that were ready, and did not get it.
    pub tips_missed: u64,
    /// Jobs seen.
    pub jobs: u64,
    /// Previous blocks seen.
    pub tips: u64,
    /// Hashes computed to find the shares.
    pub hashes: u64,
    /// Processor time of the generator's thread, seconds.
    pub generator_cpu_secs: f64,
    /// What happened in each second.
    pub timeline: Vec<Second>,
}

/// One second of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Second {
    /// Submits written.
    pub submitted: u64,
    /// Answered `true`.
    pub accepted: u64,
    /// Answered otherwise.
    pub rejected: u64,
    /// Sessions ready at its end.
    pub ready: u32,
    /// The longest submit latency among its answers, milliseconds.
    pub max_ms: f64,
}

/// The longest silence of a session.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Silence {
    /// Number of the session.
    pub session: u32,
    /// How long, milliseconds.
    pub ms: f64,
    /// When it was over, in seconds since the first share was due.
    pub ended_secs: f64,
}

/// Sessions that [`Report::worst`] lists.
pub(crate) const WORST: usize = 10;

/// Percentiles of a latency, in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Latency {
    /// Values measured.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90%.
    pub p90: f64,
    /// 99%.
    pub p99: f64,
    /// 99.9%.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Report {
    /// All answers that were neither `true` nor missing.
    pub fn rejections(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// A histogram of nanoseconds, kept in microseconds: 1 µs to an hour, to three digits.
pub(crate) struct Timing(Histogram<u64>);

impl Timing {
    const HIGHEST_US: u64 = 3_600_000_000;

    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::HIGHEST_US, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are valid"));
        Self(histogram)
    }

    pub(crate) fn add_ns(&mut self, ns: u64) {
        self.0.saturating_record((ns / 1000).clamp(1, Self::HIGHEST_US));
    }

    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        if self.0.is_empty() {
            return Latency::default();
        }
        Latency {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1000.0,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new()
    }
}

/// The spreads of what went to nearly all sessions, to more than one.
pub(crate) fn spread(list: &[Spread]) -> Latency {
    let mut timing = Timing::default();
    for spread in list {
        if spread.expected > 1 && spread.sessions * 10 >= spread.expected * 9 {
            timing.add_ns(spread.last_ns - spread.first_ns);
        }
    }
    timing.latency()
}

/// Sessions that did not get what others got.
pub(crate) fn missed(list: &[Spread]) -> u64 {
    list.iter().map(|spread| u64::from(spread.expected.saturating_sub(spread.sessions))).sum()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22}{:>9}{:>10}{:>10}{:>10}{:>10}",
            "ms", "count", "p50", "p90", "p99", "max"
        )?;
        for (name, latency) in [
            ("connect", &self.connect),
            ("subscribe", &self.subscribe),
            ("join", &self.join),
            ("ready to work", &self.work),
            ("submit, from due", &self.submit),
            ("generator late", &self.late),
            ("silence, per session", &self.silence),
            ("notify spread, job", &self.job_spread),
            ("notify spread, tip", &self.tip_spread),
        ] {
            let Latency { count, p50, p90, p99, max, .. } = latency;
            writeln!(f, "{name:<22}{count:>9}{p50:>10.3}{p90:>10.3}{p99:>10.3}{max:>10.3}")?;
        }
        writeln!(
            f,
            "sessions {}/{}, drops {}, connect failures {}, resumed {}/{}, slow dropped {}",
            self.ready,
            self.sessions,
            self.drops,
            self.connect_failures,
            self.resumed,
            self.resumed + self.not_resumed,
            self.slow_dropped
        )?;
        writeln!(
            f,
            "shares submitted {}, accepted {} ({:.0}/s), unanswered {}, skipped {}, out of order {}, unexpected answers {}",
            self.submitted,
            self.accepted,
            self.accepted_per_sec,
            self.unanswered,
            self.skipped,
            self.out_of_order,
            self.unexpected_answers
        )?;
        for (reason, count) in &self.rejected {
            writeln!(f, "rejected {count}: {reason}")?;
        }
        write!(
            f,
            "generator {:.2} s of processor in {:.2} s, {} hashes",
            self.generator_cpu_secs, self.secs, self.hashes
        )
    }
}
