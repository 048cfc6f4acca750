//! Looks after our blocks until they are deep in the chain, and on disk with it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::hashes::Hash as _;
use seam_bitcoin_core::{BlockOutcome, Core, Error};
use seam_cluster::durable::DurableError;
use seam_cluster::ledger::BlockFound;

use crate::exchange::SolvedBlock;
use crate::fault::Code;
use crate::kept::{Kept, MAX_KEPT, Name};
use crate::metrics::Metrics;

/// Our blocks, as Core has them.
pub struct Keeper {
    core: Core,
    kept: Kept,
    metrics: Arc<Metrics>,
    /// Those of the kept that the cluster was told of by this process.
    told: BTreeSet<Name>,
    /// Blocks that came since all were looked at.
    unseen: usize,
}

impl Keeper {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn open(dir: PathBuf, core: Core, metrics: Arc<Metrics>) -> Result<Self, DurableError> {
        let kept = Kept::open(dir)?;
        let unseen = kept.names().len();
        let keeper = Self { core, kept, metrics, told: BTreeSet::new(), unseen };
        keeper.count();
        Ok(keeper)
    }

    /// Submits what Core has lost, before anyone mines on what it has left.
    pub fn restore(&mut self) {
        let names = self.kept.names().to_vec();
        let restored = names.into_iter().try_for_each(|name| {
            if self
                .core
                .block(name.hash.to_byte_array().into())?
                .is_none_or(|block| !block.has_data)
            {
                self.submit_again(name)?;
            }
            Ok(())
        });
        if let Err(error) = restored {
            log_trouble(&error);
        }
        self.count();
    }

    /// Keeps a block that Core took, whether or not it won its race. `is_told`: the cluster knows.
    pub fn keep(&mut self, solved: &SolvedBlock, is_told: bool) {
        let name = Name { height: solved.found.height, hash: solved.found.hash };
        match self.kept.put(solved) {
            Ok(None) => {}
            Ok(Some(oldest)) => {
                self.metrics.limit_hit("kept_blocks");
                tracing::warn!(
                    code = %Code::BlockNotKept, hash = %oldest.hash, height = oldest.height,
                    "more than {MAX_KEPT} blocks to be kept: the oldest gives way"
                );
            }
            Err(error) => {
                let hash = name.hash;
                tracing::error!(code = %Code::BlockNotKept, %hash, %error, "block not kept");
            }
        }
        if is_told {
            self.told.insert(name);
        }
        self.unseen += 1;
        self.count();
    }

    /// Whether so many blocks came that they should be looked at now.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.unseen >= STORE_AT
    }

    /// Looks at all: tells of those that came into the chain, submits those that Core lost, lets go
    /// of those that need nobody any more.
    pub fn look(&mut self, tell: impl FnMut(BlockFound)) {
        self.unseen = 0;
        match self.look_at_all(tell) {
            Ok(()) | Err(Error::Stopping) => {}
            Err(error) => log_trouble(&error),
        }
        self.told.retain(|name| self.kept.names().binary_search(name).is_ok());
        self.count();
    }

    fn look_at_all(&mut self, mut tell: impl FnMut(BlockFound)) -> Result<(), Error> {
        let names = self.kept.names().to_vec();
        if names.is_empty() {
            return Ok(());
        }
        let tip = self.core.status()?.tip.height;
        let stored = self.stored_height()?;
        let mut unstored = 0;
        for name in names {
            match self.core.block(name.hash.to_byte_array().into())? {
                Some(block) if block.in_active_chain() => {
                    if !self.told.contains(&name)
                        && let Some(solved) = self.read(name)
                    {
                        tracing::info!(hash = %name.hash, height = name.height, "in the chain");
                        tell(solved.found);
                        self.told.insert(name);
                    }
                    if stored.is_none_or(|stored| name.height > stored) {
                        unstored += 1;
                    } else if block.confirmations >= BURIED {
                        self.let_go(name);
                    }
                }
                _ if name.height.saturating_add(ABANDONED) <= tip => self.let_go(name),
                Some(block) if block.has_data => {}
                _ => self.submit_again(name)?,
            }
        }
        // On a real chain blocks of ours are so rare that Core's own habit does.
        if unstored >= STORE_AT { self.core.store() } else { Ok(()) }
    }

    /// The height up to which the active chain would survive a crash.
    fn stored_height(&self) -> Result<Option<u32>, Error> {
        let Some(hash) = self.core.stored_tip()? else { return Ok(None) };
        let block = self.core.block(hash)?;
        Ok(block.filter(|block| block.in_active_chain()).map(|block| block.height))
    }

    fn submit_again(&mut self, name: Name) -> Result<(), Error> {
        let Some(solved) = self.read(name) else { return Ok(()) };
        let Name { height, hash } = name;
        let result = match self.core.submit_block(&solved.block)? {
            BlockOutcome::Rejected { reason } if reason.starts_with(PARENT_MISSING) => {
                tracing::debug!(%hash, height, "a block of ours waits for the one before it");
                "waiting"
            }
            BlockOutcome::Rejected { reason } => {
                tracing::error!(code = %Code::BlockRefused, %hash, height, reason, "block refused");
                self.let_go(name);
                "rejected"
            }
            _ => {
                tracing::info!(%hash, height, "block submitted again: Core had lost it");
                "accepted"
            }
        };
        self.metrics.blocks_resubmitted.get_or_create(&[("result", result)]).inc();
        Ok(())
    }

    fn read(&mut self, name: Name) -> Option<SolvedBlock> {
        let read = self.kept.read(name);
        if let Err(error) = &read {
            tracing::error!(code = %Code::BlockNotKept, %error, "a kept block cannot be read");
            // The file stays for whoever looks into it.
            self.kept.overlook(name);
        }
        read.ok()
    }

    fn let_go(&mut self, name: Name) {
        if let Err(error) = self.kept.remove(name) {
            tracing::warn!(hash = %name.hash, %error, "a block is kept for longer than needed");
        }
    }

    fn count(&self) {
        self.metrics.kept_blocks.set(self.kept.names().len() as i64);
    }
}

fn log_trouble(error: &Error) {
    tracing::warn!(%error, "kept blocks could not be looked at");
}

/// Confirmations after which nobody doubts a block: the network has it, or there is none.
const BURIED: u32 = 6;

/// Blocks of the best chain after which another block never comes back.
const ABANDONED: u32 = 100;

/// Blocks in the chain that are not on disk with it: as many make it worth to write it. Only a chain
/// without difficulty has so many before Core does so by itself.
const STORE_AT: usize = MAX_KEPT / 4;

/// Core's reason for a block whose parent it does not know.
const PARENT_MISSING: &str = "prev-blk-not-found";
