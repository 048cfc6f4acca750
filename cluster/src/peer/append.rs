//! Log entries arrive in streams: one after the other, several on their way at once.
//!
//! A leader opens a new stream when an old one ended in a conflict. Frames carry the stream's
//! number, so that what was on its way of the old one does not disturb the new one.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::engine::{AppendRequest, Ledger, Raft};
use crate::peer::connection::{decode, encode};
use crate::peer::{Kind, Outbox};

/// Requests of a stream that may wait for Raft.
const QUEUE: usize = 64;

/// The receiving end of one connection's streams.
pub(crate) struct AppendLane {
    raft: Raft,
    ledger: Arc<Ledger>,
    answers: Arc<Outbox>,
    current: Option<Current>,
}

struct Current {
    stream: u64,
    entries: mpsc::Sender<AppendRequest>,
    ids: Arc<Mutex<VecDeque<u64>>>,
}

impl AppendLane {
    pub(crate) fn new(raft: Raft, ledger: Arc<Ledger>, answers: Arc<Outbox>) -> Self {
        Self { raft, ledger, answers, current: None }
    }

    /// Hands a request to Raft. Waits when Raft is behind.
    pub(crate) async fn push(&mut self, id: u64, body: &[u8]) {
        let (stream, request) = match split(body) {
            Ok(parts) => parts,
            Err(reason) => {
                let _ = self.answers.push(Kind::Refused, id, reason.as_bytes());
                return;
            }
        };
        if let Err(reason) = self.ledger.agrees_with(&request) {
            let _ = self.answers.push(Kind::Refused, id, reason.as_bytes());
            return;
        }
        if self.current.as_ref().is_none_or(|current| current.stream != stream) {
            self.current = Some(self.open(stream));
        }
        if let Some(current) = &self.current {
            current.ids.lock().push_back(id);
            // An error: the stream ended in a conflict, and the leader has been told.
            let _ = current.entries.send(request).await;
        }
    }

    fn open(&self, stream: u64) -> Current {
        let (entries, received) = mpsc::channel(QUEUE);
        let ids = Arc::new(Mutex::new(VecDeque::new()));
        let requests = futures::stream::unfold(received, |mut received| async move {
            received.recv().await.map(|request| (request, received))
        });
        let results = self.raft.append_stream(requests);
        let answers = self.answers.clone();
        let waiting = ids.clone();
        tokio::spawn(async move {
            let mut results = std::pin::pin!(results);
            while let Some(result) = results.next().await {
                let Some(id) = waiting.lock().pop_front() else { return };
                let sent = match result {
                    Ok(result) => answers.push(Kind::Done, id, &encode(&result)),
                    Err(reason) => answers.push(Kind::Refused, id, reason.as_bytes()),
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Current { stream, entries, ids }
    }
}

/// Puts a stream's number before a request.
pub(crate) fn join(stream: u64, request: &AppendRequest) -> Vec<u8> {
    let head = stream.to_le_bytes().to_vec();
    postcard::to_extend(request, head).expect("our messages can be encoded")
}

fn split(body: &[u8]) -> Result<(u64, AppendRequest), String> {
    let (stream, request) = body.split_first_chunk::<8>().ok_or("append without a stream")?;
    Ok((u64::from_le_bytes(*stream), decode(request)?))
}
