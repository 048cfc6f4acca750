//! The running Core: start, calls, stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::block::{Block, BlockCheck, BlockOutcome, Tip, seconds};
use crate::error::Error;
use crate::ffi::{self, RawTemplateOptions};
use crate::hash::{BlockHash, Txid, Wtxid};
use crate::options::{Chain, Options};
use crate::template::{Template, TemplateOptions};

/// Set by the first start of this process, for good: Core's globals cannot be set up twice.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The Bitcoin Core of this process, running. Clones are the same Core; it stops with
/// [`Core::stop`], or when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Core {
    shared: Arc<Shared>,
}

/// Asks Core to stop, from any thread, at any time: while it starts, while it downloads blocks,
/// while calls wait. It may be made before there is a Core, and outlive it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stop;

/// Why Core wants to stop, or was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// What went wrong, in Core's words, if it stops by itself: a full disk, a corrupted database.
    pub error: Option<String>,
}

/// What Core is doing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The chain it follows.
    pub chain: Chain,
    /// The last block of the active chain.
    pub tip: Tip,
    /// The height of the best header it knows; above the tip's while it downloads blocks.
    pub headers_height: u32,
    /// The time in that header.
    pub headers_time: u32,
    /// Core's estimate of the share of all transactions that it has verified, 0 to 1.
    pub verification_progress: f64,
    /// Initial block download: the tip is too old, or has too little work, to be the network's.
    pub initial_block_download: bool,
    /// Peers that connected to it.
    pub peers_inbound: u32,
    /// Peers that it connected to.
    pub peers_outbound: u32,
    /// Transactions in the mempool.
    pub mempool_transactions: u64,
    /// Their virtual size in bytes.
    pub mempool_bytes: u64,
}

impl Stop {
    /// Asks Core to stop and returns at once. A start that is under way fails with
    /// [`Error::Stopping`], as does a start that comes later; so do waits and later calls.
    /// [`Core::stop`] has still to be called, and does the work.
    pub fn request(self) {
        ffi::request_stop();
    }
}

