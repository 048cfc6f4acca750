//! A drain of the proxy: no more miners, and those that are here are told where else to go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seam_stratum::write;
use serde_json::{Value, json};

use crate::admin::now;
use crate::hub::Hub;
use crate::metrics::{Ended, labels};

/// After the last miner was told to go, those that stay are closed.
const LEAVE: Duration = Duration::from_secs(3);

/// A drain as the status shows it.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) started: f64,
    pub(crate) ended: Option<f64>,
    pub(crate) sessions: usize,
}

impl Drain {
    pub(crate) fn status(&self, name: &str, left: usize) -> Value {
        json!({
            "name": name, "started": self.started, "ended": self.ended, "sessions": self.sessions,
            "left": if self.ended.is_some() { 0 } else { left }, "recoverable": 0, "lost": 0,
        })
    }
}

/// Carries a drain out that [`Hub::start_drain`] began: waits a while, then sends the miners to
/// the public endpoint, spread over the configured jitter.
pub(crate) async fn run(hub: Arc<Hub>) {
    let began = Instant::now();
    let all = hub.session_count();
    hub.metrics.draining.set(1);
    tracing::info!(sessions = all, "draining");
    if all > 0 {
        tokio::time::sleep(Duration::from_secs(hub.config.moves.stop_after_seconds)).await;
        send_away(&hub).await;
    }
    let left = hub.session_count();
    let result = match (hub.is_stopping(), left) {
        (false, _) => "undone",
        (true, 0) => "done",
        (true, _) => "timeout",
    };
    hub.metrics.drains.get_or_create(&labels([("result", result)])).inc();
    hub.metrics.drain_seconds.observe(began.elapsed().as_secs_f64());
    hub.metrics.draining.set(i64::from(hub.is_stopping()));
    hub.drain_ended(now());
    tracing::info!(sessions = all, left, result, "drained");
}

/// Tells each miner where to connect again, when its turn comes, and closes it.
async fn send_away(hub: &Arc<Hub>) {
    let mut sessions = hub.sessions();
    sessions.sort_by_key(|session| hub.jitter(session.id));
    let began = Instant::now();
    let mut line = Vec::new();
    let public = hub.config.public();
    write::reconnect(&mut line, public, 0);
    for session in sessions {
        let due = hub.jitter(session.id);
        if let Some(wait) = due.checked_sub(began.elapsed()) {
            tokio::time::sleep(wait).await;
        }
        if !hub.is_stopping() {
            return;
        }
        let mut inner = session.lock();
        // Without an endpoint to name, several miners ignore it.
        if public.is_some() {
            session.send(hub, &mut inner, &line);
        }
        session.end(hub, &mut inner, Ended::Shutdown);
        drop(inner);
        hub.metrics.drain_sessions.set(hub.session_count() as i64);
    }
    let deadline = Instant::now() + LEAVE;
    while hub.session_count() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
