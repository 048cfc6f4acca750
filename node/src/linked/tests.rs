//! The node's end of a link, played against from the proxy's.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use seam_cluster::ledger::{Command, Secret, ShareOutcome, State};
use seam_cluster::link::frame::{ByNode, ByProxy, Member, NodeState, Opening, ToNode, ToProxy};
use seam_cluster::link::frame::{ProxyHello, VERSIONS};
use seam_cluster::link::{Connection, Sender, Timing, connect};
use seam_cluster::peer::Stream;
use seam_cluster::pulse::Pulse;
use seam_cluster::ticket::Tickets;
use seam_stratum::{Extranonce1, Sid, SidKey};
use serde_json::Value;

use super::{Around, serve};
use crate::clock::Clock;
use crate::config::{Authorization, Limits};
use crate::testing::{HARD, START, Wanted, World, grind};

const PATIENCE: Duration = Duration::from_secs(20);
const NUMBER: Extranonce1 = Extranonce1(0xab00_0001);

struct Home {
    limits: Limits,
    draining: AtomicBool,
    tickets: Tickets,
}

impl Around for Home {
    fn name(&self) -> &str {
        "node-0"
    }
    fn cluster_id(&self) -> Option<String> {
        Some("c".into())
    }
    fn members(&self) -> Vec<Member> {
        vec![Member { name: "node-0".into(), address: "here:1".into() }]
    }
    fn is_ready(&self) -> bool {
        !self.is_draining()
    }
    fn pulse(&self) -> Pulse {
        Pulse::default()
    }
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn lease(&self, _holder: String) -> BoxFuture<'static, Option<Range<u64>>> {
        Box::pin(async { Some(8192..12288) })
    }
    fn tickets(&self) -> Option<Tickets> {
        Some(self.tickets.clone())
    }
}

/// A node's end of a link in a task, and the proxy's end in hand.
struct Far {
    world: World,
    around: Arc<Home>,
    connection: Connection<Stream>,
    sender: Sender,
    /// What each session was told, in lines.
    lines: HashMap<u32, Vec<String>>,
    settled: HashMap<u32, usize>,
    tickets: HashMap<u32, Vec<u8>>,
    wants: HashMap<u32, bool>,
    notified: Vec<String>,
    closed: HashMap<u32, ByNode>,
    range: Option<(u32, u32)>,
    state: Option<NodeState>,
}

impl Far {
    async fn new(world: World) -> Self {
        Self::with_tickets(world, tickets(0)).await
    }

    async fn with_tickets(world: World, tickets: Tickets) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let around =
            Arc::new(Home { limits: Limits::default(), draining: AtomicBool::new(false), tickets });
        let (pool, node) = (Arc::clone(&world.pool), Arc::clone(&around) as Arc<dyn Around>);
        tokio::spawn(async move { serve("proxy-0", Box::new(far), &node, &pool).await });
        let hello = ProxyHello { versions: VERSIONS, name: "proxy-0".into(), cluster: None };
        let (connection, sender, greeting) =
            connect(Box::new(near) as Stream, &hello, Timing::default()).await.expect("greeted");
        assert_eq!(greeting.name, "node-0");
        Self {
            world,
            around,
            connection,
            sender,
            lines: HashMap::new(),
            settled: HashMap::new(),
            tickets: HashMap::new(),
            wants: HashMap::new(),
            notified: Vec::new(),
            closed: HashMap::new(),
            range: None,
            state: None,
        }
    }

    fn open(&self, session: u32, ticket: Option<&[u8]>) {
        self.open_as(session, NUMBER, false, ticket);
    }

    fn open_as(&self, session: u32, number: Extranonce1, resume: bool, ticket: Option<&[u8]>) {
        let opening = Opening {
            extranonce1: number,
            resume,
            moved: ticket.is_some() && !resume,
            peer: [10, 0, 0, 1].into(),
            version_mask: Some(0x00ff_e000),
            minimum_difficulty: None,
            extranonce_subscribed: false,
            ticket,
        };
        self.sender.send(&ToNode::Open { session, opening });
    }

    fn say(&self, session: u32, replay: bool, text: &str) {
        self.sender.send(&ToNode::Lines { session, replay, bytes: text.as_bytes() });
    }

    /// Takes frames until something holds.
    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            let batch = tokio::time::timeout_at(deadline, self.connection.batch()).await;
            let mut batch = batch.unwrap_or_else(|_| panic!("in vain: {what}")).expect("up");
            let mut frames = Vec::new();
            while let Some(frame) = batch.next().expect("sound") {
                frames.push(frame.to_vec());
            }
            for frame in frames {
                self.take(&frame);
            }
        }
    }

    fn take(&mut self, frame: &[u8]) {
        match ToProxy::decode(frame).expect("sound") {
            ToProxy::Out { session, settled, ticket, bytes } => {
                let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
                let lines = self.lines.entry(session).or_default();
                lines.extend(text.lines().map(str::to_owned));
                *self.settled.entry(session).or_default() += usize::from(settled);
                if let Some(ticket) = ticket {
                    self.tickets.insert(session, ticket.to_vec());
                }
            }
            ToProxy::Wants { session, on } => drop(self.wants.insert(session, on)),
            ToProxy::Notify { bytes } => {
                self.notified.push(String::from_utf8(bytes.to_vec()).expect("UTF-8"));
            }
            ToProxy::Closed { session, why } => drop(self.closed.insert(session, why)),
            ToProxy::Range { first, count } => self.range = Some((first, count)),
            ToProxy::State(state) => self.state = Some(state),
            ToProxy::Hello(_) | ToProxy::Ping | ToProxy::NoRange | ToProxy::Pulse { .. } => {}
        }
    }

    fn settled(&self, session: u32) -> usize {
        self.settled.get(&session).copied().unwrap_or(0)
    }

    fn lines(&self, session: u32) -> Vec<Value> {
        let lines = self.lines.get(&session).cloned().unwrap_or_default();
        lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The ids of the answers, in their order.
    fn ids(&self, session: u32) -> Vec<Value> {
        let answers = self.lines(session).into_iter().filter(|line| line.get("method").is_none());
        answers.map(|line| line["id"].clone()).collect()
    }

    async fn at_work(&mut self, session: u32) {
        self.open(session, None);
        self.say(session, false, LOGIN);
        self.until("at work", |far| far.wants.contains_key(&session)).await;
    }
}

