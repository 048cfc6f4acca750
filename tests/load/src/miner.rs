//! A single blocking miner, for tests that look at one conversation closely.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use seam_stratum::client::{FromServer, Subscribed, Work, configured_mask};
use seam_stratum::job::display_hash;
use seam_stratum::write::{self, SubmitParams};
use seam_stratum::{Difficulty, LineScanner, Nonce2};
use serde_json::Value;

/// Hashes tried for one share before it counts as too difficult.
const MAX_HASHES: u64 = 1 << 26;

/// The longest line taken from a server.
const MAX_SERVER_LINE: usize = 256 * 1024;

/// A connection to a server, and what came over it.
pub struct Miner {
    stream: TcpStream,
    received: Vec<u8>,
    scanner: LineScanner,
    deadline: Duration,
    next_id: u64,
    /// Lines that came while another was awaited, oldest first.
    unread: VecDeque<String>,
    /// The answer to `mining.subscribe`.
    pub subscribed: Option<Subscribed>,
    /// The mask granted, 0 without version rolling.
    pub version_mask: u32,
    /// Of jobs to come.
    pub difficulty: Difficulty,
    /// The newest job, and the difficulty it came with.
    pub job: Option<(Work, Difficulty)>,
    nonce2: u64,
    nonce: u32,
}

/// A share that was found, ready to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundShare {
    /// Job it is for.
    pub job: String,
    /// The miner's part of the extranonce.
    pub nonce2: Nonce2,
    /// Seconds since 1970.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// Where version rolling was granted.
    pub version_bits: Option<u32>,
    /// Header hash as people read it.
    pub hash: String,
}

/// What a server answered to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `result`, any JSON.
    Result(Value),
    /// `error`: code and message.
    Error(i64, String),
}

impl Answer {
    /// Whether it is exactly `true`.
    pub fn is_true(&self) -> bool {
        *self == Self::Result(Value::Bool(true))
    }

    /// The code, where it is an error.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Error(code, _) => Some(*code),
            Self::Result(_) => None,
        }
    }
}

