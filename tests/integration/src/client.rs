//! A stratum client that does exactly what a test tells it, right or wrong.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use seam_stratum::client::{Subscribed, Work};
use seam_stratum::job::display_hash;
use seam_stratum::{Difficulty, FromServer, LineScanner, Nonce2, Target};
use serde_json::{Value, json};

/// Answers that wait for a quorum on a busy machine come well within it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a pool.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    scanner: LineScanner,
    next_id: u64,
    /// What came unasked, oldest first.
    pub notifications: VecDeque<Value>,
    /// The session's id, to resume it.
    pub sid: Option<String>,
    extranonce1: Vec<u8>,
    nonce2_len: u8,
    next_nonce2: u64,
    difficulty: Difficulty,
    work: Option<(Work, Target)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The result, null where there is an error.
    pub result: Value,
    /// Code and text of the error.
    pub error: Option<(i64, String)>,
}

impl Answer {
    /// Whether the result is `true`.
    pub fn is_true(&self) -> bool {
        self.result == true && self.error.is_none()
    }

    /// The error's code, 0 where there is none.
    pub fn code(&self) -> i64 {
        self.error.as_ref().map_or(0, |(code, _)| *code)
    }
}

/// A share, ready to be submitted (and, by a test, to be spoiled).
#[derive(Clone, Debug)]
pub struct Share {
    /// Job id, nonce2, ntime, nonce, as hexadecimal.
    pub parameters: [String; 4],
    /// Its hash in the order SHA-256 gives it.
    pub hash: [u8; 32],
    /// Whether it is a block.
    pub is_block: bool,
}

impl Share {
    /// Its hash as people read it.
    pub fn display(&self) -> String {
        display_hash(&self.hash)
    }
}

