//! What leaves an end of a link: many senders, one writer, whole batches.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::frame::Encode;

/// Above this many waiting bytes the senders should pause: about 10,000 shares.
pub const FULL: usize = 2 << 20;

/// At this many waiting bytes the other end is taken for dead: it has not read for long.
pub const OVERFLOW: usize = 64 << 20;

/// How long the last words of a link may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// A batch buffer larger than this is given back after use.
const KEEP: usize = 256 << 10;

/// The sending half of a link: cheap to clone, never waits.
#[derive(Clone, Debug)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The task's half: writes what senders queued.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Frames that the writer has not taken yet. Locked for a `memcpy` only.
    waiting: Mutex<Vec<u8>>,
    /// Length of `waiting`, to be asked without its lock.
    length: AtomicUsize,
    /// Set by whoever notices first that the link is over.
    closed: AtomicBool,
    /// Bytes that came and went since somebody asked, before encryption.
    received: AtomicU64,
    sent: AtomicU64,
    /// Wakes the writer.
    work: Notify,
    /// Wakes those who wait for room.
    room: Notify,
    /// Wakes those who wait for the end.
    end: Notify,
}

/// A sender and its writer.
pub fn queue() -> (Sender, Writer) {
    let shared = Arc::new(Shared {
        waiting: Mutex::new(Vec::new()),
        length: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        work: Notify::new(),
        room: Notify::new(),
        end: Notify::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Writer { shared })
}

impl Sender {
    /// Queues a frame. `false` if the link is over, which its reader reports as well: most callers
    /// need not look.
    pub fn send(&self, frame: &impl Encode) -> bool {
        self.send_with(|to| frame.encode_frame(to))
    }

    /// Queues what `encode` appends, which must be whole frames: several cost one lock.
    pub fn send_with(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.is_closed() {
            return false;
        }
        let (before, after) = {
            let mut waiting = self.shared.waiting.lock();
            let before = waiting.len();
            encode(&mut waiting);
            self.shared.length.store(waiting.len(), Ordering::Relaxed);
            (before, waiting.len())
        };
        if after > OVERFLOW {
            self.close();
            return false;
        }
        if before == 0 && after > 0 {
            self.shared.work.notify_one();
        }
        true
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.shared.length.load(Ordering::Relaxed)
    }

    /// Bytes received and sent since the last call, before encryption.
    pub fn take_traffic(&self) -> (u64, u64) {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        (take(&self.shared.received), take(&self.shared.sent))
    }

    /// Counts what the reading half received.
    pub(super) fn received(&self, bytes: usize) {
        self.shared.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether senders that can wait should: see [`Sender::room`].
    pub fn is_full(&self) -> bool {
        self.shared.length.load(Ordering::Relaxed) > FULL
    }

    /// Resolves when there is room, or the link is over.
    pub async fn room(&self) {
        loop {
            let room = self.shared.room.notified();
            if !self.is_full() || self.is_closed() {
                return;
            }
            room.await;
        }
    }

    /// Ends the link from this side. Queued frames go out if the other end takes them at once.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.work.notify_one();
        self.shared.room.notify_waiters();
        self.shared.end.notify_waiters();
    }

    /// Whether the link is over.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Resolves when the link is over.
    pub async fn closed(&self) {
        loop {
            let mut end = std::pin::pin!(self.shared.end.notified());
            end.as_mut().enable();
            if self.is_closed() {
                return;
            }
            end.await;
        }
    }
}

impl Writer {
    /// Writes until the link is over. What is queued while a write is under way is the next batch.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn run(self, mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
        let result = self.write_batches(&mut stream).await;
        Sender { shared: self.shared }.close();
        // So that the other end sees an end and not silence. It may well be gone.
        let _ = stream.shutdown().await;
        result
    }

    async fn write_batches(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            if self.shared.length.load(Ordering::Relaxed) == 0 {
                self.shared.work.notified().await;
            }
            // Let everybody who is ready queue first: one write and one TLS record for all.
            tokio::task::yield_now().await;
            let last = self.shared.closed.load(Ordering::Acquire);
            {
                let mut waiting = self.shared.waiting.lock();
                std::mem::swap(&mut *waiting, &mut batch);
                self.shared.length.store(0, Ordering::Relaxed);
            }
            if batch.len() > FULL {
                self.shared.room.notify_waiters();
            }
            {
                let mut writing = std::pin::pin!(write(stream, &batch));
                let over = async {
                    if !last {
                        closed(&self.shared).await;
                    }
                };
                tokio::select! {
                    biased;
                    () = over => {
                        // What was said before the end still goes out, if it can at once.
                        return tokio::time::timeout(GOODBYE, writing).await.unwrap_or(Ok(()));
                    }
                    written = &mut writing => written?,
                }
            }
            self.shared.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
            batch.clear();
            batch.shrink_to(KEEP);
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), batch: &[u8]) -> io::Result<()> {
    stream.write_all(batch).await?;
    stream.flush().await
}

async fn closed(shared: &Arc<Shared>) {
    Sender { shared: Arc::clone(shared) }.closed().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::link::frame::ToNode;

    #[tokio::test]
    async fn frames_queued_during_a_write_leave_in_order() {
        let (sender, writer) = queue();
        let (near, mut far) = tokio::io::duplex(64);
        let task = tokio::spawn(writer.run(near));
        let mut expected = Vec::new();
        for session in 0..100 {
            let frame = ToNode::Lines { session, replay: false, bytes: b"x\n" };
            frame.encode_frame(&mut expected);
            assert!(sender.send(&frame));
        }
        let mut got = vec![0; expected.len()];
        far.read_exact(&mut got).await.expect("all of it");
        assert_eq!(got, expected);
        while sender.queued() > 0 {
            tokio::task::yield_now().await;
        }
        sender.close();
        task.await.expect("no panic").expect("clean end");
        assert_eq!(sender.take_traffic(), (0, expected.len() as u64));
        assert_eq!(sender.take_traffic(), (0, 0));
        assert!(!sender.send(&ToNode::Ping));
    }

    #[tokio::test]
    async fn unread_link_reports_full_and_then_ends() {
        let (sender, writer) = queue();
        let (near, _far) = tokio::io::duplex(64);
        let task = tokio::spawn(writer.run(near));
        let bytes = vec![b'x'; 1 << 19];
        let frame = ToNode::Lines { session: 1, replay: false, bytes: &bytes };
        while sender.send(&frame) {
            tokio::task::yield_now().await;
        }
        assert!(sender.is_closed());
        task.await.expect("no panic").expect("clean end");
        sender.closed().await;
        sender.room().await;
    }
}
