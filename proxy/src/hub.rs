//! The hub: which nodes there are, which session belongs where, and how it gets there.

mod nodes;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use seam_cluster::link::frame::{ByProxy, Encode, Opening, ToNode};
use seam_cluster::ring::{Ring, load_bound};
use seam_stratum::configure::Policy;
use seam_stratum::{Extranonce1, Sid, SidKey};
use tokio::sync::Notify;

pub(crate) use self::nodes::{Node, View};
use crate::admin::now;
use crate::config::Config;
use crate::drain::Drain;
use crate::limits::Addresses;
use crate::metrics::{Metrics, Why, labels};
use crate::numbers::{LOW, Numbers};
use crate::parked::Parked;
use crate::session::{Inner, Phase, Session};
use crate::uplink::Uplink;

/// What all parts of a proxy share.
#[derive(Debug)]
pub struct Hub {
    pub(crate) config: Config,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) policy: Policy,
    nodes: Mutex<BTreeMap<Arc<str>, Node>>,
    /// Where sessions may be: swapped whole when a node comes or goes.
    view: ArcSwap<View>,
    sid_key: ArcSwapOption<SidKey>,
    /// The cluster that the first node named; no other is talked to.
    cluster: Mutex<Option<String>>,
    numbers: Mutex<Numbers>,
    /// When a range was asked for that has not come.
    range_asked: Mutex<Option<Instant>>,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    next_session: AtomicU64,
    /// Who has which extranonce1 here.
    holders: Mutex<HashMap<Extranonce1, Arc<Session>>>,
    /// Tickets of those whose connection went.
    parked: Mutex<Parked>,
    /// A member came or went: its link has to be kept up, or let go.
    pub(crate) members_changed: Notify,
    /// Sessions may be away from home.
    pub(crate) unsettled: AtomicBool,
    stopping: AtomicBool,
    drains: Mutex<VecDeque<Drain>>,
}

/// Drains that the status remembers.
const MAX_DRAINS: usize = 10;

/// A range that was asked for and has not come is asked for again.
const RANGE_PATIENCE: Duration = Duration::from_secs(2);

