//! `seamctl mine` as a process, against a pool that is this test and judges every share.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use seam_stratum::job::{JobParams, Payout, VERSION_ROLLING_MASK};
use seam_stratum::message::Call;
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::sid::SidKey;
use seam_stratum::write;
use seam_stratum::{
    Difficulty, Extranonce1, Id, Incoming, Job, JobId, Reject, Sid, Submit, Template,
};
use serde_json::Value;

const EXTRANONCE1: Extranonce1 = Extranonce1(0x0800_0001);
const KEY: SidKey = SidKey([7; 32]);
/// About 4,000 hashes.
const DIFFICULTY: f64 = 1e-6;

#[test]
fn shares_are_right_for_their_job_difficulty_and_version_bits() {
    let pool = Pool::listen(|pool| {
        let mut talk = pool.accept();
        talk.greet();
        talk.notify(1, 0x11, true);
        let mut rolled = 0;
        for round in 0..20 {
            let submit = talk.next_share();
            rolled |= submit.version_bits;
            // Harder from the next job on; the miner has to know which is which.
            if round == 9 {
                talk.set_difficulty(DIFFICULTY * 4.0);
                talk.notify(2, 0x11, false);
            }
        }
        assert_ne!(rolled, 0, "no version was ever rolled");
        talk.until_closed();
    });
    let summary = summary(&pool.mine(&["--shares", "20"]));
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&20.into(), &0.into()));
    pool.join();
}

#[test]
fn block_ends_the_work_and_the_run() {
    let pool = Pool::listen(|pool| {
        let mut talk = pool.accept();
        talk.greet();
        // Every hash is a block.
        talk.nbits = 0x207f_ffff;
        for height in 1..=3 {
            talk.notify(height, height as u8, true);
            talk.next_share();
        }
        talk.until_closed();
        assert_eq!(talk.more_shares, 0, "nothing is sent on a parent whose block was found");
    });
    let summary = summary(&pool.mine(&["--blocks", "3", "--threads", "2"]));
    assert_eq!((&summary["blocks"], &summary["accepted"]), (&3.into(), &3.into()));
    pool.join();
}

#[test]
fn session_is_resumed_after_a_drop_and_unanswered_shares_come_again() {
    let pool = Pool::listen(|pool| {
        let mut talk = pool.accept();
        talk.greet();
        talk.notify(1, 0x11, true);
        let unanswered = talk.hear_share();
        let jobs = std::mem::take(&mut talk.jobs);
        drop(talk);
        let mut talk = pool.accept();
        talk.jobs = jobs;
        talk.greet();
        assert_eq!(talk.resumed.as_deref(), Some(sid().to_string().as_str()));
        let again = talk.next_share();
        assert_eq!(again, unanswered);
        talk.notify(2, 0x11, true);
        talk.next_share();
        talk.until_closed();
    });
    let summary = summary(&pool.mine(&["--shares", "2"]));
    assert_eq!(summary["accepted"], 2);
    assert_eq!((&summary["dropped"], &summary["resumed"]), (&1.into(), &1.into()));
    pool.join();
}