impl Core {
    /// Starts Core and returns when its chain is loaded and it talks to peers: a fraction of a
    /// second for a short chain, minutes if block files have to be imported or indexed anew. Blocks
    /// that are missing are downloaded later, see [`Status::initial_block_download`].
    ///
    /// Stands on what `bitcoind.cpp` does, up to `AppInitMain`.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`], [`Error::BadOption`], [`Error::DataDirectory`], [`Error::Start`],
    /// and [`Error::Stopping`] after [`Stop::request`]. Core has cleaned up behind itself then, but
    /// cannot be started again in this process.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let arguments = options.arguments()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyStarted);
        }
        // Core makes it if the option is left to its default only.
        std::fs::create_dir_all(&options.data_dir).map_err(|error| {
            Error::DataDirectory(format!("{}: {error}", options.data_dir.display()))
        })?;
        ffi::start(&arguments)?;
        Ok(Self {
            shared: Arc::new(Shared {
                chain: options.chain.clone(),
                gate: Mutex::new(Gate::default()),
                changed: Condvar::new(),
            }),
        })
    }

    /// The chain it was started with.
    pub fn chain(&self) -> &Chain {
        &self.shared.chain
    }

    /// What Core is doing. Waits for a block that is being validated.
    pub fn status(&self) -> Result<Status, Error> {
        let _call = self.shared.enter()?;
        let raw = ffi::status()?;
        Ok(Status {
            chain: self.shared.chain.clone(),
            tip: Tip {
                hash: BlockHash(raw.tip),
                height: raw.height.unsigned_abs(),
                time: seconds(raw.tip_time),
                median_time_past: seconds(raw.median_time_past),
            },
            headers_height: raw.headers_height.unsigned_abs(),
            headers_time: seconds(raw.headers_time),
            verification_progress: raw.verification_progress,
            initial_block_download: raw.initial_block_download != 0,
            peers_inbound: raw.peers_inbound,
            peers_outbound: raw.peers_outbound,
            mempool_transactions: raw.mempool_transactions,
            mempool_bytes: raw.mempool_bytes,
        })
    }

    /// Waits until the tip is another than `known`, and returns it; `None` when the time has passed
    /// first. Core may be a block further by then: compare hashes, do not count returns.
    ///
    /// Stands on `interfaces::Mining::waitTipChanged`.
    pub fn wait_for_tip(&self, known: BlockHash, timeout: Duration) -> Result<Option<Tip>, Error> {
        let _call = self.shared.enter()?;
        Ok(ffi::wait_tip(&known, timeout)?.map(Tip::from))
    }

    /// Makes a template on the present tip, also during initial block download: see
    /// [`Status::initial_block_download`] before mining on it.
    ///
    /// Stands on `interfaces::Mining::createNewBlock` without cooldown.
    ///
    /// # Errors
    /// [`Error::Failed`] for options that contradict Core's limits, or a template that fails its
    /// check.
    pub fn template(&self, options: &TemplateOptions) -> Result<Template, Error> {
        let _call = self.shared.enter()?;
        Template::new(ffi::template_new(&RawTemplateOptions::from(options))?)
    }

    /// Waits until there is a better template than `current`, made with the same options: for a new
    /// tip, or for fees that are higher by at least `fee_threshold` satoshi (`None`: whatever the
    /// fees). Fees are looked at once a second. `None` when the time has passed first.
    ///
    /// Where the chain allows blocks of minimum difficulty (regtest, test chains), it returns within
    /// a second whenever the tip is more than 20 minutes old.
    ///
    /// Stands on `interfaces::BlockTemplate::waitNext`.
    pub fn wait_for_template(
        &self,
        current: &Template,
        fee_threshold: Option<u64>,
        timeout: Duration,
    ) -> Result<Option<Template>, Error> {
        let _call = self.shared.enter()?;
        let next = ffi::template_wait(current.handle(), fee_threshold, timeout)?;
        next.map(Template::new).transpose()
    }

    /// Completes the template's block and submits it: [`Core::submit_block`], but the transactions
    /// need not be passed. `coinbase` is the transaction with its witness; the merkle root is
    /// computed here.
    ///
    /// Stands on `node::AddMerkleRootAndCoinbase` and `ChainstateManager::ProcessNewBlock`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the coinbase does not decode. A bad block is no error, but
    /// [`BlockOutcome::Rejected`].
    pub fn submit_solution(
        &self,
        template: &Template,
        version: i32,
        time: u32,
        nonce: u32,
        coinbase: &[u8],
    ) -> Result<BlockOutcome, Error> {
        let _call = self.shared.enter()?;
        BlockOutcome::new(ffi::template_submit(template.handle(), version, time, nonce, coinbase)?)
    }

    /// Submits a whole block, serialized with witnesses. A block with valid work on the tip is
    /// relayed to peers before it is connected or stored.
    ///
    /// Stands on `ChainstateManager::ProcessNewBlock`, as the `submitblock` RPC does, except that
    /// the coinbase has to have its witness.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes do not decode. A bad block is no error, but
    /// [`BlockOutcome::Rejected`].
    pub fn submit_block(&self, block: &[u8]) -> Result<BlockOutcome, Error> {
        let _call = self.shared.enter()?;
        BlockOutcome::new(ffi::submit_block(block)?)
    }

    /// Whether a block would be valid on the present tip, without submitting it. Not checking the
    /// proof of work leaves out a signet's challenge, too.
    ///
    /// Stands on `interfaces::Mining::checkBlock`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes do not decode.
    pub fn check_block(
        &self,
        block: &[u8],
        check_pow: bool,
        check_merkle_root: bool,
    ) -> Result<BlockCheck, Error> {
        let _call = self.shared.enter()?;
        BlockCheck::new(ffi::check_block(block, check_pow, check_merkle_root))
    }

    /// Whether a template is valid on the present tip: what [`TemplateOptions::check`] leaves out,
    /// for later. It is Core's dummy coinbase that is checked with it.
    ///
    /// Stands on `interfaces::Mining::checkBlock`.
    pub fn check_template(&self, template: &Template) -> Result<BlockCheck, Error> {
        let _call = self.shared.enter()?;
        BlockCheck::new(ffi::template_check(template.handle()))
    }

    /// Transactions with their witnesses, from the mempool or any [`Template`] that still exists;
    /// `None` for those found in neither.
    pub fn transactions_by_wtxid(&self, wtxids: &[Wtxid]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let _call = self.shared.enter()?;
        wtxids.iter().map(ffi::transaction_by_wtxid).collect()
    }

    /// Puts a transaction into the mempool and relays it. One that is in the mempool already is
    /// relayed again, which is no error. `max_fee` is a guard in satoshi; 0 allows any fee.
    ///
    /// Stands on `interfaces::Node::broadcastTransaction`.
    ///
    /// # Errors
    /// [`Error::Malformed`], and [`Error::Rejected`] with the reason the mempool gives.
    pub fn submit_transaction(&self, transaction: &[u8], max_fee: u64) -> Result<Txid, Error> {
        let _call = self.shared.enter()?;
        ffi::transaction_submit(transaction, max_fee)
    }

    /// The script that pays to an address of the chain Core follows.
    ///
    /// # Errors
    /// [`Error::Rejected`] with what is wrong: another chain's address, a typo.
    pub fn address_script(&self, address: &str) -> Result<Vec<u8>, Error> {
        let _call = self.shared.enter()?;
        ffi::address_script(address)
    }

    /// What Core knows of a block: how deep it is in the active chain, or that it is not in it.
    /// `None` if Core has not heard of it.
    pub fn block(&self, hash: BlockHash) -> Result<Option<Block>, Error> {
        let _call = self.shared.enter()?;
        Ok(ffi::block(&hash)?.map(Block::from))
    }

    /// The hash of the active chain's block at that height; `None` above the tip.
    pub fn block_hash_at(&self, height: u32) -> Result<Option<BlockHash>, Error> {
        let _call = self.shared.enter()?;
        ffi::block_at(height)
    }

    /// The whole block, serialized with witnesses. `None` if Core has not got it, or has pruned it.
    pub fn read_block(&self, hash: BlockHash) -> Result<Option<Vec<u8>>, Error> {
        let _call = self.shared.enter()?;
        ffi::block_read(&hash)
    }

    /// The block up to which the chain is on disk: what is left of it after a crash. Core writes
    /// once an hour and when it stops; a block that came since is known to its peers, at best.
    /// `None` if nothing was written yet.
    ///
    /// Stands on the best block of `CCoinsViewDB`, which is written behind the block index.
    pub fn stored_tip(&self) -> Result<Option<BlockHash>, Error> {
        let _call = self.shared.enter()?;
        ffi::stored_tip()
    }

    /// Writes the chain to disk now. Core does nothing else meanwhile: milliseconds for a short
    /// chain, seconds if hundreds of megabytes of unspent outputs changed since the last time.
    ///
    /// Stands on `Chainstate::ForceFlushStateToDisk`.
    pub fn store(&self) -> Result<(), Error> {
        let _call = self.shared.enter()?;
        ffi::store()
    }

    /// Waits until Core is to stop, because it was asked to or by itself, and says why; `None` when
    /// the time has passed first. A zero timeout asks without waiting. Whoever runs Core has to
    /// watch this: after a full disk or a corrupted database Core goes on answering, but its chain
    /// stands still, until [`Core::stop`].
    pub fn wait_for_shutdown_request(&self, timeout: Duration) -> Option<Shutdown> {
        // The shim fails only if its mutex does; that is no state to go on mining in either.
        let reason = ffi::wait_shutdown(timeout).unwrap_or_else(|error| Some(error.to_string()))?;
        Some(Shutdown { error: (!reason.is_empty()).then_some(reason) })
    }

    /// Stops Core: ends every wait, lets calls that are under way finish, writes everything to disk
    /// and closes it. Takes as long as writing the cache of unspent outputs does. Of several calls
    /// one does the work and the others wait for it; later ones return the same result. Other
    /// clones' calls are [`Error::Stopping`] from now on. Templates may be kept.
    ///
    /// # Errors
    /// [`Error::Failed`] if Core had a fatal error before, or while it stopped.
    pub fn stop(&self) -> Result<(), Error> {
        self.shared.stop()
    }
}

