//! The pace of moves: away from nodes that drain or are not ready, and home to those that are back;
//! and the sweep that looks for what takes too long.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use seam_cluster::link::queue as link;
use tokio::time::{MissedTickBehavior, interval};

use crate::hub::{Hub, Node};
use crate::metrics::{Why, labels};
use crate::session::{Phase, Session};
use crate::uplink::Uplink;

/// How often some sessions are moved: short, so that few wait at a time.
const STEP: Duration = Duration::from_millis(10);

/// How often all sessions are looked at.
const SWEEP: Duration = Duration::from_millis(250);

/// How often sessions away from home are looked for.
const LOOK_HOME: Duration = Duration::from_millis(500);

/// A drain takes at most about this long, whatever the configured rate.
const DRAIN_WITHIN: f64 = 8.0;

/// Moves sessions for as long as it is polled.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut tick = interval(STEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut leaving, mut home) = (HashMap::new(), Queue::default());
    let (mut last, mut looked, mut swept) = (Instant::now(), Instant::now(), Instant::now());
    loop {
        tick.tick().await;
        let now = Instant::now();
        let passed = (now - last).as_secs_f64().min(0.25);
        last = now;
        let nodes = hub.nodes();
        evacuate(&hub, nodes.values(), &mut leaving, passed, now);
        if now - looked >= LOOK_HOME {
            looked = now;
            if home.sessions.is_empty() && hub.unsettled.load(Ordering::Relaxed) {
                look_home(&hub, nodes.values(), &mut home, now);
            }
        }
        for session in home.take(f64::from(hub.config.moves.return_rate) * passed) {
            hub.begin_move(&session, Why::Return);
        }
        if now - swept >= SWEEP {
            swept = now;
            sweep(&hub, now);
        }
    }
}

/// Sessions that are to move, and the fraction of one that is due.
#[derive(Debug, Default)]
struct Queue {
    sessions: VecDeque<Arc<Session>>,
    due: f64,
}

impl Queue {
    fn take(&mut self, more: f64) -> Vec<Arc<Session>> {
        // What was due and was not there does not add up to a burst.
        self.due = (self.due + more).min(self.sessions.len() as f64);
        let count = self.due as usize;
        self.due -= count as f64;
        self.sessions.drain(..count).collect()
    }
}

fn evacuate<'a>(
    hub: &Hub,
    nodes: impl Iterator<Item = &'a Node>,
    leaving: &mut HashMap<usize, (Queue, f64)>,
    passed: f64,
    now: Instant,
) {
    let patience = Duration::from_millis(hub.config.moves.not_ready_ms);
    let mut still = Vec::new();
    for node in nodes {
        let Some(uplink) = &node.uplink else { continue };
        let why = if node.draining {
            Why::Drain
        } else if !node.ready && now.saturating_duration_since(node.since) >= patience {
            Why::NotReady
        } else {
            continue;
        };
        if uplink.count() == 0 || hub.view().ring.is_empty() {
            continue;
        }
        let key = Arc::as_ptr(uplink) as usize;
        still.push(key);
        let (queue, rate) = leaving.entry(key).or_insert_with(|| {
            let rate = f64::from(hub.config.moves.drain_rate);
            (Queue::default(), rate.max(uplink.count() as f64 / DRAIN_WITHIN))
        });
        if queue.sessions.is_empty() {
            queue.sessions.extend(uplink.sessions());
        }
        let pace = if why == Why::NotReady { f64::INFINITY } else { *rate * passed };
        for session in queue.take(pace) {
            hub.begin_move(&session, why);
        }
    }
    leaving.retain(|key, _| still.contains(key));
}

/// Finds the sessions that belong to another node than they are on, once that node has been ready
/// for a while.
fn look_home<'a>(hub: &Hub, nodes: impl Iterator<Item = &'a Node>, home: &mut Queue, now: Instant) {
    hub.unsettled.store(false, Ordering::Relaxed);
    let patience = Duration::from_secs(hub.config.moves.return_after_seconds);
    let (settled, fresh): (Vec<_>, Vec<_>) = nodes
        .filter(|node| node.ready && !node.draining)
        .filter_map(|node| Some((node.uplink.clone()?, node.since)))
        .partition(|(_, since)| now.saturating_duration_since(*since) >= patience);
    let settled: Vec<Arc<Uplink>> = settled.into_iter().map(|(uplink, _)| uplink).collect();
    let view = hub.view();
    for session in hub.sessions() {
        let inner = session.lock();
        let (Phase::Live, Some((at, _)), Some(sid)) = (inner.phase, &inner.at, &inner.sid) else {
            continue;
        };
        let Some(owner) = view.owner(sid) else { continue };
        if !Arc::ptr_eq(owner, at) && settled.iter().any(|uplink| Arc::ptr_eq(uplink, owner)) {
            drop(inner);
            home.sessions.push_back(session);
        }
    }
    if !home.sessions.is_empty() || !fresh.is_empty() {
        hub.unsettled.store(true, Ordering::Relaxed);
    }
}

/// Looks at every session's clock, and adds up what the metrics say of all.
fn sweep(hub: &Hub, now: Instant) {
    let (mut held, mut open, mut memory) = (0, 0, 0);
    for session in hub.sessions() {
        session.sweep(hub, now);
        let inner = session.lock();
        held += i64::from(inner.phase == Phase::Held);
        open += inner.unanswered.len();
        memory += inner.memory();
    }
    let metrics = &hub.metrics;
    metrics.sessions_held.set(held);
    metrics.session_memory_bytes.set(memory as i64);
    let limits = &hub.config.limits;
    metrics.queue("held", held as usize, limits.connections);
    metrics.queue("unanswered", open, limits.connections.saturating_mul(limits.session_bytes));
    metrics.queue("parked", hub.sweep_parked(now), limits.parked_sessions);
    metrics.banned_addresses.set(hub.addresses.banned() as i64);
    let view = hub.view();
    let mut queued = 0;
    for (name, node) in hub.nodes() {
        let label = labels([("node", &*name)]);
        let up = i64::from(node.uplink.is_some());
        metrics.link_up.get_or_create(&label).set(up);
        metrics.link_ready.get_or_create(&label).set(i64::from(node.ready));
        let count = node.uplink.as_ref().map_or(0, |uplink| uplink.count());
        if let Some(uplink) = &node.uplink {
            uplink.count_traffic(metrics);
            queued = queued.max(uplink.sender.queued());
        }
        metrics.link_sessions.get_or_create(&label).set(count as i64);
        metrics.ring_ratio.get_or_create(&label).set(view.ring.ratio(&name));
    }
    // Of the link that has the most waiting.
    metrics.queue("link", queued, link::OVERFLOW);
    let ready = hub.is_ready();
    metrics.ready.set(i64::from(ready));
    for (condition, holds) in [("node", !view.ring.is_empty()), ("serving", !hub.is_stopping())] {
        let label = labels([("condition", condition)]);
        metrics.ready_condition.get_or_create(&label).set(i64::from(holds));
    }
}
