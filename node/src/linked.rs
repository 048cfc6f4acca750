//! Sessions that come over a proxy's link.
//!
//! A link is one task that owns its sessions: frames come from the proxy, events from the ledger,
//! jobs from the job maker, and all that a session says goes into the link's queue. Nothing here
//! waits for one session: a held one keeps its lines until its event has come.

mod around;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use seam_cluster::ledger::ShareOutcome;
use seam_cluster::link::frame::{ByNode, Member, NodeState, Opening, ToNode, ToProxy};
use seam_cluster::link::{Connection, LinkError, Sender, Timing, accept as greet};
use seam_cluster::peer::Stream;
use seam_cluster::pulse::{self, Pulse};
use seam_cluster::ticket::{TicketError, Tickets};
use seam_cluster::tls::{Identity, Role};
use seam_cluster::{Completion, Unavailable};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

use self::session::{Linked, Step};
use crate::config::Limits;
use crate::node::Node;
use crate::pool::Pool;
use crate::session::{Closed, Event, Inbox};

/// What a link needs of the node around it.
pub trait Around: Send + Sync + 'static {
    /// The member's name.
    fn name(&self) -> &str;
    /// Its cluster, once it belongs to one.
    fn cluster_id(&self) -> Option<String>;
    /// The cluster's nodes.
    fn members(&self) -> Vec<Member>;
    /// Whether sessions may come.
    fn is_ready(&self) -> bool;
    /// Whether sessions shall go.
    fn is_draining(&self) -> bool;
    /// Bounds on what miners may use.
    fn limits(&self) -> &Limits;
    /// Leases a range of extranonce1 to a proxy.
    fn lease(&self, holder: String) -> BoxFuture<'static, Option<Range<u64>>>;
    /// The keys of tickets, as far as they have arrived here.
    fn tickets(&self) -> Option<Tickets>;
    /// What is told to people about this node.
    fn pulse(&self) -> Pulse;
}

/// Takes links until the node ends.
pub async fn accept(mut links: Receiver<(Identity, Stream)>, node: Arc<Node>, pool: Arc<Pool>) {
    let around: Arc<dyn Around> = node;
    while let Some((proxy, stream)) = links.recv().await {
        if proxy.role != Role::Proxy {
            tracing::warn!(name = proxy.name, "a link from what is no proxy was refused");
            continue;
        }
        let (around, pool) = (Arc::clone(&around), Arc::clone(&pool));
        tokio::spawn(async move {
            pool.links.opened(&proxy.name, &pool.metrics);
            let error = serve(&proxy.name, stream, &around, &pool).await;
            pool.links.closed(&proxy.name, &pool.metrics);
            tracing::info!(proxy = proxy.name, %error, "link down");
        });
    }
}

async fn serve(
    proxy: &str,
    stream: Stream,
    around: &Arc<dyn Around>,
    pool: &Arc<Pool>,
) -> LinkError {
    let cluster = around.cluster_id();
    match greet(stream, around.name(), cluster.as_deref(), Timing::default()).await {
        Err(error) => error,
        Ok((connection, sender, hello)) => {
            tracing::info!(proxy, says = hello.name, "link up");
            let mut link = Link::new(proxy, Arc::clone(around), Arc::clone(pool), sender);
            let error = link.run(connection).await;
            link.end();
            error
        }
    }
}

/// The node's end of one link.
struct Link {
    proxy: String,
    around: Arc<dyn Around>,
    pool: Arc<Pool>,
    sender: Sender,
    inbox: Arc<LinkInbox>,
    sessions: HashMap<u32, Linked>,
    /// Sessions with a share that the ledger had no room for.
    blocked: HashSet<u32>,
    /// Read from the ledger now and then: keys are rotated.
    tickets: Option<Tickets>,
    /// What the proxy was last told of this node.
    told: Option<NodeState>,
    /// What a session appends to, before it goes into the queue.
    out: Vec<u8>,
}

impl Link {
    fn new(proxy: &str, around: Arc<dyn Around>, pool: Arc<Pool>, sender: Sender) -> Self {
        Self {
            proxy: proxy.to_owned(),
            around,
            pool,
            sender,
            inbox: Arc::new(LinkInbox::default()),
            sessions: HashMap::new(),
            blocked: HashSet::new(),
            tickets: None,
            told: None,
            out: Vec::new(),
        }
    }

