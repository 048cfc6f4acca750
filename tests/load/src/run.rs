//! A run in a thread of its own, watched and stopped from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::engine;
use crate::options::Options;
use crate::report::Report;

/// How often a waiting caller looks at the counters.
const LOOK: Duration = Duration::from_millis(5);

/// What a run shows while it goes on. All values only for looking at.
#[derive(Debug, Default)]
pub struct Live {
    pub(crate) stop: AtomicBool,
    pub(crate) working: AtomicBool,
    pub(crate) ready: AtomicU64,
    pub(crate) submitted: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) drops: AtomicU64,
    pub(crate) notified: AtomicU64,
}

impl Live {
    /// Whether shares are due: all sessions are ready, or were waited for long enough.
    pub fn is_working(&self) -> bool {
        self.working.load(Ordering::Relaxed)
    }

    /// Sessions that can work now.
    pub fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Submits written.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Submits answered `true`.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Submits answered otherwise.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Connections the server closed.
    pub fn drops(&self) -> u64 {
        self.drops.load(Ordering::Relaxed)
    }

    /// `mining.notify` lines read, over all sessions.
    pub fn notified(&self) -> u64 {
        self.notified.load(Ordering::Relaxed)
    }

    /// Ends the run early: no more shares, and the last answers are awaited.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A run that goes on. Dropping it ends the run early and waits for it.
#[derive(Debug)]
pub struct Load {
    live: Arc<Live>,
    thread: Option<JoinHandle<anyhow::Result<Report>>>,
}

impl Load {
    /// Starts a run.
    ///
    /// # Errors
    /// Where no thread can be started. Everything else comes with [`Load::join`].
    pub fn spawn(options: Options) -> anyhow::Result<Self> {
        let live = Arc::new(Live::default());
        let shown = Arc::clone(&live);
        let thread = std::thread::Builder::new()
            .name("seam-load".to_owned())
            .spawn(move || engine::run(options, &shown))
            .context("thread of the load generator")?;
        Ok(Self { live, thread: Some(thread) })
    }

    /// Its counters.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// After `deadline`, or when the run ended first, with the counters as they were.
    pub fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&Live) -> bool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + deadline;
        while !condition(&self.live) {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            if ended || Instant::now() >= until {
                bail!("waited for {what}, but the run is at {:?}, ended: {ended}", self.live);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// A server name without address, an accounting file that cannot be written, or jobs that
    /// are too difficult to find any share for.
    pub fn join(mut self) -> anyhow::Result<Report> {
        let Some(thread) = self.thread.take() else { bail!("the run was joined before") };
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Ends the run early and waits for its last answers.
    pub fn stop(self) -> anyhow::Result<Report> {
        self.live.stop();
        self.join()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.live.stop();
            // Its result was not asked for.
            let _ = thread.join();
        }
    }
}