const LOGIN: &str = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n\
    {\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"alice\",\"secret\"]}\n";

/// A cluster's ticket keys after so many rotations.
fn tickets(rotations: u8) -> Tickets {
    let mut state = State::new();
    let init = Command::Init {
        cluster: [1; 16],
        sid_key: Secret([3; 32]),
        ticket_key: Secret([0; 32]),
        time: 0,
    };
    state.apply(1, &init);
    for number in 1..=rotations {
        let rotate = Command::RotateTicketKey { key: Secret([number; 32]), time: 0 };
        state.apply(1 + u64::from(number), &rotate);
    }
    Tickets::new(state.identity())
}

fn world() -> World {
    World::on(Clock::system(), Authorization::Registered, |_| {})
}

fn submit(far: &Far, number: Extranonce1, id: u32, from: &mut u32, wanted: Wanted) -> String {
    let job = far.world.pool.jobs.current().expect("a job");
    let nonce = grind(&job.job, number, START, 0, *from, wanted);
    *from = nonce + 1;
    format!(
        "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[\"alice\",\"{}\",\"0000000000000000\",\"{:08x}\",\"{nonce:08x}\"]}}\n",
        job.id(),
        job.job.ntime
    )
}

#[tokio::test]
async fn session_subscribes_with_the_proxy_s_number_and_gets_a_ticket_and_work() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    far.at_work(4).await;
    let lines = far.lines(4);
    let sid = Sid::mint(&SidKey([3; 32]), NUMBER);
    assert_eq!(lines[0]["result"][1], NUMBER.to_string());
    assert_eq!(lines[0]["result"][0][0][1], sid.to_string());
    assert_eq!(lines[1]["result"], true);
    assert_eq!(lines[2]["method"], "mining.set_difficulty");
    assert_eq!(lines[3]["method"], "mining.notify");
    assert_eq!(lines[3]["params"][8], true);
    assert_eq!((far.settled(4), far.wants[&4]), (2, true));
    assert!(far.tickets.contains_key(&4));
    assert_eq!(far.state.as_ref().map(|state| state.ready), Some(true));
}

#[tokio::test]
async fn answers_leave_in_the_order_of_the_lines_and_settle_each_of_them_once() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    far.at_work(4).await;
    let mut from = 0;
    let lines = [
        submit(&far, NUMBER, 10, &mut from, Wanted::Good),
        // Wants no answer, but has its turn.
        "{\"id\":null,\"result\":\"x\",\"error\":null}\n\r\n\n".to_owned(),
        submit(&far, NUMBER, 11, &mut from, Wanted::Bad),
        "{\"id\":12,\"method\":\"mining.ping\"}\n".to_owned(),
        submit(&far, NUMBER, 13, &mut from, Wanted::Good),
    ];
    far.say(4, false, &lines.concat());
    let ledger = Arc::clone(&far.world.ledger);
    far.until("the ledger has both", |_| ledger.submitted.lock().len() == 2).await;
    assert_eq!(far.settled(4), 2);
    ledger.commit(Ok(ShareOutcome::Counted));
    far.until("all are settled", |far| far.settled(4) == 9).await;
    assert_eq!(far.ids(4), [1, 2, 10, 11, 12, 13]);
}