impl Hub {
    /// A hub that knows no node yet.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Arc<Self> {
        let addresses = Arc::new(Addresses::new(config.limits.clone(), Arc::clone(&metrics)));
        let policy =
            Policy { version_mask: config.version_mask().unwrap_or_default(), ..Policy::default() };
        Arc::new(Self {
            config,
            metrics,
            addresses,
            policy,
            nodes: Mutex::default(),
            view: ArcSwap::from_pointee(View { ring: Ring::new([]), uplinks: Vec::new() }),
            sid_key: ArcSwapOption::empty(),
            cluster: Mutex::default(),
            numbers: Mutex::default(),
            range_asked: Mutex::default(),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            holders: Mutex::default(),
            parked: Mutex::default(),
            members_changed: Notify::new(),
            unsettled: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            drains: Mutex::default(),
        })
    }

    // Sessions.

    pub(crate) fn next_id(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn joined(&self, session: &Arc<Session>) {
        self.sessions.lock().insert(session.id, Arc::clone(session));
    }

    pub(crate) fn left(&self, session: &Session) {
        self.sessions.lock().remove(&session.id);
    }

    /// All sessions, as they are now.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().values().cloned().collect()
    }

    /// How many they are.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    pub(crate) fn forget(&self, extranonce1: Extranonce1, session: &Session) {
        let mut holders = self.holders.lock();
        if holders.get(&extranonce1).is_some_and(|holder| std::ptr::eq(&**holder, session)) {
            holders.remove(&extranonce1);
        }
    }

    /// Keeps the ticket of a session whose connection went.
    pub(crate) fn park(&self, extranonce1: Extranonce1, ticket: Box<[u8]>) {
        let most = self.config.limits.parked_sessions;
        self.parked.lock().keep(extranonce1, ticket, Instant::now(), most);
    }

    /// Forgets tickets that nobody came back for; how many are left.
    pub(crate) fn sweep_parked(&self, now: Instant) -> usize {
        let mut parked = self.parked.lock();
        parked.sweep(now, Duration::from_secs(self.config.limits.parked_seconds));
        parked.len()
    }

    /// A part of the configured jitter that is a session's own.
    pub(crate) fn jitter(&self, id: u64) -> Duration {
        let whole = Duration::from_secs(self.config.moves.jitter_seconds);
        let part = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as f64 / 2_f64.powi(32);
        whole.mul_f64(part)
    }

    // Where sessions belong.

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    pub(crate) fn belongs_to(&self, inner: &Inner, uplink: &Arc<Uplink>) -> bool {
        let view = self.view.load();
        let owner = inner.sid.as_ref().and_then(|sid| view.owner(sid));
        owner.is_some_and(|owner| Arc::ptr_eq(owner, uplink))
    }

    /// Opens a held session on the node that owns it; `false` if there is none.
    pub(crate) fn place(&self, session: &Arc<Session>, inner: &mut Inner) -> bool {
        debug_assert!(inner.phase == Phase::Held && inner.at.is_none());
        let view = self.view.load();
        let Some(sid) = inner.sid.or_else(|| self.name(&view, session, inner)) else {
            return false;
        };
        let Some(uplink) = view.owner(&sid) else {
            return false;
        };
        let Some(number) = uplink.add(session) else {
            return false;
        };
        let opening = Opening {
            extranonce1: sid.extranonce1(),
            resume: inner.resume,
            moved: inner.ticket.is_some() && !inner.earlier_ticket,
            peer: inner.peer,
            version_mask: inner.configured.version_mask,
            minimum_difficulty: inner.configured.minimum_difficulty,
            extranonce_subscribed: inner.configured.subscribe_extranonce,
            ticket: inner.ticket.as_deref(),
        };
        let (open, unsent) = (inner.unanswered.open(), inner.unanswered.unsent());
        uplink.sender.send_with(|to| {
            ToNode::Open { session: number, opening }.encode_frame(to);
            for (replay, bytes) in [(true, open), (false, unsent)] {
                if !bytes.is_empty() {
                    ToNode::Lines { session: number, replay, bytes }.encode_frame(to);
                }
            }
        });
        let replayed = open.iter().filter(|byte| **byte == b'\n').count();
        self.metrics.replayed_submits.inc_by(replayed as u64);
        inner.settle_at(Arc::clone(uplink), number);
        if let Some((since, why)) = inner.homeless.take() {
            self.metrics.moved(why, "moved");
            self.metrics
                .move_seconds
                .get_or_create(&labels([("reason", why.label())]))
                .observe(since.elapsed().as_secs_f64());
        }
        session.wake();
        true
    }

    /// Starts to move a session to the node that owns it now: at once if nothing is open.
    pub(crate) fn begin_move(&self, session: &Arc<Session>, why: Why) {
        let mut inner = session.lock();
        let inner = &mut *inner;
        let (Phase::Live, Some((uplink, _)), None) = (inner.phase, &inner.at, inner.moving) else {
            return;
        };
        if self.belongs_to(inner, uplink) || self.view.load().ring.is_empty() {
            return;
        }
        let now = Instant::now();
        inner.moving = Some((now, why));
        inner.homeless = Some((now, why));
        // From a node that is not ready no answers come, so none are waited for.
        if why == Why::NotReady || inner.unanswered.is_settled() {
            self.finish_move(session, inner);
        }
    }

    /// Moves a session now: what is still open goes along.
    pub(crate) fn finish_move(&self, session: &Arc<Session>, inner: &mut Inner) {
        let Some((_, why)) = inner.moving.take() else { return };
        let Some((uplink, number)) = inner.at.clone() else { return };
        if self.belongs_to(inner, &uplink) || self.view.load().ring.is_empty() {
            // Nowhere to go any more: it stays, and what came meanwhile goes to its old node.
            inner.homeless = None;
            self.metrics.moved(why, "recoverable");
            let unsent = inner.unanswered.unsent();
            if !unsent.is_empty() {
                uplink.sender.send(&ToNode::Lines {
                    session: number,
                    replay: false,
                    bytes: unsent,
                });
                inner.unanswered.all_sent();
            }
            return session.wake();
        }
        uplink.remove(number);
        uplink.sender.send(&ToNode::Close { session: number, why: ByProxy::Moved });
        inner.hold();
        self.place(session, inner);
    }

    /// Gives a session its sid: the one it asked for if that is ours, or a fresh one on a node that
    /// has room.
    fn name(&self, view: &View, session: &Arc<Session>, inner: &mut Inner) -> Option<Sid> {
        let key = self.sid_key.load_full()?;
        let wanted = inner.wanted.take();
        if let Some(wanted) = wanted.filter(|sid| Sid::verify(&key, &sid.to_string()).is_some()) {
            let old = self.holders.lock().insert(wanted.extranonce1(), Arc::clone(session));
            inner.ticket = match old {
                Some(old) => old.take_over(self),
                None => self.parked.lock().take(wanted.extranonce1()),
            };
            inner.earlier_ticket = true;
            inner.resume = true;
            inner.sid = Some(wanted);
            return inner.sid;
        }
        let total: usize = view.uplinks.iter().map(|uplink| uplink.count()).sum();
        let bound = load_bound(total, view.uplinks.len());
        let mut holders = self.holders.lock();
        let mut numbers = self.numbers.lock();
        let sid = loop {
            let number = numbers.draw(|number| {
                let sid = Sid::mint(&key, Extranonce1(number));
                view.owner(&sid).is_some_and(|owner| owner.count() < bound)
            })?;
            if !holders.contains_key(&Extranonce1(number)) {
                break Sid::mint(&key, Extranonce1(number));
            }
        };
        if numbers.left() < LOW {
            self.ask_for_range(view);
        }
        holders.insert(sid.extranonce1(), Arc::clone(session));
        inner.sid = Some(sid);
        inner.sid
    }

    // Numbers.

    /// Asks for more numbers if there are few.
    pub(crate) fn keep_numbers(&self) {
        if self.numbers.lock().left() < LOW {
            self.ask_for_range(&self.view.load());
        }
    }

    fn ask_for_range(&self, view: &View) {
        let mut asked = self.range_asked.lock();
        if asked.is_some_and(|at| at.elapsed() < RANGE_PATIENCE) {
            return;
        }
        let turn = self.next_session.load(Ordering::Relaxed) as usize;
        if let Some(uplink) = view.uplinks.get(turn % view.uplinks.len().max(1)) {
            uplink.sender.send(&ToNode::RangeWanted);
            *asked = Some(Instant::now());
        }
    }

    pub(crate) fn range_came(&self, first: u32, count: u32) {
        *self.range_asked.lock() = None;
        self.numbers.lock().add(first, count);
        self.place_held();
    }

    // The whole.

    /// Nodes that take sessions now.
    pub fn ready_nodes(&self) -> usize {
        self.view.load().uplinks.len()
    }

    /// Whether miners can be served: a ready node is linked, and the proxy does not stop.
    pub fn is_ready(&self) -> bool {
        !self.view.load().ring.is_empty() && !self.is_stopping()
    }

    /// Whether the proxy takes no more miners.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Takes no more miners; `false` if that is so already.
    pub(crate) fn start_drain(&self) -> bool {
        let begun = !self.stopping.swap(true, Ordering::Relaxed);
        if begun {
            let mut drains = self.drains.lock();
            drains.push_front(Drain {
                started: now(),
                ended: None,
                sessions: self.session_count(),
            });
            drains.truncate(MAX_DRAINS);
        }
        begun
    }

    /// Takes miners again.
    pub(crate) fn end_drain(&self) {
        self.stopping.store(false, Ordering::Relaxed);
        self.metrics.draining.set(0);
    }

    pub(crate) fn drain_ended(&self, time: f64) {
        if let Some(drain) = self.drains.lock().front_mut() {
            drain.ended = Some(time);
        }
    }

    /// The drains of this proxy, newest first, as the status shows them.
    pub(crate) fn drains(&self) -> Vec<serde_json::Value> {
        let left = self.session_count();
        self.drains.lock().iter().map(|drain| drain.status(&self.config.name, left)).collect()
    }
}
