//! Solved blocks: to our Core and to all peers at once, then into the ledger.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Txid};
use bytes::Bytes;
use seam_bitcoin_core::{BlockOutcome, Core};
use seam_cluster::Cluster;
use seam_cluster::ledger::BlockFound;
use seam_stratum::job::display_hash;

use crate::clock::Clock;
use crate::exchange::SolvedBlock;
use crate::fault::Code;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::pool;
use crate::session::{BlockFate, Event, Reply, Solved};

/// Takes solved blocks from sessions; a thread does the work.
pub struct Solver {
    queue: SyncSender<Work>,
}

/// What the thread needs.
pub struct Workshop {
    /// Judges and relays blocks.
    pub core: Core,
    /// Tells peers and ledger.
    pub cluster: Cluster,
    /// The node's name.
    pub node: String,
    /// The address that blocks pay to.
    pub address: String,
    /// The chain, in bcoin's words.
    pub network: &'static str,
    /// Keeps blocks until Core has them on disk.
    pub keeper: Keeper,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

enum Work {
    Ours(Box<Solved>, Reply),
    Peers(Bytes),
}

impl Solver {
    /// A queue, and the work on it: for a thread of its own, which ends with the last clone of the
    /// queue.
    pub fn new(workshop: Workshop) -> (Arc<Self>, impl FnOnce() + Send + 'static) {
        let (queue, work) = sync_channel(MAX_QUEUED);
        (Arc::new(Self { queue }), move || Bench::new(workshop).run(&work))
    }

    /// A peer solved a block.
    pub fn peer_block(&self, block: Bytes) {
        if self.queue.try_send(Work::Peers(block)).is_err() {
            tracing::warn!("a peer's block was dropped: too many wait");
        }
    }
}

impl pool::Solver for Solver {
    fn solved(&self, solved: Solved, reply: Reply) {
        let hash = solved.hash;
        match self.queue.try_send(Work::Ours(Box::new(solved), reply)) {
            Ok(()) => {}
            // Only where blocks cost nothing; the session is told that nobody knows.
            Err(TrySendError::Full(_)) => {
                tracing::warn!(hash = display_hash(&hash), "a block was dropped: too many wait");
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!(hash = display_hash(&hash), "a block was solved after the stop");
            }
        }
    }
}

/// The thread's own.
struct Bench {
    workshop: Workshop,
    /// Hashes that were judged, the newest last.
    recent: VecDeque<[u8; 32]>,
    /// When the kept blocks are looked at next.
    next_look: u64,
}

impl Bench {
    fn new(workshop: Workshop) -> Self {
        Self { workshop, recent: VecDeque::new(), next_look: 0 }
    }