#[tokio::test]
async fn ticket_continues_a_session_on_another_node_and_replays_are_taken_for_what_they_are() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    far.at_work(4).await;
    let mut from = 0;
    let line = submit(&far, NUMBER, 4, &mut from, Wanted::Good);
    let ticket = far.tickets[&4].clone();

    let other = World::on(Clock::system(), Authorization::Registered, |_| {});
    other.publish(1, 100, HARD);
    let mut other = Far::new(other).await;
    other.open(9, Some(&ticket));
    other.say(9, true, &line);
    let ledger = Arc::clone(&other.world.ledger);
    other.until("the ledger has it", |_| ledger.submitted.lock().len() == 1).await;
    ledger.commit(Ok(ShareOutcome::Replayed));
    other.until("it is answered", |far| far.settled(9) == 1).await;
    let lines = other.lines(9);
    let notified: Vec<&Value> =
        lines.iter().filter(|line| line["method"] == "mining.notify").collect();
    assert_eq!(notified.len(), 1, "{lines:?}");
    assert_eq!(notified[0]["params"][8], false);
    let answer = lines.iter().find(|line| line.get("method").is_none()).expect("an answer");
    assert_eq!((&answer["id"], &answer["result"]), (&4.into(), &true.into()));
}

#[tokio::test]
async fn ticket_with_a_key_that_is_not_here_yet_is_refused_and_a_forged_one_starts_anew() {
    let mut far = Far::with_tickets(world(), tickets(5)).await;
    far.at_work_without_job(4).await;
    let mut forged = far.tickets[&4].clone();
    let ticket = far.tickets[&4].clone();
    let mut other = Far::with_tickets(world(), tickets(0)).await;
    other.open(1, Some(&ticket));
    other.until("it is refused", |far| far.closed.contains_key(&1)).await;
    assert_eq!(other.closed[&1], ByNode::Refused);

    let last = forged.len() - 1;
    forged[last] ^= 1;
    far.sender.send(&ToNode::Close { session: 4, why: ByProxy::Moved });
    far.open(5, Some(&forged));
    far.say(5, false, "{\"id\":1,\"method\":\"mining.submit\",\"params\":[]}\n");
    far.until("it is answered", |far| far.settled(5) == 1).await;
    assert!(!far.wants.contains_key(&5));
}

#[tokio::test]
async fn job_crosses_once_and_what_is_a_session_s_own_precedes_it() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    for session in 1..=20 {
        far.open_as(session, Extranonce1(session), false, None);
        far.say(session, false, LOGIN);
    }
    far.open_as(21, Extranonce1(21), false, None);
    far.until("at work", |far| far.wants.len() == 20).await;
    far.say(7, false, "{\"id\":3,\"method\":\"mining.suggest_difficulty\",\"params\":[5]}\n");
    far.until("suggested", |far| far.settled(7) == 3).await;
    let before = far.lines(7).len();
    far.world.publish(2, 101, HARD);
    far.until("the job has come", |far| !far.notified.is_empty()).await;
    assert_eq!(far.notified.len(), 1);
    let job: Value = serde_json::from_str(&far.notified[0]).expect("JSON");
    assert_eq!(job["params"][8], true);
    let own = far.lines(7).split_off(before);
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(
        (&own[0]["method"], &own[0]["params"][0]),
        (&"mining.set_difficulty".into(), &5.into())
    );
    assert!(far.lines(21).is_empty());
}

#[tokio::test]
async fn lines_behind_a_login_wait_for_it_and_their_neighbours_do_not() {
    let mut far = Far::new(world()).await;
    *far.world.ledger.holds_logins.lock() = true;
    far.open_as(1, Extranonce1(1), false, None);
    far.open_as(2, Extranonce1(2), false, None);
    far.say(1, false, LOGIN);
    far.say(1, false, "{\"id\":3,\"method\":\"mining.ping\"}\n");
    far.say(1, false, "{\"id\":4,\"method\":\"mining.ping\"}\n");
    far.say(2, false, "{\"id\":5,\"method\":\"mining.ping\"}\n");
    far.until("the neighbour is answered", |far| far.settled(2) == 1).await;
    assert_eq!(far.settled(1), 1);
    let held = std::mem::take(&mut *far.world.ledger.held.lock());
    for done in held {
        done(crate::session::LoginResult::Accepted(seam_cluster::ledger::UserId(1)));
    }
    far.until("all is answered", |far| far.settled(1) == 4).await;
    assert_eq!(far.ids(1), [1, 2, 3, 4]);
}

