//! Our blocks: recorded once a quorum is there, followed to maturity, dumped to files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::dump::Dumps;
use crate::durable::DurableError;
use crate::handle::{BlockStatus, ChangeError, Cluster, MemberRole};
use crate::ledger::{BlockFound, Command, State, Status, Verdict};
use crate::outbox::Outbox;

/// Confirmations after which a coinbase can be spent.
const MATURE: u32 = 101;
/// Blocks of the best chain after which another block never comes back.
const BURIED: u32 = 100;
/// Blocks that are followed at once; older ones wait until these are settled.
const FOLLOWED: usize = 1_000;
/// Pause before the ledger is asked again to record a block.
const RETRY: Duration = Duration::from_secs(1);

/// Files about blocks.
pub(crate) struct BlockFiles {
    outbox: Outbox,
    dumps: Mutex<Dumps>,
}

impl BlockFiles {
    /// Uses `outbox/` and `shares/` below this directory.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, DurableError> {
        Ok(Self {
            outbox: Outbox::open(data_dir.join("outbox"))?,
            dumps: Mutex::new(Dumps::open(data_dir.join("shares"))?),
        })
    }
}

/// Blocks that wait for the ledger.
#[derive(Default)]
pub(crate) struct Unrecorded {
    arrived: Notify,
    /// Those that the disk did not take.
    in_memory: Mutex<Vec<BlockFound>>,
}

