//! What to run.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use seam_stratum::Difficulty;

/// Drives a stratum server with many sessions and measures what they see.
#[derive(Debug, Clone, Parser)]
#[command(name = "seam-load", version)]
pub struct Options {
    /// The server, as host:port. More than one are taken in turn, and again in turn when a
    /// session reconnects.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub url: Vec<String>,
    /// Sessions to hold open.
    #[arg(long, default_value_t = 100)]
    pub sessions: u32,
    /// Seconds over which they connect, evenly; 0 is all at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub ramp: f64,
    /// Seconds to wait for all sessions to be ready before the shares start without the rest.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub ready_timeout: f64,
    /// Shares a second over all sessions, 0 for none, or `max`.
    #[arg(long, default_value = "100")]
    pub rate: Rate,
    /// With `--rate max`: submits each session keeps unanswered.
    #[arg(long, default_value_t = 8)]
    pub window: u32,
    /// Seconds to submit shares (or to stay connected), from when the sessions are ready.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 10.0)]
    pub secs: f64,
    /// Seconds to wait for the last answers.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub drain: f64,
    /// Name of the users: as it is for one, with a number from 0 appended for more.
    #[arg(long, default_value = "load")]
    pub user: String,
    /// Users, taken in turn by the sessions.
    #[arg(long, default_value_t = 1)]
    pub users: u32,
    /// Their password.
    #[arg(long, default_value = "x")]
    pub password: String,
    /// Share difficulty to ask for, as a `d=` option in the password.
    #[arg(long)]
    pub difficulty: Option<Difficulty>,
    /// Ask for the difficulty with mining.suggest_difficulty instead.
    #[arg(long)]
    pub suggest: bool,
    /// Negotiate version rolling, and roll.
    #[arg(long)]
    pub version_rolling: bool,
    /// Send the session id when reconnecting, to resume the session.
    #[arg(long)]
    pub resume: bool,
    /// Percentage of sessions that stop reading once they are ready.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub slow_percent: f64,
    /// Percentage of shares that are sent twice.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub duplicate_percent: f64,
    /// Every so many seconds some sessions disconnect and connect again at once; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub storm_every: f64,
    /// Percentage of the sessions that do.
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0)]
    pub storm_percent: f64,
    /// Milliseconds before a dropped session connects again.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    pub reconnect_ms: u64,
    /// Write the report there as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write every submit and its answer there as CSV.
    #[arg(long, value_name = "FILE")]
    pub accounting: Option<PathBuf>,
}

impl Options {
    /// The defaults, against one server.
    pub fn new(url: impl Into<String>) -> Self {
        Self::parse_from(["seam-load", "--url", &url.into()])
    }

    /// The name of a session's user, without worker.
    pub fn user_of(&self, session: u32) -> String {
        if self.users > 1 {
            format!("{}{}", self.user, session % self.users)
        } else {
            self.user.clone()
        }
    }

    /// Whether the session stops reading.
    pub(crate) fn is_slow(&self, session: u32) -> bool {
        spread_percent(session, self.slow_percent)
    }
}

/// Whether `index` is among `percent` of all indices, evenly spread.
pub(crate) fn spread_percent(index: u32, percent: f64) -> bool {
    let share = percent / 100.0;
    (f64::from(index + 1) * share).floor() > (f64::from(index) * share).floor()
}

/// Shares a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many, in an open loop.
    PerSecond(f64),
    /// As many as the server answers: each session keeps a window of submits unanswered.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(rate) if (0.0..=10e6).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("expected a number of shares a second, or max".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_pick_that_many_sessions() {
        for percent in [0.0, 1.0, 33.0, 50.0, 100.0] {
            let picked = (0..1000).filter(|index| spread_percent(*index, percent)).count();
            assert_eq!(picked as f64, percent * 10.0);
        }
    }

    #[test]
    fn rate_is_a_number_or_max() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("0.5".parse(), Ok(Rate::PerSecond(0.5)));
        for bad in ["", "-1", "nan", "inf", "fast"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