#[test]
fn miner_goes_where_it_is_sent() {
    let second = Pool::listen(|pool| {
        let mut talk = pool.accept();
        talk.greet();
        talk.notify(2, 0x11, true);
        talk.next_share();
        talk.until_closed();
    });
    let port = second.port;
    let first = Pool::listen(move |pool| {
        let mut talk = pool.accept();
        talk.greet();
        talk.say(|out| write::show_message(out, "moving"));
        talk.say(|out| write::ping(out, 77));
        talk.say(|out| write::reconnect(out, Some(("127.0.0.1", port)), 0));
        talk.until_closed();
    });
    let output = first.mine_text(&["--shares", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the pool says: moving") && text.contains("accepted"), "{text}");
    first.join();
    second.join();
}

#[test]
fn tls_pool_is_believed_by_its_ca_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let certs = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seamctl"));
        assert!(command.arg("certs").args(words).args(["--dir", path]).status().unwrap().success());
    };
    certs(&["ca"]);
    certs(&["proxy", "proxy-0", "--host", "127.0.0.1"]);
    let cert = CertificateDer::from_pem_file(dir.path().join("proxy-0.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.path().join("proxy-0.key")).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert], key).unwrap();
    let config = Arc::new(config);

    let pool = Pool::listen(move |pool| {
        let mut talk = pool.accept_tls(&config);
        talk.greet();
        talk.notify(1, 0x11, true);
        talk.next_share();
        talk.until_closed();
        // The miner that does not believe us ends the handshake.
        let mut doubting = pool.accept_tls(&config);
        assert_eq!(doubting.try_line(), None);
    });
    let ca = dir.path().join("ca.pem");
    let good = pool.mine_tls(&["--shares", "1", "--ca", ca.to_str().unwrap()]);
    assert_eq!(summary(&good)["accepted"], 1);
    let other = tempfile::tempdir().unwrap();
    let other_path = other.path().to_str().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_seamctl"))
        .args(["certs", "ca", "--dir", other_path])
        .status()
        .unwrap();
    assert!(made.success());
    let other = other.path().join("ca.pem");
    let refused = pool.mine_tls(&["--for", "0.5", "--ca", other.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(3));
    pool.join();
}

#[test]
fn unknown_user_is_exit_code_1_and_no_pool_is_exit_code_3() {
    let pool = Pool::listen(|pool| {
        let mut talk = pool.accept();
        talk.refuse = true;
        talk.greet();
        talk.until_closed();
    });
    let refused = pool.mine(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("may not mine"));
    pool.join();

    let nobody = Pool::listen(|_| {});
    nobody.wait();
    let unreachable = nobody.mine(&["--for", "0.5"]);
    assert_eq!(unreachable.status.code(), Some(3));
}

fn sid() -> Sid {
    Sid::mint(&KEY, EXTRANONCE1)
}

fn summary(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A listening pool whose conversation runs on a thread.
struct Pool {
    port: u16,
    thread: JoinHandle<()>,
}

impl Pool {
    fn listen(story: impl FnOnce(&Listener) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { port, thread: thread::spawn(move || story(&Listener(listener))) }
    }

    fn mine(&self, options: &[&str]) -> Output {
        self.run("tcp", &[&["--json"], options].concat())
    }

    fn mine_tls(&self, options: &[&str]) -> Output {
        self.run("ssl", &[&["--json"], options].concat())
    }

    fn mine_text(&self, options: &[&str]) -> Output {
        self.run("tcp", options)
    }

    fn run(&self, kind: &str, options: &[&str]) -> Output {
        let url = format!("stratum+{kind}://127.0.0.1:{}", self.port);
        let limits = ["--for", "60"];
        let limits = if options.contains(&"--for") { &limits[..0] } else { &limits[..] };
        Command::new(env!("CARGO_BIN_EXE_seamctl"))
            .args(["mine", "--url", &url, "--user", "al.rig"])
            .args(options)
            .args(limits)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Waits for the conversation; what it asserted fails here.
    fn join(self) {
        self.thread.join().unwrap();
    }

    /// Waits until nobody listens any more.
    fn wait(&self) {
        while !self.thread.is_finished() {
            thread::yield_now();
        }
    }
}

struct Listener(TcpListener);

impl Listener {
    fn accept(&self) -> Talk {
        Talk::on(Box::new(self.stream()))
    }

    fn accept_tls(&self, config: &Arc<ServerConfig>) -> Talk {
        let connection = ServerConnection::new(Arc::clone(config)).unwrap();
        Talk::on(Box::new(StreamOwned::new(connection, self.stream())))
    }

    fn stream(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }
}

trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// One connection, from the pool's side.
struct Talk {
    reader: BufReader<Box<dyn Wire>>,
    resumed: Option<String>,
    refuse: bool,
    nbits: u32,
    mask: u32,
    difficulty: Difficulty,
    jobs: Vec<(Job, Difficulty)>,
    /// Shares that nobody asked for.
    more_shares: u32,
}

impl Talk {
    fn on(stream: Box<dyn Wire>) -> Self {
        Self {
            reader: BufReader::new(stream),
            resumed: None,
            refuse: false,
            nbits: 0x1d00_ffff,
            mask: 0,
            difficulty: Difficulty::ONE,
            jobs: Vec::new(),
            more_shares: 0,
        }
    }

    /// Everything up to the answer to `mining.authorize`.
    fn greet(&mut self) {
        loop {
            let line = self.line().expect("the miner hung up");
            let Ok(Incoming::Request(request)) = Incoming::parse(&line) else { panic!() };
            let id = request.id;
            match request.call {
                Call::Configure(_) => {
                    self.mask = VERSION_ROLLING_MASK;
                    let granted = serde_json::json!({
                        "version-rolling": true,
                        "version-rolling.mask": format!("{:08x}", self.mask),
                    });
                    self.say(|out| write::result(out, id, &granted));
                }
                Call::Subscribe { .. } => {
                    let message: Value = serde_json::from_slice(&line).unwrap();
                    self.resumed = message["params"][1].as_str().map(str::to_owned);
                    self.say(|out| write::subscribed(out, id, &sid(), 8));
                }
                Call::Authorize { .. } if self.refuse => {
                    self.say(|out| write::reject(out, id, &Reject::Unauthorized));
                    return;
                }
                Call::Authorize { .. } => {
                    self.say(|out| write::result_bool(out, id, true));
                    self.set_difficulty(DIFFICULTY);
                    return;
                }
                _ => panic!("{}", String::from_utf8_lossy(&line)),
            }
        }
    }

    fn set_difficulty(&mut self, difficulty: f64) {
        self.difficulty = Difficulty::new(difficulty).unwrap();
        let difficulty = self.difficulty;
        self.say(|out| write::set_difficulty(out, difficulty));
    }

    fn notify(&mut self, id: u32, parent: u8, clean: bool) {
        let template = Template {
            height: 100 + id,
            version: 0x2000_0000,
            prev_hash: [parent; 32],
            nbits: self.nbits,
            ntime: 1_700_000_000,
            min_ntime: 1_699_990_000,
            coinbase_value: 5_000_000_000,
            witness_commitment: None,
            merkle_branch: vec![[9; 32], [8; 32]],
            transaction_count: 3,
        };
        let params = JobParams {
            id: JobId::new(1, id).unwrap(),
            payout: &Payout::to_script(vec![0x51]),
            tag: b"/test/",
            nonce2_len: 8,
            version_mask: VERSION_ROLLING_MASK,
            clean,
            created_at: 1_700_000_000,
        };
        let job = Job::assemble(&template, &params).unwrap();
        let line = job.notify_line(clean);
        self.jobs.push((job, self.difficulty));
        self.say(|out| out.extend_from_slice(&line));
    }

    /// A share, judged and answered.
    fn next_share(&mut self) -> Share {
        let (id, share) = self.judge();
        let id = id.to_string();
        self.say(|out| {
            out.extend_from_slice(
                format!("{{\"id\":{id},\"result\":true,\"error\":null}}\n").as_bytes(),
            );
        });
        share
    }

    /// A share, judged and not answered.
    fn hear_share(&mut self) -> Share {
        self.judge().1
    }

    fn judge(&mut self) -> (u64, Share) {
        let line = self.line().expect("the miner hung up");
        let Ok(Incoming::Request(request)) = Incoming::parse(&line) else { panic!() };
        let Call::Submit(submit) = request.call else {
            panic!("{}", String::from_utf8_lossy(&line))
        };
        (number(request.id), self.check(&submit))
    }

    fn check(&self, submit: &Submit<'_>) -> Share {
        assert_eq!(submit.user, "al.rig");
        let (job, difficulty) =
            self.jobs.iter().find(|(job, _)| job.id == submit.job).expect("a job of ours");
        let share = Share {
            extranonce1: EXTRANONCE1,
            nonce2: submit.nonce2,
            ntime: submit.ntime,
            nonce: submit.nonce,
            version_bits: submit.version_bits.unwrap_or(0),
        };
        let rules =
            Rules { version_mask: self.mask, max_ntime: u32::MAX, target: difficulty.target() };
        assert!(verify(job, &share, &rules).unwrap().meets_target);
        share
    }

    /// Waits until the miner hangs up, and counts what it still sends.
    fn until_closed(&mut self) {
        while let Some(line) = self.line() {
            if let Ok(Incoming::Request(request)) = Incoming::parse(&line)
                && matches!(request.call, Call::Submit(_))
            {
                self.more_shares += 1;
                let id = number(request.id);
                let answer = format!("{{\"id\":{id},\"result\":true,\"error\":null}}\n");
                self.say(|out| out.extend_from_slice(answer.as_bytes()));
            }
        }
    }

    fn say(&mut self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        line(&mut out);
        // The miner may be gone; what it should have heard is then missed by the test.
        let _ = self.reader.get_mut().write_all(&out);
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};

        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_ascii_end().to_vec()),
            Err(error) if matches!(error.kind(), ConnectionReset | UnexpectedEof) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`Talk::line`], for a connection that may fail.
    fn try_line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).ok().filter(|count| *count > 0).map(|_| line)
    }
}

fn number(id: Id<'_>) -> u64 {
    id.as_json().parse().unwrap()
}
