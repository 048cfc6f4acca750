//! Makes jobs: at once on a new tip, and again when fees or time ask for it.
//!
//! One thread waits on Core's tip. What it publishes goes to miners first, then to the peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use seam_bitcoin_core::{BlockCheck, Core, Error, Template, TemplateOptions, Tip};
use seam_stratum::JobId;
use seam_stratum::job::{self, Job, JobError, JobParams, Payout};

use crate::clock::Clock;
use crate::config;
use crate::contents::OwnContents;
use crate::exchange::Package;
use crate::fault::Code;
use crate::jobs::{Entry, Jobs};
use crate::metrics::Metrics;

/// Everything that making jobs needs.
pub struct JobMaker {
    /// The chain.
    pub core: Core,
    /// Where jobs go.
    pub jobs: Arc<Jobs>,
    /// Sends a package to the peers; does not wait.
    pub publish: Box<dyn Fn(Bytes) + Send>,
    /// Leases the upper half of job ids; waits for a quorum. None when the node stops.
    pub lease: Box<dyn Fn() -> Option<u32> + Send>,
    /// When to make jobs.
    pub settings: config::Jobs,
    /// Whether to mine although Core thinks that it lags behind the network.
    pub is_private_chain: bool,
    /// Who is paid.
    pub payout: Payout,
    /// What the coinbase says.
    pub tag: Vec<u8>,
    /// Bytes of nonce2.
    pub nonce2_len: u8,
    /// Bits that have to be clear in the notified version.
    pub version_mask: u32,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends the thread.
    pub stop: Arc<AtomicBool>,
}

impl JobMaker {
    /// Makes jobs until told to stop. To be run on a thread of its own.
    pub fn run(self) {
        let Some(lease) = (self.lease)() else { return };
        let mut state = State::new(lease);
        while !self.stop.load(Ordering::Acquire) {
            let stepped = self.step(&mut state).and_then(|()| self.check(&mut state));
            if let Err(error) = stepped {
                if matches!(error, Trouble::Core(Error::Stopping)) {
                    return;
                }
                tracing::error!(%error, "no job could be made");
                self.pause();
            }
        }
    }

    fn step(&self, state: &mut State) -> Result<(), Trouble> {
        let Some(known) = state.tip else {
            let status = self.core.status()?;
            if status.initial_block_download && !self.is_private_chain {
                // The tip moves all the time and nobody would want a block on it.
                self.core.wait_for_tip(status.tip.hash, IBD_SLICE)?;
                return Ok(());
            }
            return self.on_tip(state, status.tip);
        };
        if let Some(tip) = self.core.wait_for_tip(known.hash, SLICE)? {
            return self.on_tip(state, tip);
        }
        let now = self.clock.monotonic_millis();
        let age = now.saturating_sub(state.made_at);
        let asked = self.jobs.is_refresh_wanted()
            && age >= self.settings.difficulty_refresh_seconds * 1_000;
        if asked || age >= self.settings.refresh_seconds * 1_000 {
            let template = self.template(state, true)?;
            return self.make(state, template, "interval");
        }
        if now.saturating_sub(state.fees_looked_at) >= self.settings.fee_check_seconds * 1_000 {
            state.fees_looked_at = now;
            let template = self.template(state, true)?;
            let worth = template.fees.saturating_sub(state.fees) >= self.settings.fee_threshold;
            if worth && template.previous == known.hash {
                return self.make(state, template, "fees");
            }
        }
        Ok(())
    }

    /// A new tip: whatever is ready first goes out.
    fn on_tip(&self, state: &mut State, tip: Tip) -> Result<(), Trouble> {
        let began = self.clock.monotonic_micros();
        let known = state.tip.replace(tip);
        self.jobs.set_tip_height(tip.height, self.clock.unix_seconds());
        self.metrics.chain_height.set(i64::from(tip.height));
        self.metrics.chain_tip_timestamp.set(i64::from(tip.time));
        let is_slow = state.full_micros > self.settings.template_wait_ms * 1_000;
        let mut template = self.template(state, !is_slow)?;
        if is_slow {
            self.make(state, template, "empty")?;
            self.since_tip("empty", began);
            template = self.template(state, true)?;
        }
        self.make(state, template, "tip")?;
        if !is_slow {
            self.since_tip("full", began);
        }
        self.count_tip(known, tip)
    }

    /// Core makes a template. A full one holds Core's main lock until it is done, so that an empty
    /// one could not overtake it: which comes first is decided by how long the last full one took.
    fn template(&self, state: &mut State, full: bool) -> Result<Template, Trouble> {
        let began = self.clock.monotonic_micros();
        let options =
            TemplateOptions { use_mempool: full, check: false, ..TemplateOptions::default() };
        let template = self.core.template(&options)?;
        let took = self.clock.monotonic_micros().saturating_sub(began);
        let kind = if full { "full" } else { "empty" };
        self.metrics.template_seconds.get_or_create(&[("kind", kind)]).observe(took as f64 / 1e6);
        if full {
            state.full_micros = took;
        }
        Ok(template)
    }

