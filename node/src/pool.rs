//! What all sessions of a node share.

use std::net::IpAddr;
use std::sync::Arc;

use seam_stratum::Difficulty;
use seam_stratum::job::VERSION_ROLLING_MASK;
use seam_stratum::vardiff;

use crate::auth::Gate;
use crate::clock::Clock;
use crate::config::Config;
use crate::jobs::Jobs;
use crate::ledger::Ledger;
use crate::limits::Addresses;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::session::{Reply, Solved};

/// The context that each call of a session gets.
pub struct Pool {
    /// What was configured.
    pub settings: Settings,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The jobs of this node and its peers.
    pub jobs: Arc<Jobs>,
    /// Who may mine.
    pub gate: Gate,
    /// Where shares go.
    pub ledger: Arc<dyn Ledger>,
    /// Where solved blocks go.
    pub solver: Arc<dyn Solver>,
    /// Which session holds which extranonce1.
    pub registry: Registry,
    /// What each address did.
    pub addresses: Arc<Addresses>,
    /// Proxies that are linked.
    pub links: Links,
}

impl Pool {
    /// Whether this address may open sessions.
    #[must_use]
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.addresses.is_banned(address)
    }
}

/// Takes blocks that sessions solve. It must not wait, and keeps its promise to reply.
pub trait Solver: Send + Sync {
    /// Submits it, tells the peers, records it, and says what became of it.
    fn solved(&self, solved: Solved, reply: Reply);
}

/// What sessions have to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A session's first difficulty.
    pub start: Difficulty,
    /// Limits and speed of vardiff.
    pub vardiff: vardiff::Settings,
    /// Bytes of nonce2.
    pub nonce2_len: u8,
    /// What miners may roll of the version.
    pub version_mask: u32,
    /// Refused logins that one session may have.
    pub login_attempts: u32,
    /// How long a share may wait for room, in milliseconds.
    pub commit_wait_millis: u64,
}

impl Settings {
    /// From a configuration that was checked.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let difficulty = |value: f64| Difficulty::new(value).unwrap_or(Difficulty::ONE);
        let limits = &config.difficulty;
        Self {
            start: difficulty(limits.start),
            vardiff: vardiff::Settings {
                target_ms: (limits.target_seconds * 1_000.0) as u32,
                min: difficulty(limits.minimum),
                max: difficulty(limits.maximum),
                ..vardiff::Settings::default()
            },
            nonce2_len: config.stratum.extranonce2_size,
            version_mask: VERSION_ROLLING_MASK,
            login_attempts: config.limits.login_attempts,
            commit_wait_millis: config.limits.commit_wait_ms,
        }
    }

    /// The nearest difficulty that may be assigned.
    #[must_use]
    pub fn clamp(&self, wish: Difficulty) -> Difficulty {
        wish.clamp_to(self.vardiff.min, self.vardiff.max)
    }
}
