//! What came of the mining, in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::print;

/// Counts of one run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Shares answered `true`.
    pub(crate) accepted: u64,
    /// Shares answered otherwise, by reason.
    pub(crate) rejected: BTreeMap<String, u64>,
    /// Accepted shares that were blocks.
    pub(crate) blocks: u64,
    /// Found for work that was over before they could be sent.
    pub(crate) stale: u64,
    /// Sent, and the connection ended before an answer came.
    pub(crate) unanswered: u64,
    /// Sent again after the session was resumed.
    pub(crate) resubmitted: u64,
    /// Connections that ended without being asked to.
    pub(crate) dropped: u64,
    /// Times the pool asked to reconnect.
    pub(crate) moved: u64,
    /// Connections made.
    pub(crate) connected: u64,
    /// Of them, those that took the session up again.
    pub(crate) resumed: u64,
    /// Hashes that the accepted shares stand for: the sum of their difficulties' work.
    pub(crate) work: u128,
}

impl Tally {
    /// Shares that were refused, in all.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// For `--json`.
    pub(crate) fn summary(&self, took: Duration, hashes: u64) -> Value {
        json!({
            "accepted": self.accepted,
            "rejected": self.rejected(),
            "reasons": self.rejected,
            "blocks": self.blocks,
            "stale": self.stale,
            "unanswered": self.unanswered,
            "resubmitted": self.resubmitted,
            "dropped": self.dropped,
            "moved": self.moved,
            "connections": self.connected,
            "resumed": self.resumed,
            "work": self.work.to_string(),
            "hashes": hashes,
            "seconds": took.as_secs_f64(),
        })
    }

    /// For a person.
    pub(crate) fn text(&self, took: Duration, hashes: u64) -> String {
        let mut lines = vec![
            row("accepted", &self.accepted),
            row("rejected", &self.rejected()),
            row("blocks", &self.blocks),
        ];
        for (reason, count) in &self.rejected {
            lines.push(row(&format!("  {reason}"), count));
        }
        for (name, count) in [
            ("too late to send", self.stale),
            ("unanswered", self.unanswered),
            ("sent again", self.resubmitted),
            ("connections dropped", self.dropped),
            ("asked to reconnect", self.moved),
            ("sessions resumed", self.resumed),
        ] {
            if count > 0 {
                lines.push(row(name, &count));
            }
        }
        lines.push(row("hashrate", &rate(took, hashes)));
        print::align(&lines)
    }
}

/// Hashes per second as people write it.
pub(crate) fn rate(took: Duration, hashes: u64) -> String {
    let mut value = hashes as f64 / took.as_secs_f64().max(1e-3);
    for unit in ["H/s", "kH/s", "MH/s"] {
        if value < 1000.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} GH/s")
}

fn row(name: &str, value: &impl ToString) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}