    async fn run(&mut self, mut connection: Connection<Stream>) -> LinkError {
        let mut jobs = self.pool.jobs.watch();
        let inbox = Arc::clone(&self.inbox);
        let mut tick = interval(TELL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        // Before the first session comes: it needs the keys.
        self.tell();
        loop {
            tokio::select! {
                batch = connection.batch() => {
                    let mut batch = match batch {
                        Ok(batch) => batch,
                        Err(error) => return error,
                    };
                    loop {
                        match batch.next() {
                            Ok(Some(frame)) => if let Err(error) = self.take(frame) {
                                return error;
                            },
                            Ok(None) => break,
                            Err(error) => return error,
                        }
                    }
                }
                () = inbox.woken() => self.events(),
                Ok(()) = jobs.changed() => {
                    jobs.borrow_and_update();
                    self.new_job();
                }
                _ = tick.tick() => {
                    self.tell();
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(PULSE_TICKS) {
                        self.sender.send(&ToProxy::Pulse { bytes: &self.around.pulse().encode() });
                    }
                    if ticks.is_multiple_of(SWEEP_TICKS) {
                        self.sweep();
                    }
                }
                _ = retry.tick(), if !self.blocked.is_empty() => self.retry(),
            }
        }
    }

    fn take(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        match ToNode::decode(frame)? {
            ToNode::Lines { session: number, replay, bytes } => {
                if let Some(linked) = self.sessions.get_mut(&number) {
                    let step = linked.lines(&self.pool, replay, bytes, &mut self.out);
                    self.settle(number, step);
                }
            }
            ToNode::Open { session: number, opening } => match self.open(number, &opening) {
                Ok(linked) => {
                    self.sessions.insert(number, linked);
                    self.settle(number, Step::Go);
                }
                Err(why) => {
                    self.sender.send(&ToProxy::Closed { session: number, why });
                }
            },
            ToNode::Close { session: number, why } => {
                if let Some(linked) = self.sessions.remove(&number) {
                    self.blocked.remove(&number);
                    linked.close(&self.pool, session::by_proxy(why));
                }
            }
            ToNode::RangeWanted => self.lease(),
            ToNode::Stats { sessions } => self.pool.links.told(&self.proxy, sessions),
            ToNode::Hello(_) | ToNode::Ping => {}
        }
        Ok(())
    }

    fn open(&mut self, number: u32, opening: &Opening<'_>) -> Result<Linked, ByNode> {
        let around = &*self.around;
        if self.pool.is_banned(opening.peer) {
            return Err(session::by_node(Closed::Banned, around.limits()));
        }
        if around.is_draining() {
            return Err(ByNode::Refused);
        }
        let ticket = opening.ticket.map(|sealed| session::unseal(self.tickets.as_ref(), sealed));
        let ticket = match ticket {
            // The key may be on its way here; the proxy tries again. A miner that logs in anyway
            // need not wait for it.
            Some(Err(TicketError::UnknownKey(_) | TicketError::NoKey)) if opening.moved => {
                self.tickets = around.tickets();
                return Err(ByNode::Refused);
            }
            Some(Ok(ticket)) => ticket.filter(|t| t.extranonce1 == opening.extranonce1),
            Some(Err(_)) | None => None,
        };
        let inbox = Arc::clone(&self.inbox) as Arc<dyn Inbox>;
        Ok(Linked::open(&self.pool, inbox, number, opening, ticket))
    }

    /// Sends what a session appended, with the work it may now get, and closes it if it is over.
    fn settle(&mut self, number: u32, step: Step) {
        let Some(linked) = self.sessions.get_mut(&number) else { return };
        let wants =
            if step == Step::Go { linked.give_work(&self.pool, &mut self.out) } else { false };
        linked.flush(self.tickets.as_ref(), &self.sender, number, &mut self.out);
        if wants {
            self.sender.send(&ToProxy::Wants { session: number, on: true });
        }
        if linked.is_blocked() {
            self.blocked.insert(number);
        } else {
            self.blocked.remove(&number);
        }
        if let Step::Close(why) = step {
            let why_told = session::by_node(why, self.around.limits());
            self.sender.send(&ToProxy::Closed { session: number, why: why_told });
            if let Some(linked) = self.sessions.remove(&number) {
                linked.close(&self.pool, why);
            }
            self.blocked.remove(&number);
        }
    }

    fn events(&mut self) {
        // Answers of one session that came together leave together.
        let mut touched: Vec<(u32, Step)> = Vec::new();
        for (token, event) in self.inbox.take() {
            let number = (token >> 32) as u32;
            let last = touched.last().map(|(number, _)| *number);
            if last.is_some_and(|last| last != number) {
                for (number, step) in touched.drain(..) {
                    self.settle(number, step);
                }
            }
            let Some(linked) = self.sessions.get_mut(&number) else { continue };
            let step = linked.event(&self.pool, token, event, &mut self.out);
            touched.retain(|(_, step)| matches!(step, Step::Close(_)));
            if touched.is_empty() {
                touched.push((number, step));
            }
        }
        for (number, step) in touched {
            self.settle(number, step);
        }
    }

    /// Tells every session of a new job: what is a session's own first, then the line once for all.
    fn new_job(&mut self) {
        let Some(job) = self.pool.jobs.current() else { return };
        let (mut clean, mut some) = (false, false);
        for (number, linked) in &mut self.sessions {
            if let Some(cleans) = linked.prepare(&self.pool, &job, &mut self.out) {
                (clean, some) = (clean | cleans, true);
                linked.flush(self.tickets.as_ref(), &self.sender, *number, &mut self.out);
            }
        }
        if some {
            self.sender.send(&ToProxy::Notify { bytes: job.line(clean) });
        }
    }

    fn retry(&mut self) {
        let blocked: Vec<u32> = self.blocked.iter().copied().collect();
        for number in blocked {
            if let Some(linked) = self.sessions.get_mut(&number) {
                let step = linked.retry(&self.pool, &mut self.out);
                self.settle(number, step);
            }
        }
    }

    /// Ends sessions that came to nothing, or went quiet.
    fn sweep(&mut self) {
        let limits = self.around.limits();
        let idle: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(_, linked)| linked.is_idle(&self.pool, limits))
            .map(|(number, _)| *number)
            .collect();
        for number in idle {
            self.settle(number, Step::Close(Closed::Idle));
        }
    }

