//! A node reduced to its end of the link: it answers lines, gives tickets, and can be made to fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seam_cluster::link::frame::{ByNode, ByProxy, Member, NodeState, ToNode, ToProxy};
use seam_cluster::link::{Sender, Timing, accept};
use seam_stratum::message::{Call, Incoming, Request};
use seam_stratum::{Extranonce1, Reject, Sid, SidKey, write};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the nodes of a cluster have in common.
#[derive(Default)]
pub struct Ledger {
    /// Counted shares: extranonce1 and nonce.
    pub shares: Mutex<HashMap<(u32, u32), u32>>,
    next_range: AtomicU32,
}

pub struct Cluster {
    nodes: Vec<FakeNode>,
    pub ledger: Arc<Ledger>,
}

impl Cluster {
    pub async fn start(count: usize) -> Self {
        let ledger = Arc::new(Ledger::default());
        let mut listeners = Vec::new();
        for index in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            listeners.push((format!("node-{index}"), listener));
        }
        let members: Vec<Member> = listeners
            .iter()
            .map(|(name, listener)| Member {
                name: name.clone(),
                address: listener.local_addr().expect("bound").to_string(),
            })
            .collect();
        let nodes = listeners
            .into_iter()
            .map(|(name, listener)| {
                FakeNode::start(name, Some(listener), members.clone(), Arc::clone(&ledger))
            })
            .collect();
        Self { nodes, ledger }
    }

    pub fn nodes(&self) -> &[FakeNode] {
        &self.nodes
    }

    /// The node that has this session.
    pub fn node_of(&self, extranonce1: &str) -> Option<&FakeNode> {
        let number = Extranonce1::parse(extranonce1).expect("extranonce1");
        self.nodes.iter().find(|node| node.has(number))
    }

    pub fn counted(&self) -> usize {
        self.ledger.shares.lock().len()
    }
}

pub struct FakeNode {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    name: String,
    address: String,
    members: Vec<Member>,
    ledger: Arc<Ledger>,
    state: watch::Sender<(bool, bool)>,
    /// Submits are taken and not answered while this is set.
    mute: AtomicBool,
    /// Nothing is read or written any more, but sockets stay open.
    frozen: watch::Sender<bool>,
    links: Mutex<Vec<Arc<Link>>>,
    pub log: Mutex<Vec<String>>,
}

struct Link {
    sender: Sender,
    sessions: Mutex<HashMap<u32, Session>>,
}

#[derive(Clone)]
struct Session {
    extranonce1: Extranonce1,
    subscribed: bool,
    authorized: bool,
    wants: bool,
    /// Lines taken while muted.
    owed: Vec<(String, bool)>,
    version_mask: Option<u32>,
}

pub const KEY: SidKey = SidKey([9; 32]);

impl FakeNode {
    fn start(
        name: String,
        listener: Option<TcpListener>,
        members: Vec<Member>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let address = members.iter().find(|m| m.name == name).expect("member").address.clone();
        let shared = Arc::new(Shared {
            name,
            address,
            members,
            ledger,
            state: watch::Sender::new((true, false)),
            mute: AtomicBool::new(false),
            frozen: watch::Sender::new(false),
            links: Mutex::default(),
            log: Mutex::default(),
        });
        let node = Self { shared, task: Mutex::new(None) };
        node.run(listener);
        node
    }

