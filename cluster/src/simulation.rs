//! What a simulation puts in the place of the world: a disk in memory, seeded randomness, and, in
//! builds for tests only, ways to break the promises on purpose.

pub use crate::engine::seed_thread;
pub use crate::store::MemoryStorage;

/// A promise to break, so that a test can see its checker notice.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Shares are answered before a quorum has them.
    AcknowledgeBeforeCommit,
    /// The ledger does not look for repeats.
    SkipDedupe,
}

#[cfg(feature = "sabotage")]
thread_local! {
    static SABOTAGE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// Breaks a promise on this thread from now on, or none.
#[cfg(feature = "sabotage")]
pub fn sabotage(promise: Option<Sabotage>) {
    SABOTAGE.set(promise);
}

#[cfg(feature = "sabotage")]
pub(crate) fn acknowledges_before_commit() -> bool {
    SABOTAGE.get() == Some(Sabotage::AcknowledgeBeforeCommit)
}

#[cfg(not(feature = "sabotage"))]
pub(crate) fn acknowledges_before_commit() -> bool {
    false
}

/// The command as the ledger is to see it at this place of the log.
#[cfg(feature = "sabotage")]
pub(crate) fn as_applied(
    index: u64,
    mut command: crate::ledger::Command,
) -> crate::ledger::Command {
    if SABOTAGE.get() == Some(Sabotage::SkipDedupe)
        && let crate::ledger::Command::Shares { batch, .. } = &mut command
    {
        for share in batch {
            share.hash16[8..].copy_from_slice(&index.to_le_bytes());
        }
    }
    command
}

#[cfg(not(feature = "sabotage"))]
pub(crate) fn as_applied(_: u64, command: crate::ledger::Command) -> crate::ledger::Command {
    command
}