    /// Says how the node is, if that has changed.
    fn tell(&mut self) {
        let tickets = self.around.tickets();
        let newest = |tickets: &Option<Tickets>| tickets.as_ref().and_then(Tickets::newest);
        let rotated = newest(&tickets) != newest(&self.tickets);
        self.tickets = tickets;
        if rotated {
            // Sealed anew while the old key still opens what is out there.
            for (number, linked) in &mut self.sessions {
                linked.seal_anew(self.tickets.as_ref(), &self.sender, *number);
            }
        }
        let state = state(&*self.around, &self.pool);
        if self.told.as_ref() != Some(&state) {
            self.sender.send(&ToProxy::State(state.clone()));
            self.told = Some(state);
        }
    }

    fn lease(&self) {
        let (lease, sender) = (self.around.lease(self.proxy.clone()), self.sender.clone());
        tokio::spawn(async move {
            let range = lease.await.and_then(|range| {
                let first = u32::try_from(range.start).ok()?;
                Some((first, u32::try_from(range.end.saturating_sub(range.start)).ok()?))
            });
            match range {
                Some((first, count)) => sender.send(&ToProxy::Range { first, count }),
                None => sender.send(&ToProxy::NoRange),
            };
        });
    }

    /// The link is over. Its miners will come over another, most likely to this node again.
    fn end(&mut self) {
        for (_, linked) in self.sessions.drain() {
            linked.close(&self.pool, Closed::Miner);
        }
    }
}

fn state(around: &dyn Around, pool: &Pool) -> NodeState {
    NodeState {
        ready: around.is_ready(),
        draining: around.is_draining(),
        sid_key: pool.registry.sid_key().map(|key| (*key).clone()),
        members: around.members(),
    }
}

/// Where the events of a link's sessions wait for its task. Bounded by what the sessions wait for.
#[derive(Default)]
struct LinkInbox {
    events: Mutex<Vec<(u64, Event)>>,
    notify: Notify,
}

impl LinkInbox {
    async fn woken(&self) {
        self.notify.notified().await;
    }

    fn take(&self) -> Vec<(u64, Event)> {
        std::mem::take(&mut *self.events.lock())
    }
}

impl Completion for LinkInbox {
    fn complete(&self, token: u64, answer: Result<ShareOutcome, Unavailable>) {
        self.events.lock().push((token, Event::Share(answer)));
    }

    fn flush(&self) {
        self.notify.notify_one();
    }
}

impl Inbox for LinkInbox {
    fn post(&self, token: u64, event: Event) {
        self.events.lock().push((token, event));
        self.notify.notify_one();
    }
}

/// How often the node's own state is looked at: a proxy should leave a node without quorum soon.
const TELL: Duration = Duration::from_millis(50);

/// Ticks of `TELL` between two pulses.
const PULSE_TICKS: u32 = (pulse::EVERY_SECONDS * 1_000) as u32 / TELL.as_millis() as u32;

/// Ticks of `TELL` between two looks at all sessions' clocks.
const SWEEP_TICKS: u32 = 200;

/// How often blocked sessions try again.
const RETRY: Duration = Duration::from_millis(5);
