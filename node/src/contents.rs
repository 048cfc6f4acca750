//! Where the transactions of a job's block are: in a template of ours, or with a peer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use seam_bitcoin_core::Template;

use crate::jobs::Contents;

/// The transactions of a template that Core keeps for us.
pub struct OwnContents(pub Template);

impl Contents for OwnContents {
    fn transactions(&self) -> Option<Vec<Bytes>> {
        match self.0.transactions() {
            Ok(all) => Some(all.into_iter().map(|tx| Bytes::from_owner(tx.data)).collect()),
            Err(error) => {
                tracing::error!(%error, "the transactions of a template cannot be read");
                None
            }
        }
    }

    fn txids(&self) -> Vec<[u8; 32]> {
        self.0.transactions().unwrap_or_default().into_iter().map(|tx| tx.txid.0).collect()
    }
}

/// The transactions of a peer's job, as they arrive.
#[derive(Default)]
pub struct PeerContents {
    state: Mutex<Fetched>,
    changed: Condvar,
}

#[derive(Default)]
enum Fetched {
    #[default]
    UnderWay,
    Missing,
    Complete(Arc<[Bytes]>),
}

impl PeerContents {
    /// All are here.
    pub fn complete(&self, transactions: Vec<Bytes>) {
        *self.state.lock() = Fetched::Complete(transactions.into());
        self.changed.notify_all();
    }

    /// They cannot be had.
    pub fn give_up(&self) {
        *self.state.lock() = Fetched::Missing;
        self.changed.notify_all();
    }
}

impl Contents for Arc<PeerContents> {
    /// Waits for those that are under way: a block of a peer's job can be solved right behind it.
    fn transactions(&self) -> Option<Vec<Bytes>> {
        let mut state = self.state.lock();
        self.changed.wait_while_for(
            &mut state,
            |state| matches!(state, Fetched::UnderWay),
            FETCH_PATIENCE,
        );
        match &*state {
            Fetched::Complete(transactions) => Some(transactions.to_vec()),
            Fetched::UnderWay | Fetched::Missing => None,
        }
    }

    fn txids(&self) -> Vec<[u8; 32]> {
        match &*self.state.lock() {
            Fetched::Complete(transactions) => transactions
                .iter()
                .filter_map(|bytes| bitcoin::consensus::deserialize(bytes).ok())
                .map(|tx: bitcoin::Transaction| *tx.compute_txid().as_ref())
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// How long a solved block waits for transactions of a peer's job.
const FETCH_PATIENCE: Duration = Duration::from_secs(5);