    fn make(
        &self,
        state: &mut State,
        template: Template,
        reason: &'static str,
    ) -> Result<(), Trouble> {
        let Some(id) = JobId::new(state.lease, state.counter) else {
            state.lease = (self.lease)().ok_or(Trouble::Core(Error::Stopping))?;
            state.counter = 0;
            return self.make(state, template, reason);
        };
        state.counter += 1;
        let clean = state.previous != Some(template.previous);
        let now = self.clock.unix_seconds();
        let params = JobParams {
            id,
            payout: &self.payout,
            tag: &self.tag,
            nonce2_len: self.nonce2_len,
            version_mask: self.version_mask,
            clean,
            created_at: u64::from(now),
        };
        let job = Job::assemble(&convert(&template), &params)?;
        let height = template.height;
        // The block that miners work on is one above the tip, whichever Core told of first.
        self.jobs.set_tip_height(height.saturating_sub(1), now);
        let entry = Arc::new(Entry::new(job, Box::new(OwnContents(template.clone()))));
        self.jobs.publish(Arc::clone(&entry), now);
        state.previous = Some(template.previous);
        state.fees = template.fees;
        state.made_at = self.clock.monotonic_millis();
        state.fees_looked_at = state.made_at;
        state.unchecked = Some(template.clone());
        self.metrics.jobs.get_or_create(&[("reason", reason)]).inc();
        self.metrics.jobs_live.set(self.jobs.live() as i64);
        tracing::debug!(%id, height, reason, transactions = template.transaction_count, "job");
        self.tell_peers(&entry, &template)
    }

    /// Has Core check the newest job's template, now that nobody waits for it. Should Core find fault
    /// with its own work, an empty block is worth more.
    fn check(&self, state: &mut State) -> Result<(), Trouble> {
        let Some(template) = state.unchecked.take() else { return Ok(()) };
        let height = template.height;
        let result = match self.core.check_template(&template) {
            Ok(BlockCheck::Valid) => "valid",
            Ok(BlockCheck::NotOnTip) => "outdated",
            Ok(BlockCheck::Invalid { reason }) => {
                tracing::error!(code = %Code::TemplateRefused, height, reason, "template refused");
                "refused"
            }
            Err(Error::Stopping) => return Err(Error::Stopping.into()),
            Err(error) => {
                tracing::warn!(height, %error, "a template could not be checked");
                "failed"
            }
        };
        self.metrics.template_checks.get_or_create(&[("result", result)]).inc();
        if result == "refused" && template.transaction_count > 0 {
            let empty = self.template(state, false)?;
            self.make(state, empty, "empty")?;
        }
        Ok(())
    }

    fn tell_peers(&self, entry: &Entry, template: &Template) -> Result<(), Trouble> {
        let wtxids = template.wtxids()?.into_iter().map(|wtxid| wtxid.0).collect();
        (self.publish)(Package { job: entry.job.clone(), wtxids }.encode());
        Ok(())
    }

    fn since_tip(&self, kind: &'static str, began: u64) {
        let took = self.clock.monotonic_micros().saturating_sub(began);
        let histogram = &self.metrics.tip_to_job_seconds;
        histogram.get_or_create(&[("kind", kind)]).observe(took as f64 / 1e6);
    }

    fn count_tip(&self, known: Option<Tip>, tip: Tip) -> Result<(), Trouble> {
        let Some(known) = known else { return Ok(()) };
        self.metrics.chain_tip_changes.inc();
        // Several blocks may have come at once: the tip before is one of this one's ancestors
        // unless it lost its place.
        let lost = self.core.block(known.hash)?.is_none_or(|block| !block.in_active_chain());
        if lost {
            self.metrics.chain_reorgs.inc();
            tracing::warn!(from = %known.hash, to = %tip.hash, height = tip.height, "reorganised");
        } else {
            tracing::info!(height = tip.height, hash = %tip.hash, "new tip");
        }
        Ok(())
    }

    fn pause(&self) {
        std::thread::park_timeout(TROUBLE_PAUSE);
    }
}

/// What the thread remembers.
struct State {
    lease: u32,
    counter: u32,
    tip: Option<Tip>,
    /// What the newest job builds on.
    previous: Option<seam_bitcoin_core::BlockHash>,
    fees: u64,
    /// Monotonic milliseconds.
    made_at: u64,
    fees_looked_at: u64,
    /// How long the last full template took, in microseconds.
    full_micros: u64,
    /// The newest job's, until Core has checked it.
    unchecked: Option<Template>,
}

impl State {
    fn new(lease: u32) -> Self {
        Self {
            lease,
            counter: 0,
            tip: None,
            previous: None,
            fees: 0,
            made_at: 0,
            fees_looked_at: 0,
            full_micros: 0,
            unchecked: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Core(#[from] Error),
    #[error(transparent)]
    Job(#[from] JobError),
}

/// Core's template in the words of `stratum`.
fn convert(template: &Template) -> job::Template {
    job::Template {
        height: template.height,
        version: template.version as u32,
        prev_hash: template.previous.0,
        nbits: template.bits,
        ntime: template.time,
        min_ntime: template.min_time,
        coinbase_value: template.reward,
        witness_commitment: template
            .coinbase
            .required_outputs
            .first()
            .map(|output| output.script.clone()),
        merkle_branch: template.merkle_branch.to_vec(),
        transaction_count: u32::try_from(template.transaction_count).unwrap_or(u32::MAX),
    }
}

/// A tip ends the wait at once; this is how exactly the intervals are kept.
const SLICE: Duration = Duration::from_millis(200);

/// How often the end of the initial block download is looked for.
const IBD_SLICE: Duration = Duration::from_secs(1);

/// Before it is tried again after an error.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