    fn run(mut self, work: &Receiver<Work>) {
        loop {
            let now = self.workshop.clock.monotonic_millis();
            if now >= self.next_look || self.workshop.keeper.is_pressed() {
                let cluster = &self.workshop.cluster;
                self.workshop.keeper.look(|found| cluster.record_block(found));
                self.next_look = now + LOOK_MILLIS;
            }
            match work.recv_timeout(Duration::from_millis(self.next_look.saturating_sub(now))) {
                Ok(Work::Ours(solved, reply)) => {
                    let fate = self.solve(&solved);
                    reply.send(Event::Block(fate));
                }
                Ok(Work::Peers(bytes)) => self.take_peers(&bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn solve(&mut self, solved: &Solved) -> BlockFate {
        let began = self.workshop.clock.monotonic_micros();
        if self.recent.contains(&solved.hash) {
            return BlockFate::Known;
        }
        let job = &solved.job.job;
        let hash = display_hash(&solved.hash);
        let Some(transactions) = solved.job.contents.transactions() else {
            tracing::error!(code = %Code::BlockRefused, %hash, "a block lacks transactions");
            self.count("rejected");
            return BlockFate::Unknown;
        };
        let share = &solved.share;
        let block = job.block_bytes(&solved.header, share.extranonce1, share.nonce2, &transactions);
        let found = self.found(solved);
        let solved_block = SolvedBlock { found, block: Bytes::from(block) };
        // From here on somebody may have it: should this process die, the next one knows.
        self.workshop.cluster.note_block(&solved_block.found);
        // Peers first: handing it over takes microseconds, and Core may take its time.
        self.workshop.cluster.push_block(solved_block.encode());
        let outcome = self.workshop.core.submit_block(&solved_block.block);
        let took = self.workshop.clock.monotonic_micros().saturating_sub(began);
        self.workshop.metrics.block_submit_seconds.observe(took as f64 / 1e6);
        self.remember(solved.hash);
        let (height, user) = (job.height, &solved.user_name);
        match outcome {
            Ok(BlockOutcome::Accepted | BlockOutcome::Duplicate) => {
                tracing::info!(%hash, height, %user, micros = took, "block found");
                self.count("accepted");
                // The ledger's round shall not outlive its block.
                self.workshop.keeper.keep(&solved_block, true);
                self.workshop.cluster.record_block(solved_block.found);
                BlockFate::Accepted
            }
            Ok(BlockOutcome::Inconclusive) => {
                tracing::info!(%hash, height, %user, "block found, but another was first");
                self.count("stale");
                // It may win yet: then it is recorded.
                self.workshop.keeper.keep(&solved_block, false);
                self.workshop.cluster.strike_block(&solved_block.found);
                BlockFate::Stale
            }
            Ok(BlockOutcome::Rejected { reason }) => {
                tracing::error!(code = %Code::BlockRefused, %hash, height, reason, "block refused");
                self.count("rejected");
                self.workshop.cluster.strike_block(&solved_block.found);
                BlockFate::Rejected(reason)
            }
            Err(error) => {
                // Peers have it; what they make of it, they record. Or the next start does.
                self.workshop.keeper.keep(&solved_block, false);
                tracing::error!(code = %Code::BlockRefused, %hash, height, %error, "block unjudged");
                self.count("rejected");
                BlockFate::Unknown
            }
        }
    }

    fn take_peers(&mut self, bytes: &[u8]) {
        let blocks = &self.workshop.metrics.peer_blocks;
        let count = |result| {
            blocks.get_or_create(&[("result", result)]).inc();
        };
        let Some(solved) = SolvedBlock::decode(bytes) else { return count("rejected") };
        match self.workshop.core.submit_block(&solved.block) {
            Ok(BlockOutcome::Accepted) => count("accepted"),
            Ok(BlockOutcome::Duplicate) => count("known"),
            Ok(BlockOutcome::Inconclusive) => {
                count("known");
                return self.workshop.keeper.keep(&solved, false);
            }
            Ok(BlockOutcome::Rejected { reason }) => {
                tracing::warn!(hash = %solved.found.hash, reason, "a peer's block is refused");
                return count("rejected");
            }
            Err(error) => {
                tracing::warn!(hash = %solved.found.hash, %error, "a peer's block is unjudged");
                return count("rejected");
            }
        }
        self.workshop.keeper.keep(&solved, true);
        // Its finder records it, too; it counts once.
        self.workshop.cluster.record_block(solved.found);
    }

    fn remember(&mut self, hash: [u8; 32]) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
    }

    fn found(&self, solved: &Solved) -> BlockFound {
        let job = &solved.job.job;
        let share = &solved.share;
        BlockFound {
            height: job.height,
            hash: BlockHash::from_byte_array(solved.hash),
            previous: BlockHash::from_byte_array(job.prev_hash),
            ts: share.ntime,
            time: self.workshop.clock.unix_seconds(),
            txid: Txid::from_byte_array(job.coinbase_txid(share.extranonce1, share.nonce2)),
            address: self.workshop.address.clone(),
            reward: job.coinbase_value,
            network: self.workshop.network.to_owned(),
            node: self.workshop.node.clone(),
            job: job.id.0,
            session: share.extranonce1.0,
            user: solved.user,
            share: solved.credit,
        }
    }

    fn count(&self, result: &'static str) {
        self.workshop.metrics.blocks_found.get_or_create(&[("result", result)]).inc();
    }
}

/// Solved blocks that may wait: only a chain without difficulty has more than one.
const MAX_QUEUED: usize = 1_024;

/// Hashes that are known to have been judged.
const MAX_RECENT: usize = 256;

/// How often the kept blocks are looked at.
const LOOK_MILLIS: u64 = 5_000;