#[tokio::test]
async fn full_ledger_holds_a_session_until_there_is_room() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    far.at_work(4).await;
    *far.world.ledger.is_full.lock() = true;
    let mut from = 0;
    for id in 10..13 {
        let line = submit(&far, NUMBER, id, &mut from, Wanted::Good);
        far.say(4, false, &line);
    }
    far.say(4, false, "{\"id\":13,\"method\":\"mining.ping\"}\n");
    far.sender.send(&ToNode::RangeWanted);
    far.until("the link goes on", |far| far.range.is_some()).await;
    assert_eq!(far.range, Some((8192, 4096)));
    *far.world.ledger.is_full.lock() = false;
    let ledger = Arc::clone(&far.world.ledger);
    far.until("the ledger has all", |_| ledger.submitted.lock().len() == 3).await;
    ledger.commit(Ok(ShareOutcome::Counted));
    far.until("all are settled", |far| far.settled(4) == 6).await;
    assert_eq!(far.ids(4), [1, 2, 10, 11, 12, 13]);
}

#[tokio::test]
async fn sid_that_comes_over_another_link_takes_the_session_over_with_its_difficulty() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    far.at_work(4).await;
    far.say(4, false, "{\"id\":3,\"method\":\"mining.suggest_difficulty\",\"params\":[7]}\n");
    far.until("suggested", |far| far.settled(4) == 3).await;
    far.world.publish(2, 100, HARD);
    far.until("assigned", |far| !far.notified.is_empty()).await;
    far.open_as(5, NUMBER, true, None);
    far.say(5, false, LOGIN);
    far.until("at work", |far| far.wants.contains_key(&5)).await;
    far.until("taken over", |far| far.closed.contains_key(&4)).await;
    assert_eq!(far.closed[&4], ByNode::TakenOver);
    let difficulty = far.lines(5).into_iter().find(|l| l["method"] == "mining.set_difficulty");
    assert_eq!(difficulty.expect("one")["params"][0], 7);
}

#[tokio::test]
async fn ticket_of_an_earlier_connection_brings_its_difficulty_where_nothing_else_is_kept() {
    let world = world();
    world.publish(1, 100, HARD);
    let mut far = Far::new(world).await;
    far.at_work(4).await;
    far.say(4, false, "{\"id\":3,\"method\":\"mining.suggest_difficulty\",\"params\":[7]}\n");
    far.until("suggested", |far| far.settled(4) == 3).await;
    let ticket = far.tickets[&4].clone();
    // As another node sees it: the number is free here.
    far.sender.send(&ToNode::Close { session: 4, why: ByProxy::Moved });
    far.open_as(5, NUMBER, true, Some(&ticket));
    far.say(5, false, "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n");
    far.until("subscribed", |far| far.settled(5) == 1).await;
    // It has to log in: a ticket stands for a connection that goes on, a sid for less.
    assert!(!far.wants.contains_key(&5));
    far.say(5, false, LOGIN.split_once('\n').expect("two lines").1);
    far.until("at work", |far| far.wants.contains_key(&5)).await;
    let lines = far.lines(5);
    let difficulty = lines.iter().find(|line| line["method"] == "mining.set_difficulty");
    assert_eq!(difficulty.expect("one")["params"][0], 7);
    let job = lines.iter().find(|line| line["method"] == "mining.notify").expect("one");
    assert_eq!(job["params"][8], true, "a new connection begins with a clean job");
}

#[tokio::test]
async fn lost_link_parks_its_sessions_and_a_moved_one_is_forgotten() {
    let world = world();
    let pool = Arc::clone(&world.pool);
    let mut far = Far::new(world).await;
    far.at_work_without_job(4).await;
    far.sender.send(&ToNode::Close { session: 4, why: ByProxy::Moved });
    far.open_as(5, Extranonce1(5), false, None);
    far.say(5, false, LOGIN);
    far.until("at work", |far| far.wants.contains_key(&5)).await;
    assert_eq!(pool.registry.parked(), 0);
    drop(far);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while pool.registry.parked() != 1 {
        assert!(tokio::time::Instant::now() < deadline, "never parked");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn draining_node_says_so_and_takes_no_more() {
    let mut far = Far::new(world()).await;
    far.until("it has told", |far| far.state.as_ref().is_some_and(|s| s.ready)).await;
    far.around.draining.store(true, Ordering::Relaxed);
    far.until("it tells", |far| far.state.as_ref().is_some_and(|s| s.draining && !s.ready)).await;
    far.open(1, None);
    far.until("refused", |far| far.closed.contains_key(&1)).await;
    assert_eq!(far.closed[&1], ByNode::Refused);
}

impl Far {
    async fn at_work_without_job(&mut self, session: u32) {
        self.open(session, None);
        self.say(session, false, LOGIN);
        self.until("at work", |far| far.wants.contains_key(&session)).await;
    }
}