    fn run(&self, listener: Option<TcpListener>) {
        let shared = Arc::clone(&self.shared);
        *self.task.lock() = Some(tokio::spawn(async move {
            let listener = match listener {
                Some(listener) => listener,
                None => loop {
                    match TcpListener::bind(&shared.address).await {
                        Ok(listener) => break listener,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                },
            };
            // The links end with this task.
            let mut links = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                links.spawn(serve(Arc::clone(&shared), stream));
            }
        }));
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub fn address(&self) -> String {
        self.shared.address.clone()
    }

    /// As if killed: every socket closes.
    pub async fn kill(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        for link in self.shared.links.lock().drain(..) {
            link.sender.close();
        }
    }

    /// As if started anew: what it knew is gone.
    pub fn restart(&self) {
        self.shared.state.send_replace((true, false));
        self.shared.mute.store(false, Ordering::Relaxed);
        self.shared.frozen.send_replace(false);
        self.run(None);
    }

    pub fn set(&self, ready: bool, draining: bool) {
        self.shared.state.send_replace((ready, draining));
    }

    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// While muted, submits are taken but neither counted nor answered.
    pub fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::Relaxed);
        if !mute {
            for link in self.shared.links.lock().iter() {
                let numbers: Vec<u32> = link.sessions.lock().keys().copied().collect();
                for number in numbers {
                    pay(&self.shared, link, number);
                }
            }
        }
    }

    /// Submits that are not answered.
    pub fn owed(&self) -> usize {
        let links = self.shared.links.lock();
        links
            .iter()
            .map(|link| link.sessions.lock().values().map(|s| s.owed.len()).sum::<usize>())
            .sum()
    }

    /// Counts owed submits without answering them: as if the node died between the two.
    pub fn count_owed(&self) {
        for link in self.shared.links.lock().iter() {
            for session in link.sessions.lock().values() {
                for (line, _) in &session.owed {
                    let _ = judge(&self.shared, session, line, true);
                }
            }
        }
    }

    pub fn has(&self, extranonce1: Extranonce1) -> bool {
        let links = self.shared.links.lock();
        links.iter().any(|link| {
            link.sessions.lock().values().any(|session| session.extranonce1 == extranonce1)
        })
    }

    pub fn sessions(&self) -> usize {
        self.shared.links.lock().iter().map(|link| link.sessions.lock().len()).sum()
    }

    /// A new job for all.
    pub fn job(&self, id: &str) {
        for link in self.shared.links.lock().iter() {
            let line = notify(id, true);
            link.sender.send(&ToProxy::Notify { bytes: line.as_bytes() });
        }
    }

    /// Bytes for one session, as often as wanted.
    pub fn flood(&self, extranonce1: &str, bytes: &[u8], times: usize) {
        let number = Extranonce1::parse(extranonce1).expect("extranonce1");
        for link in self.shared.links.lock().iter() {
            let sessions = link.sessions.lock();
            let Some((session, _)) = sessions.iter().find(|(_, s)| s.extranonce1 == number) else {
                continue;
            };
            for _ in 0..times {
                link.sender.send(&ToProxy::Out {
                    session: *session,
                    settled: 0,
                    ticket: None,
                    bytes,
                });
            }
        }
    }

    /// Ends a session from the node's side.
    pub fn end(&self, extranonce1: &str, why: ByNode) {
        let number = Extranonce1::parse(extranonce1).expect("extranonce1");
        for link in self.shared.links.lock().iter() {
            let mut sessions = link.sessions.lock();
            let found = sessions.iter().find(|(_, s)| s.extranonce1 == number).map(|(n, _)| *n);
            if let Some(session) = found {
                sessions.remove(&session);
                link.sender.send(&ToProxy::Closed { session, why });
            }
        }
    }

    /// What happened here, in a word each.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().clone()
    }
}

fn notify(id: &str, clean: bool) -> String {
    format!(
        "{{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"{id}\",\"00\",\"\",\"\",[],\"20000000\",\"1d00ffff\",\"65000000\",{clean}]}}\n"
    )
}

async fn serve(shared: Arc<Shared>, stream: tokio::net::TcpStream) {
    let name = shared.name.clone();
    let Ok((mut connection, sender, _)) =
        accept(stream, &name, Some("test"), Timing::default()).await
    else {
        return;
    };
    let link = Arc::new(Link { sender: sender.clone(), sessions: Mutex::default() });
    shared.links.lock().push(Arc::clone(&link));
    let mut state = shared.state.subscribe();
    state.mark_changed();
    let mut frozen = shared.frozen.subscribe();
    loop {
        if *frozen.borrow_and_update() {
            let _ = frozen.changed().await;
            continue;
        }
        tokio::select! {
            _ = frozen.changed() => {}
            Ok(()) = state.changed() => {
                let (ready, draining) = *state.borrow_and_update();
                sender.send(&ToProxy::State(NodeState {
                    ready,
                    draining,
                    sid_key: Some(KEY),
                    members: shared.members.clone(),
                }));
            }
            batch = connection.batch() => {
                let Ok(mut batch) = batch else { break };
                while let Ok(Some(frame)) = batch.next() {
                    take(&shared, &link, ToNode::decode(frame).expect("a frame"));
                }
            }
        }
    }
    shared.links.lock().retain(|other| !Arc::ptr_eq(other, &link));
}

