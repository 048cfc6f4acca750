//! Where a connection's task finds what happened while it waited.

use std::sync::Arc;

use parking_lot::Mutex;
use seam_cluster::ledger::ShareOutcome;
use seam_cluster::{Completion, Unavailable};
use tokio::sync::Notify;

use crate::session::{Event, Inbox};

/// Events for one session. Bounded by what the session waits for: one for each open request, and
/// one takeover.
pub struct Mailbox {
    events: Mutex<Vec<(u64, Event)>>,
    notify: Notify,
}

impl Mailbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), notify: Notify::new() })
    }

    /// Makes the task look at the world: a new job, a drain.
    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take(&self) -> Vec<(u64, Event)> {
        std::mem::take(&mut *self.events.lock())
    }
}

impl Completion for Mailbox {
    fn complete(&self, token: u64, answer: Result<ShareOutcome, Unavailable>) {
        self.events.lock().push((token, Event::Share(answer)));
    }

    fn flush(&self) {
        self.notify.notify_one();
    }
}

impl Inbox for Mailbox {
    fn post(&self, token: u64, event: Event) {
        self.events.lock().push((token, event));
        self.notify.notify_one();
    }
}
