//! What miners say, and what they get to hear.

mod conversations;
mod faults;
mod shares;
mod tickets;
mod work;

use std::sync::Arc;

use serde_json::Value;

use super::{Next, Session, Start, Via};
use crate::jobs::Entry;
use crate::testing::{FakeInbox, START, Wanted, World, grind};

/// A session and the other end of its line.
struct Miner<'a> {
    world: &'a World,
    session: Session,
    inbox: Arc<FakeInbox>,
    next: Next,
}

impl<'a> Miner<'a> {
    fn new(world: &'a World) -> Self {
        Self::start(world, |_| {})
    }

    fn start(world: &'a World, change: impl FnOnce(&mut Start)) -> Self {
        let inbox = Arc::new(FakeInbox::default());
        let peer = "10.1.2.3".parse().unwrap();
        let mut start = Start::fresh(Via::Direct, peer, Arc::clone(&inbox) as _);
        change(&mut start);
        Self { world, session: Session::new(&world.pool, start), inbox, next: Next::Go }
    }

    /// Subscribed, logged in as alice, with work.
    fn ready(world: &'a World) -> Self {
        let mut miner = Self::new(world);
        miner.say(r#"{"id":1,"method":"mining.subscribe","params":["test/1"]}"#);
        miner.say(r#"{"id":2,"method":"mining.authorize","params":["alice","secret"]}"#);
        miner.work();
        miner
    }

    /// Sends a line; what is answered at once.
    fn say(&mut self, line: &str) -> Vec<Value> {
        self.say_bytes(line.as_bytes(), false)
    }

    fn say_bytes(&mut self, line: &[u8], replay: bool) -> Vec<Value> {
        let mut out = Vec::new();
        self.next = self.session.line(&self.world.pool, line, replay, &mut out);
        let mut lines = parse(&out);
        lines.extend(self.hear());
        lines
    }

    /// Takes the events that were posted.
    fn hear(&mut self) -> Vec<Value> {
        let mut out = Vec::new();
        let events = std::mem::take(&mut *self.inbox.events.lock());
        for (token, event) in events {
            let next = self.session.event(&self.world.pool, token, event, &mut out);
            if next != Next::Go {
                self.next = next;
            }
        }
        parse(&out)
    }

    /// Takes the current job, as a connection does.
    fn work(&mut self) -> Vec<Value> {
        let Some(job) = self.world.pool.jobs.current() else { return Vec::new() };
        let mut out = Vec::new();
        if self.session.wants(&job) {
            let clean = self.session.work(&self.world.pool, &job, &mut out);
            out.extend_from_slice(job.line(clean));
        }
        parse(&out)
    }

    fn submit_line(&self, id: u64, job: &Entry, nonce: u32) -> String {
        format!(
            r#"{{"id":{id},"method":"mining.submit","params":["alice.rig","{}","{}","{:08x}","{nonce:08x}"]}}"#,
            job.id(),
            "00".repeat(usize::from(job.job.nonce2_len)),
            job.job.ntime,
        )
    }

    fn grind(&self, job: &Entry, from: u32, wanted: Wanted) -> u32 {
        self.grind_at(job, START, from, wanted)
    }

    fn grind_at(&self, job: &Entry, difficulty: f64, from: u32, wanted: Wanted) -> u32 {
        let extranonce1 = self.session.extranonce1().unwrap();
        grind(&job.job, extranonce1, difficulty, 0, from, wanted)
    }

    /// Submits a share that meets the difficulty.
    fn good_share(&mut self, id: u64, job: &Entry, from: u32) -> (u32, Vec<Value>) {
        let nonce = self.grind(job, from, Wanted::Good);
        let line = self.submit_line(id, job, nonce);
        (nonce, self.say(&line))
    }
}

fn parse(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The code of the only answer.
fn code(lines: &[Value]) -> u64 {
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0]["error"][0].as_u64().unwrap_or_else(|| panic!("no error in {lines:?}"))
}

fn method(line: &Value) -> &str {
    line["method"].as_str().unwrap_or_default()
}