fn take(shared: &Shared, link: &Link, frame: ToNode<'_>) {
    match frame {
        ToNode::Open { session, opening } => {
            let ticket = opening.ticket.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            shared.log.lock().push(format!(
                "open {} moved={} resume={} ticket={} peer={}",
                opening.extranonce1,
                opening.moved,
                opening.resume,
                ticket.as_deref().unwrap_or("-"),
                opening.peer,
            ));
            let has = |word: &str| ticket.as_ref().is_some_and(|t| t.contains(word));
            let opened = Session {
                extranonce1: opening.extranonce1,
                subscribed: opening.moved && has("subscribed"),
                authorized: opening.moved && has("authorized"),
                wants: false,
                owed: Vec::new(),
                version_mask: opening.version_mask,
            };
            link.sessions.lock().insert(session, opened);
            work(link, session, opening.moved);
        }
        ToNode::Lines { session, replay, bytes } => {
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let text = std::str::from_utf8(line).expect("UTF-8").trim_end().to_owned();
                if replay {
                    shared.log.lock().push(format!("replay {text}"));
                }
                if let Some(session) = link.sessions.lock().get_mut(&session) {
                    session.owed.push((text, replay));
                }
            }
            pay(shared, link, session);
        }
        ToNode::Close { session, why } => {
            let closed = link.sessions.lock().remove(&session);
            if let Some(closed) = closed {
                let word = if why == ByProxy::Moved { "moved" } else { "gone" };
                shared.log.lock().push(format!("close {} {word}", closed.extranonce1));
            }
        }
        ToNode::RangeWanted => {
            let first = shared.ledger.next_range.fetch_add(4096, Ordering::Relaxed);
            link.sender.send(&ToProxy::Range { first, count: 4096 });
        }
        ToNode::Hello(_) | ToNode::Ping | ToNode::Stats { .. } => {}
    }
}

/// Answers what is owed, up to the first submit while muted.
fn pay(shared: &Shared, link: &Link, number: u32) {
    let mut sessions = link.sessions.lock();
    let Some(session) = sessions.get_mut(&number) else { return };
    let mute = shared.mute.load(Ordering::Relaxed);
    let (mut out, mut settled) = (Vec::new(), 0);
    let before = (session.subscribed, session.authorized);
    while let Some((line, replay)) = session.owed.first().cloned() {
        if mute && line.contains("mining.submit") {
            break;
        }
        session.owed.remove(0);
        settled += 1;
        answer(shared, session, &line, replay, &mut out);
    }
    let changed = before != (session.subscribed, session.authorized);
    let ticket = changed.then(|| {
        let word = if session.authorized { "subscribed authorized" } else { "subscribed" };
        word.as_bytes().to_vec()
    });
    if settled > 0 {
        link.sender.send(&ToProxy::Out {
            session: number,
            settled,
            ticket: ticket.as_deref(),
            bytes: &out,
        });
    }
    drop(sessions);
    work(link, number, false);
}

fn work(link: &Link, number: u32, moved: bool) {
    let mut sessions = link.sessions.lock();
    let Some(session) = sessions.get_mut(&number) else { return };
    if session.subscribed && session.authorized && !session.wants {
        session.wants = true;
        let line = notify("1", !moved);
        link.sender.send(&ToProxy::Out {
            session: number,
            settled: 0,
            ticket: None,
            bytes: line.as_bytes(),
        });
        link.sender.send(&ToProxy::Wants { session: number, on: true });
    }
}

fn answer(shared: &Shared, session: &mut Session, line: &str, replay: bool, out: &mut Vec<u8>) {
    match Incoming::parse(line.as_bytes()) {
        Ok(Incoming::Request(Request { id, call })) => match call {
            Call::Subscribe { .. } => {
                session.subscribed = true;
                write::subscribed(out, id, &Sid::mint(&KEY, session.extranonce1), 8);
            }
            Call::Authorize { .. } => {
                session.authorized = true;
                write::result_bool(out, id, true);
            }
            Call::Submit(_) => match judge(shared, session, line, replay) {
                Ok(()) => write::result_bool(out, id, true),
                Err(reject) => write::reject(out, id, &reject),
            },
            Call::SuggestDifficulty(_) | Call::ExtranonceSubscribe => {
                write::result_bool(out, id, true);
            }
            Call::Ping => {
                let mask = session.version_mask.unwrap_or(0);
                write::result(out, id, &format!("{mask:08x}"));
            }
            Call::Pong => {}
            _ => write::reject(out, id, &Reject::UNKNOWN_METHOD),
        },
        Ok(Incoming::Response(_)) => {}
        Err(_) if line.is_empty() => {}
        Err(error) => write::reject(out, error.id, &error.kind.reject()),
    }
}

/// As the ledger: a share counts once, and its repeat is fine if it is a replay.
fn judge(shared: &Shared, session: &Session, line: &str, replay: bool) -> Result<(), Reject> {
    let Ok(Incoming::Request(Request { call: Call::Submit(submit), .. })) =
        Incoming::parse(line.as_bytes())
    else {
        return Err(Reject::INVALID_MESSAGE);
    };
    if !session.authorized {
        return Err(Reject::Unauthorized);
    }
    let mut shares = shared.ledger.shares.lock();
    let times = shares.entry((session.extranonce1.0, submit.nonce)).or_default();
    if *times > 0 && !replay {
        return Err(Reject::Duplicate);
    }
    *times = 1;
    Ok(())
}