impl Client {
    /// Connects, and says nothing yet.
    pub fn connect(address: &str) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Takes a connection that the test made in its own way.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
            scanner: LineScanner::new(1 << 20),
            next_id: 1,
            notifications: VecDeque::new(),
            sid: None,
            extranonce1: Vec::new(),
            nonce2_len: 0,
            next_nonce2: 1,
            difficulty: Difficulty::ONE,
            work: None,
        }
    }

    /// Connects, subscribes and logs in; panics if the pool does not want it.
    pub fn log_in(address: &str, user: &str, password: &str) -> Self {
        let mut client = Self::connect(address);
        client.subscribe(None);
        let answer = client.call("mining.authorize", json!([user, password]));
        assert!(answer.is_true(), "{user}: {answer:?}");
        client
    }

    /// Subscribes, to resume a session where a sid is given.
    pub fn subscribe(&mut self, sid: Option<&str>) {
        let parameters = sid.map_or(json!(["test/1"]), |sid| json!(["test/1", sid]));
        let answer = self.call("mining.subscribe", parameters);
        let subscribed = Subscribed::parse(&answer.result.to_string())
            .unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        self.sid = subscribed.sid;
        self.extranonce1 = subscribed.extranonce1;
        self.nonce2_len = subscribed.nonce2_len;
    }

    /// Sends a request and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Answer {
        let id = self.ask(method, parameters);
        self.answer_to(&id)
    }

    /// Sends a request. Returns its id.
    pub fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let id = json!(self.next_id);
        self.next_id += 1;
        let line = json!({"id": id, "method": method, "params": parameters});
        self.send(format!("{line}\n").as_bytes());
        id
    }

    /// The connection alone, for a miner that reads no more.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// As [`Client::send`]; the other side may have hung up.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        self.stream.write_all(bytes)
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Waits for the answer with this id.
    pub fn answer_to(&mut self, id: &Value) -> Answer {
        loop {
            let line = self.line().expect("the pool hung up before it answered");
            if line.get("method").is_some_and(|method| !method.is_null()) {
                self.hear(line);
            } else if line["id"] == *id {
                let error = &line["error"];
                return Answer {
                    result: line["result"].clone(),
                    error: (!error.is_null()).then(|| {
                        let text = error[1].as_str().unwrap_or_default();
                        (error[0].as_i64().unwrap_or_default(), text.to_owned())
                    }),
                };
            }
        }
    }

    /// The next line as JSON; none when the other side has hung up. Panics after half a minute.
    pub fn line(&mut self) -> Option<Value> {
        let line = self.text_line(PATIENCE)?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next line as it is; none when the other side has hung up.
    pub fn text_line(&mut self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = self.scanner.next(&self.received).unwrap() {
                let line = String::from_utf8(found.line.to_vec()).unwrap();
                self.received.drain(..found.consumed);
                return Some(line);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the pool said nothing for {patience:?}");
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return None,
                    _ => panic!("{error}"),
                },
            }
        }
    }

    /// Waits until the pool hangs up, within half a minute.
    pub fn wait_closed(&mut self) {
        while self.text_line(PATIENCE).is_some() {}
    }

    /// Takes in what comes until there is work.
    pub fn wait_work(&mut self) {
        while self.work.is_none() {
            let line = self.line().expect("the pool hung up before it sent work");
            self.hear(line);
        }
    }

    /// Takes in what comes until there is other work than the job with this id.
    pub fn wait_other_work(&mut self, job: &str) {
        while self.work.as_ref().is_none_or(|(work, _)| work.job_id == job) {
            let line = self.line().expect("the pool hung up before it sent work");
            self.hear(line);
        }
    }

    /// The parameters of the newest `mining.notify`.
    pub fn newest_job(&mut self) -> &Value {
        self.wait_work();
        let mut newest = self.notifications.iter().rev();
        &newest.find(|line| line["method"] == "mining.notify").unwrap()["params"]
    }

    /// The difficulty of the next work.
    pub fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    /// The session's extranonce1.
    pub fn extranonce1(&self) -> &[u8] {
        &self.extranonce1
    }

    /// Takes one line in, whatever it is, and returns it.
    pub fn listen(&mut self) -> Value {
        let line = self.line().expect("the pool hung up");
        if let Ok(subscribed) = Subscribed::parse(&line["result"].to_string()) {
            self.sid = subscribed.sid;
            self.extranonce1 = subscribed.extranonce1;
            self.nonce2_len = subscribed.nonce2_len;
        }
        if line["method"].is_string() {
            self.hear(line.clone());
        }
        line
    }

    /// Finds a share for the newest work: one that meets the session's difficulty, and one that does
    /// not where `meets` is false.
    pub fn find(&mut self, meets: bool) -> Share {
        self.find_rolled(meets, 0)
    }

    /// As [`Client::find`], with these version bits rolled.
    pub fn find_rolled(&mut self, meets: bool, bits: u32) -> Share {
        self.wait_work();
        let (work, target) = self.work.as_ref().unwrap();
        let network = Target::from_nbits(work.nbits).unwrap();
        loop {
            let nonce2 = Nonce2::from_counter(self.next_nonce2, self.nonce2_len);
            self.next_nonce2 += 1;
            let mut header = work.header(&self.extranonce1, nonce2.as_bytes(), bits, work.ntime);
            for nonce in 0..1 << 24 {
                let hash = header.hash(nonce);
                if target.is_met_by(&hash) == meets {
                    return Share {
                        parameters: [
                            work.job_id.clone(),
                            nonce2.to_string(),
                            format!("{:08x}", work.ntime),
                            format!("{nonce:08x}"),
                        ],
                        hash,
                        is_block: network.is_met_by(&hash),
                    };
                }
            }
        }
    }

    /// Submits a share.
    pub fn submit(&mut self, user: &str, share: &Share) -> Answer {
        let id = self.ask_submit(user, share);
        self.answer_to(&id)
    }

    /// Submits a share and does not wait. Returns the request's id.
    pub fn ask_submit(&mut self, user: &str, share: &Share) -> Value {
        let [job, nonce2, ntime, nonce] = &share.parameters;
        self.ask("mining.submit", json!([user, job, nonce2, ntime, nonce]))
    }

    fn hear(&mut self, line: Value) {
        let text = line.to_string();
        match FromServer::parse(text.as_bytes()).unwrap() {
            FromServer::Notify(notify) => {
                self.work = Some((Work::new(*notify), self.difficulty.target()));
            }
            FromServer::SetDifficulty(difficulty) => self.difficulty = difficulty,
            _ => {}
        }
        self.notifications.push_back(line);
    }
}