impl Miner {
    /// Connects. Every later wait ends after `deadline`.
    pub fn connect(to: impl ToSocketAddrs, deadline: Duration) -> anyhow::Result<Self> {
        let address = to.to_socket_addrs()?.next().context("no address")?;
        let stream = TcpStream::connect_timeout(&address, deadline).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(deadline))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            scanner: LineScanner::new(MAX_SERVER_LINE),
            deadline,
            next_id: 1,
            unread: VecDeque::new(),
            subscribed: None,
            version_mask: 0,
            difficulty: Difficulty::ONE,
            job: None,
            nonce2: 0,
            nonce: 0,
        })
    }

    /// `mining.subscribe`, with a sid to resume; then `mining.authorize`; then the first job.
    pub fn join(&mut self, sid: Option<&str>, user: &str, password: &str) -> anyhow::Result<()> {
        self.subscribe(sid)?;
        if !self.authorize(user, password)?.is_true() {
            bail!("not authorized");
        }
        self.wait_for_job()
    }

    /// `mining.configure` for version rolling; the mask granted is kept.
    pub fn configure(&mut self, mask: u32) -> anyhow::Result<Answer> {
        let id = self.next_id();
        let answer = self.ask(id, |out| write::configure(out, id, mask, 2))?;
        if let Answer::Result(result) = &answer {
            self.version_mask = configured_mask(&result.to_string()).unwrap_or(0);
        }
        Ok(answer)
    }

    /// `mining.subscribe`.
    pub fn subscribe(&mut self, sid: Option<&str>) -> anyhow::Result<&Subscribed> {
        let id = self.next_id();
        match self.ask(id, |out| write::subscribe(out, id, "seam-load/miner", sid))? {
            Answer::Result(result) => {
                Ok(self.subscribed.insert(Subscribed::parse(&result.to_string())?))
            }
            Answer::Error(code, message) => bail!("subscribe refused: {code} {message}"),
        }
    }

    /// `mining.authorize`.
    pub fn authorize(&mut self, user: &str, password: &str) -> anyhow::Result<Answer> {
        let id = self.next_id();
        self.ask(id, |out| write::authorize(out, id, user, password))
    }

    /// Reads until there is a job.
    pub fn wait_for_job(&mut self) -> anyhow::Result<()> {
        self.wait_until("a job", |miner| miner.job.is_some())
    }

    /// Reads until `condition` holds.
    pub fn wait_until(
        &mut self,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + self.deadline;
        while !condition(self) {
            let line = self.read_line(until).with_context(|| format!("waiting for {what}"))?;
            self.take(&line);
            self.unread.push_back(line);
        }
        Ok(())
    }

    /// Finds a share for the newest job at the difficulty it came with.
    pub fn find_share(&mut self) -> anyhow::Result<FoundShare> {
        let target = self.job.as_ref().context("no job yet")?.1.target();
        self.find(|hash| target.is_met_by(hash))
    }

    /// Finds a hash for the newest job that does *not* meet its difficulty.
    pub fn find_low_share(&mut self) -> anyhow::Result<FoundShare> {
        let target = self.job.as_ref().context("no job yet")?.1.target();
        self.find(|hash| !target.is_met_by(hash))
    }

    /// Submits, and waits for the answer.
    pub fn submit(&mut self, user: &str, share: &FoundShare) -> anyhow::Result<Answer> {
        let id = self.send_submit(user, share)?;
        self.answer(id)
    }

    /// Submits without waiting; the id is for [`Miner::answer`].
    pub fn send_submit(&mut self, user: &str, share: &FoundShare) -> anyhow::Result<u64> {
        let id = self.next_id();
        let mut out = Vec::new();
        let params = SubmitParams {
            user,
            job: &share.job,
            nonce2: share.nonce2,
            ntime: share.ntime,
            nonce: share.nonce,
            version_bits: share.version_bits,
        };
        write::submit(&mut out, id, &params);
        self.send(&out)?;
        Ok(id)
    }

    /// Waits for the answer to request `id`.
    pub fn answer(&mut self, id: u64) -> anyhow::Result<Answer> {
        let until = Instant::now() + self.deadline;
        let earlier = self.unread.iter().position(|line| answer_of(line, id).is_some());
        if let Some(line) = earlier.and_then(|index| self.unread.remove(index))
            && let Some(answer) = answer_of(&line, id)
        {
            return Ok(answer);
        }
        loop {
            let line = self.read_line(until).with_context(|| format!("waiting for answer {id}"))?;
            self.take(&line);
            if let Some(answer) = answer_of(&line, id) {
                return Ok(answer);
            }
            self.unread.push_back(line);
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn ask(&mut self, id: u64, request: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<Answer> {
        let mut out = Vec::new();
        request(&mut out);
        self.send(&out)?;
        self.answer(id)
    }

    fn find(&mut self, wanted: impl Fn(&[u8; 32]) -> bool) -> anyhow::Result<FoundShare> {
        let (work, _) = self.job.as_ref().context("no job yet")?;
        let subscribed = self.subscribed.as_ref().context("not subscribed")?;
        let len = subscribed.nonce2_len.min(Nonce2::MAX_LEN as u8);
        self.nonce2 += 1;
        let nonce2 = Nonce2::from_counter(self.nonce2, len);
        let bits = self.version_mask & 0x0000_e000;
        let mut header = work.header(&subscribed.extranonce1, nonce2.as_bytes(), bits, work.ntime);
        for _ in 0..MAX_HASHES {
            self.nonce = self.nonce.wrapping_add(1);
            let hash = header.hash(self.nonce);
            if wanted(&hash) {
                return Ok(FoundShare {
                    job: work.job_id.clone(),
                    nonce2,
                    ntime: work.ntime,
                    nonce: self.nonce,
                    version_bits: (self.version_mask != 0).then_some(bits),
                    hash: display_hash(&hash),
                });
            }
        }
        bail!("too difficult")
    }

    /// Learns from a line.
    fn take(&mut self, line: &str) {
        match FromServer::parse(line.as_bytes()) {
            Ok(FromServer::Notify(notify)) => {
                self.job = Some((Work::new(*notify), self.difficulty));
            }
            Ok(FromServer::SetDifficulty(difficulty)) => self.difficulty = difficulty,
            Ok(FromServer::SetVersionMask(mask)) => self.version_mask = mask,
            _ => {}
        }
    }

    fn read_line(&mut self, until: Instant) -> anyhow::Result<String> {
        loop {
            if let Some(found) = self.scanner.next(&self.received)? {
                let line = String::from_utf8(found.line.to_vec()).context("line in UTF-8")?;
                let consumed = found.consumed;
                self.received.drain(..consumed);
                return Ok(line);
            }
            if self.receive(until).context("receive")? == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    fn receive(&mut self, until: Instant) -> std::io::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 16 * 1024];
        let len = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..len]);
        Ok(len)
    }
}

/// The answer in `line`, if it is the one to request `id`.
fn answer_of(line: &str, id: u64) -> Option<Answer> {
    match FromServer::parse(line.as_bytes()) {
        Ok(FromServer::Answer(answer)) if answer.id.as_u64() == Some(id) => {
            Some(match answer.result {
                Ok(result) => Answer::Result(serde_json::from_str(result).ok()?),
                Err(error) => Answer::Error(error.code, error.message.into_owned()),
            })
        }
        _ => None,
    }
}
