//! A watch channel whose waiters wake in the order in which they began to wait.
//!
//! Tokio's own wakes them in random order, from a generator that only a special build lets one
//! seed. With this one a simulated seed is replayed exactly by any build. Openraft uses it too.

use std::sync::Arc;

use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use tokio::sync::{Notify, watch};

/// Sets the value. Clones set the same one.
pub(crate) struct Sender<T> {
    // Dropped before the bell rings for the last time, so that whoever wakes finds it closed.
    inner: watch::Sender<T>,
    bell: Bell,
}

/// Sees the newest value.
pub(crate) struct Receiver<T> {
    inner: watch::Receiver<T>,
    rung: Arc<Notify>,
}

/// Wakes the waiters, in their order, also when a sender goes.
#[derive(Clone, Default)]
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// A channel that holds `value`.
pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { inner: watch::Sender::new(value), bell: Bell::default() }
    }

    /// Sets the value, whether anyone looks or not.
    pub(crate) fn send_replace(&self, value: T) {
        self.inner.send_replace(value);
        self.bell.0.notify_waiters();
    }

    /// Ends when nobody can look any more.
    pub(crate) async fn closed(&self) {
        self.inner.closed().await;
    }

    pub(crate) fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.inner.subscribe(), rung: self.bell.0.clone() }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), bell: self.bell.clone() }
    }
}

impl<T> Receiver<T> {
    /// The newest value, seen or not.
    pub(crate) fn borrow(&self) -> watch::Ref<'_, T> {
        self.inner.borrow()
    }

    /// The newest value, seen from now on.
    pub(crate) fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.inner.borrow_and_update()
    }

    /// Waits for a value that was not seen, and counts it as seen.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        loop {
            // Hears every ring from here on, polled or not.
            let rung = self.rung.notified();
            match self.inner.has_changed() {
                Ok(true) => {
                    self.inner.mark_unchanged();
                    return Ok(());
                }
                Ok(false) => rung.await,
                // Closed: this does not wait, and tells of a last value.
                Err(_) => return self.inner.changed().await,
            }
        }
    }

    /// Waits until the value satisfies something.
    pub(crate) async fn wait_for(
        &mut self,
        mut ok: impl FnMut(&T) -> bool,
    ) -> Result<(), watch::error::RecvError> {
        while !ok(&self.inner.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), rung: self.rung.clone() }
    }
}

/// Tells openraft to use these.
pub(crate) struct InOrder;

impl Watch for InOrder {
    type Sender<T: openraft::OptionalSend + openraft::OptionalSync> = Sender<T>;
    type Receiver<T: openraft::OptionalSend + openraft::OptionalSync> = Receiver<T>;
    type Ref<'a, T: openraft::OptionalSend + 'a> = watch::Ref<'a, T>;

    fn channel<T: openraft::OptionalSend + openraft::OptionalSync>(
        value: T,
    ) -> (Sender<T>, Receiver<T>) {
        channel(value)
    }
}

impl<T: openraft::OptionalSend + openraft::OptionalSync> WatchSender<InOrder, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.inner.send(value).map_err(|error| SendError(error.0))?;
        self.bell.0.notify_waiters();
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = self.inner.send_if_modified(modify);
        if modified {
            self.bell.0.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Sender::subscribe(self)
    }
}

impl<T: openraft::OptionalSend + openraft::OptionalSync> WatchReceiver<InOrder, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        Receiver::changed(self).await.map_err(|_| RecvError(()))
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.inner.borrow_and_update()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_the_order_in_which_they_began_to_wait() {
        // As many tasks as the runtime polls before a task that yields has its turn again.
        const WAITERS: usize = 30;
        let (tx, rx) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..WAITERS)
            .map(|i| {
                let (mut rx, woken) = (rx.clone(), woken.clone());
                tokio::spawn(async move {
                    rx.changed().await.unwrap();
                    woken.lock().push(i);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        tx.send_replace(1);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock(), (0..WAITERS).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_value_and_no_end_is_missed() {
        for _ in 0..1_000 {
            let (tx, mut rx) = channel(0);
            let waiting = tokio::spawn(async move {
                rx.wait_for(|value| *value == 2).await.unwrap();
                rx.changed().await.unwrap_err();
            });
            tx.send_replace(1);
            tx.clone().send_replace(2);
            drop(tx);
            waiting.await.unwrap();
        }
    }
}