impl Cluster {
    /// Records a solved block, now or as soon as there is a quorum, through restarts.
    pub fn record_block(&self, block: BlockFound) {
        let inner = self.inner.clone();
        let Some(files) = inner.files.clone() else {
            inner.unrecorded.in_memory.lock().push(block);
            inner.unrecorded.arrived.notify_one();
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = files.outbox.put(&block) {
                tracing::error!(%error, hash = %block.hash, "solved block kept in memory only");
                inner.unrecorded.in_memory.lock().push(block);
            }
            inner.unrecorded.arrived.notify_one();
        });
    }

    /// Notes a block that is about to be submitted, so that its round is closed even if this process
    /// dies before [`Cluster::record_block`]. Blocks, for some microseconds.
    pub fn note_block(&self, block: &BlockFound) {
        if let Some(files) = &self.inner.files
            && let Err(error) = files.outbox.note(block)
        {
            tracing::error!(%error, hash = %block.hash, "a solved block was not noted");
        }
    }

    /// Forgets a noted block: it was refused.
    pub fn strike_block(&self, block: &BlockFound) {
        if let Some(files) = &self.inner.files
            && let Err(error) = files.outbox.strike(block.height, &block.hash)
        {
            tracing::warn!(%error, hash = %block.hash, "the note of a refused block stays");
        }
    }

    /// Asks the node what became of blocks that were noted by a process that died over them.
    pub(crate) async fn take_up_notes(self) {
        let Some(files) = self.inner.files.clone() else { return };
        let read = tokio::task::spawn_blocking(move || files.outbox.noted()).await;
        let mut open = match read {
            Ok(Ok(noted)) => {
                for error in noted.damaged {
                    tracing::error!(%error, "a solved block's note is damaged");
                }
                noted.blocks
            }
            Ok(Err(error)) => return tracing::error!(%error, "the outbox cannot be read"),
            Err(_) => return,
        };
        while !open.is_empty() {
            let host = self.inner.host.clone();
            let asked = tokio::task::spawn_blocking(move || {
                let ask = |block: BlockFound| {
                    (host.block_status(&block.hash.to_byte_array(), block.height), block)
                };
                open.into_iter().map(ask).collect::<Vec<_>>()
            });
            open = Vec::new();
            for (status, block) in asked.await.unwrap_or_default() {
                match status {
                    BlockStatus::Active { .. } => {
                        tracing::info!(hash = %block.hash, "a block solved before the start stands");
                        self.record_block(block);
                    }
                    BlockStatus::Orphaned { buried } if buried >= BURIED => {
                        self.strike_block(&block);
                    }
                    // The network may have it and not have told us yet.
                    _ => open.push(block),
                }
            }
            sleep(self.inner.config.timing.block_poll).await;
        }
    }

    /// Proposes blocks until the ledger has them.
    pub(crate) async fn record_blocks(self) {
        loop {
            let waiting = self.unrecorded().await;
            let mut left = false;
            for block in waiting {
                match self.change(Command::BlockFound(Box::new(block.clone()))).await {
                    Ok(_) => {
                        tracing::info!(hash = %block.hash, height = block.height, "recorded");
                        self.forget(block).await;
                    }
                    Err(error) => {
                        left = true;
                        let refused = matches!(error, ChangeError::Refused(_));
                        tracing::warn!(hash = %block.hash, %error, refused, "not recorded yet");
                    }
                }
            }
            let arrived = self.inner.unrecorded.arrived.notified();
            match left {
                true => {
                    let _ = timeout(RETRY, arrived).await;
                }
                false => arrived.await,
            }
        }
    }

    async fn unrecorded(&self) -> Vec<BlockFound> {
        let mut blocks = self.inner.unrecorded.in_memory.lock().clone();
        if let Some(files) = self.inner.files.clone() {
            let read = tokio::task::spawn_blocking(move || files.outbox.waiting()).await;
            match read {
                Ok(Ok(waiting)) => {
                    for error in waiting.damaged {
                        tracing::error!(%error, "a solved block's record is damaged");
                    }
                    blocks.extend(waiting.blocks);
                }
                Ok(Err(error)) => tracing::error!(%error, "the outbox cannot be read"),
                Err(error) => tracing::error!(%error, "the outbox cannot be read"),
            }
        }
        blocks
    }

    async fn forget(&self, block: BlockFound) {
        self.inner.unrecorded.in_memory.lock().retain(|other| other.hash != block.hash);
        let Some(files) = self.inner.files.clone() else { return };
        let removed =
            tokio::task::spawn_blocking(move || files.outbox.remove(block.height, &block.hash));
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "a recorded block stays in the outbox");
        }
    }

    /// On the leader: asks the node what became of our blocks.
    pub(crate) async fn follow_blocks(self) {
        let raft = self.inner.proposer.wait_for_raft().await;
        loop {
            sleep(self.inner.config.timing.block_poll).await;
            if raft.standing().borrow().role != MemberRole::Leader {
                continue;
            }
            let open: Vec<_> = self.read(|state| {
                let rounds = state.rounds().closed().rev();
                let open = rounds.filter(|round| !round.status.is_settled());
                open.take(FOLLOWED)
                    .map(|round| (round.block.hash, round.block.height, round.status))
                    .collect()
            });
            if open.is_empty() {
                continue;
            }
            let host = self.inner.host.clone();
            let asked = tokio::task::spawn_blocking(move || {
                let changed = open.into_iter().filter_map(|(hash, height, status)| {
                    let verdict = verdict(host.block_status(&hash.to_byte_array(), height))?;
                    (status != status_after(verdict)).then_some((hash, verdict))
                });
                changed.collect::<Vec<_>>()
            });
            for (hash, verdict) in asked.await.unwrap_or_default() {
                tracing::info!(%hash, ?verdict, "a block of ours");
                if let Err(error) = self.change(Command::BlockStatus { hash, verdict }).await {
                    tracing::warn!(%hash, %error, "its status was not recorded");
                }
            }
        }
    }

    /// Writes what the ledger says of each round into its file.
    pub(crate) async fn dump_rounds(self) {
        let Some(files) = self.inner.files.clone() else { return };
        let mut changed = self.inner.ledger.rounds_changed();
        loop {
            changed.borrow_and_update();
            let state: State = self.read(State::clone);
            let files: Arc<BlockFiles> = files.clone();
            let written = tokio::task::spawn_blocking(move || files.dumps.lock().reconcile(&state));
            let failed = match written.await {
                Ok(Ok(done)) => {
                    for path in done.written {
                        tracing::info!(path = %path.display(), "round written");
                    }
                    false
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "a round was not written");
                    true
                }
                Err(_) => true,
            };
            if failed {
                sleep(RETRY).await;
            } else if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn verdict(status: BlockStatus) -> Option<Verdict> {
    match status {
        BlockStatus::Unknown => None,
        BlockStatus::Active { confirmations } if confirmations >= MATURE => Some(Verdict::Mature),
        BlockStatus::Active { .. } => Some(Verdict::Confirmed),
        BlockStatus::Orphaned { buried } if buried >= BURIED => Some(Verdict::Abandoned),
        BlockStatus::Orphaned { .. } => Some(Verdict::Orphaned),
    }
}

fn status_after(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Confirmed => Status::Confirmed,
        Verdict::Mature => Status::Mature,
        Verdict::Orphaned => Status::Orphaned,
        Verdict::Abandoned => Status::Abandoned,
    }
}
