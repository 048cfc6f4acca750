//! The task of a miner's connection: reads when it may, writes what waits.
//!
//! A future by hand: an idle connection costs a few pointers here, and no buffer.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use crate::hub::Hub;
use crate::metrics::Ended;
use crate::opening;
use crate::session::{Phase, Session};

/// Reads and writes until the session is over.
pub(crate) struct Connection {
    hub: Arc<Hub>,
    session: Arc<Session>,
    read: OwnedReadHalf,
}

/// What is read at once: no line may be longer, so that one read never holds two that are.
const READ: usize = 16 * 1024;

thread_local! {
    /// One buffer for all connections of a thread: bytes stay in it only until their line is whole.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

impl Connection {
    pub(crate) fn new(hub: Arc<Hub>, session: Arc<Session>, read: OwnedReadHalf) -> Self {
        Self { hub, session, read }
    }

    /// Writes what waits; `Some` if there is nothing to be read now.
    fn before_reading(&self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let mut inner = self.session.lock();
        while inner.wire.backlog() > 0 {
            let pushed = match inner.wire.push() {
                Ok(false) => match inner.wire.poll_ready(cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => break,
                },
                other => other,
            };
            match pushed {
                Ok(_) => inner.unstick(),
                Err(_) => self.session.end(&self.hub, &mut inner, Ended::Error),
            }
        }
        if inner.phase == Phase::Closing && inner.is_over() {
            return Some(Poll::Ready(()));
        }
        (!inner.may_read(&self.hub)).then_some(Poll::Pending)
    }

    fn after_reading(&self, bytes: &[u8]) -> Option<Poll<()>> {
        let mut inner = self.session.lock();
        if bytes.is_empty() {
            let was_closing = inner.phase == Phase::Closing;
            self.session.end(&self.hub, &mut inner, Ended::Miner);
            return was_closing.then_some(Poll::Ready(()));
        }
        if inner.phase != Phase::Closing {
            self.hub.metrics.bytes_in.inc_by(bytes.len() as u64);
            opening::received(&self.hub, &self.session, &mut inner, bytes);
        }
        None
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.session.register(cx.waker());
        loop {
            if let Some(done) = this.before_reading(cx) {
                return done;
            }
            let step = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut this.read).poll_read(cx, &mut buffer) {
                    Poll::Pending => Some(Poll::Pending),
                    Poll::Ready(Ok(())) => this.after_reading(buffer.filled()),
                    Poll::Ready(Err(_)) => {
                        let mut inner = this.session.lock();
                        this.session.end(&this.hub, &mut inner, Ended::Miner);
                        Some(Poll::Ready(()))
                    }
                }
            });
            if let Some(done) = step {
                return done;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut inner = self.session.lock();
        self.session.end(&self.hub, &mut inner, Ended::Shutdown);
        inner.wire.finish();
        drop(inner);
        self.hub.left(&self.session);
    }
}