/// What the clones of a [`Core`] share.
#[derive(Debug)]
struct Shared {
    /// Constant; kept to answer for it.
    chain: Chain,
    /// Keeps Core from being torn down under a call.
    gate: Mutex<Gate>,
    /// Notified when a call ends or Core has stopped.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    /// No call may begin any more.
    is_closed: bool,
    /// Calls that are inside the shim.
    calls: usize,
    /// How it ended.
    stopped: Option<Result<(), Error>>,
}

/// A call that is inside the shim.
struct Call<'a>(&'a Shared);

impl Shared {
    fn enter(&self) -> Result<Call<'_>, Error> {
        let mut gate = self.gate();
        if gate.is_closed {
            return Err(Error::Stopping);
        }
        gate.calls += 1;
        Ok(Call(self))
    }

    fn stop(&self) -> Result<(), Error> {
        let mut gate = self.gate();
        if gate.is_closed {
            let gate = self
                .changed
                .wait_while(gate, |gate| gate.stopped.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            return gate.stopped.clone().unwrap_or(Ok(()));
        }
        gate.is_closed = true;
        drop(gate);
        ffi::request_stop();
        let gate = self
            .changed
            .wait_while(self.gate(), |gate| gate.calls > 0)
            .unwrap_or_else(PoisonError::into_inner);
        drop(gate);
        let result = ffi::stop();
        self.gate().stopped = Some(result.clone());
        self.changed.notify_all();
        result
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing panics while it is held, and its counts stay right even so.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.gate().calls -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Core must not be running when the process's globals are destroyed. Whoever wants to hear
        // of an error stops it by hand.
        if self.gate().is_closed {
            return;
        }
        if let Err(error) = self.stop() {
            tracing::error!(%error, "stopping Bitcoin Core");
        }
    }
}
