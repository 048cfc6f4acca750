//! From Core's new tip to the bytes in a miner's socket, through the node's own job maker and sessions.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use seam_bitcoin_core::BlockOutcome;
use seam_cluster::ledger::{Share, UserId};
use seam_cluster::{Completion, Full};
use seam_node::auth::Gate;
use seam_node::clock::Clock;
use seam_node::config::{Authorization, Config};
use seam_node::direct::{Direct, listen};
use seam_node::jobmaker::JobMaker;
use seam_node::jobs::Jobs;
use seam_node::ledger::{Ledger, LoginDone, UserDone};
use seam_node::limits::Addresses;
use seam_node::links::Links;
use seam_node::metrics::Metrics;
use seam_node::pool::{Pool, Settings, Solver};
use seam_node::registry::Registry;
use seam_node::session::{LoginResult, Reply, Solved};
use seam_stratum::SidKey;
use seam_stratum::job::{Payout, display_hash};
use tokio::net::TcpListener;

use crate::chain::Both;
use crate::support::{DEADLINE, submit, until};
use crate::table::{Row, Table};

/// New tips for each figure.
const ROUNDS: usize = 300;

pub(crate) fn measure(both: &Both<'_>, table: &mut Table, mempool: &'static str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(async { Node::start(both) });
    let jobs = runtime.block_on(node.miner());
    let mut seen =
        Row::micros("tip", "block given to Core -> its new tip seen in process", mempool);
    let mut heard =
        Row::micros("tip", "new tip seen in process -> notify read by a miner", mempool);
    let mut whole = Row::micros("tip", "block given to Core -> notify read by a miner", mempool);
    // Until Core's check of the job is over: it would be in the next tip's way.
    until("the first job", || (node.checks() > 0).then_some(()));
    for _ in 0..ROUNDS {
        let checks = node.checks();
        let (template, block) = both.empty_block();
        let known = template.previous;
        let tip = display_hash(block.block_hash().as_ref());
        let (began, at) = thread::scope(|scope| {
            let (ready, is_ready) = mpsc::channel();
            let core = both.core;
            let waiter = scope.spawn(move || {
                ready.send(()).unwrap();
                core.wait_for_tip(known, DEADLINE).unwrap().unwrap();
                Instant::now()
            });
            is_ready.recv().unwrap();
            let began = Instant::now();
            assert_eq!(submit(both.core, &template, &block), BlockOutcome::Accepted);
            (began, waiter.join().unwrap())
        });
        let notified = loop {
            let (previous, clean, at) = jobs.recv_timeout(DEADLINE).unwrap();
            if clean && previous == tip {
                break at;
            }
        };
        seen.push(at.saturating_duration_since(began));
        heard.push(notified.saturating_duration_since(at));
        whole.push(notified.saturating_duration_since(began));
        both.tell_bitcoind(&block);
        until("Core's check of the job", || (node.checks() > checks).then_some(()));
    }
    table.add([seen, heard, whole]);
    node.stop.store(true, Ordering::Release);
    node.maker.join().unwrap();
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// A node without ledger and solver.
struct Node {
    address: std::net::SocketAddr,
    metrics: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    maker: thread::JoinHandle<()>,
}

impl Node {
    fn start(both: &Both<'_>) -> Self {
        let config = Config::default();
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
        let jobs = Arc::new(Jobs::new());
        let ledger: Arc<dyn Ledger> = Arc::new(Anyone);
        let limits = config.limits.clone();
        let registry = Registry::new(limits.parked_sessions, limits.parked_seconds, clock.clone());
        registry.set_sid_key(SidKey([3; 32]));
        registry.add_numbers(0..4_096);
        let settings = Settings::new(&config);
        let pool = Arc::new(Pool {
            settings,
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            jobs: Arc::clone(&jobs),
            gate: Gate::new(
                Arc::clone(&ledger),
                Authorization::Open,
                bitcoin::Network::Regtest,
                None,
                Duration::ZERO,
            ),
            ledger,
            solver: Arc::new(Nobody),
            registry,
            addresses: Arc::new(Addresses::new(
                limits.clone(),
                clock.clone(),
                Arc::clone(&metrics),
            )),
            links: Links::default(),
        });
        let direct = Direct::new(pool, limits, "");
        let listener = listen("bench", "127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&direct).accept(TcpListener::from_std(listener).unwrap()));
        tokio::spawn(direct.fan_out());
        let stop = Arc::new(AtomicBool::new(false));
        let maker = JobMaker {
            core: both.core.clone(),
            jobs,
            publish: Box::new(drop),
            lease: Box::new(|| Some(1)),
            settings: config.jobs,
            is_private_chain: true,
            payout: Payout::to_script(both.wallet.segwit_script().into_bytes()),
            tag: b"/seam/".to_vec(),
            nonce2_len: settings.nonce2_len,
            version_mask: settings.version_mask,
            clock,
            metrics: Arc::clone(&metrics),
            stop: Arc::clone(&stop),
        };
        let maker = thread::spawn(move || maker.run());
        Self { address, metrics, stop, maker }
    }

    /// Connects a miner, and returns what it is told: previous block, clean, when it had read it.
    async fn miner(&self) -> Receiver<(String, bool, Instant)> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .write_all(
                b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n\
                  {\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"al\",\"x\"]}\n",
            )
            .unwrap();
        let (jobs, heard) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = String::new();
            while matches!(lines.read_line(&mut line), Ok(1..)) {
                let at = Instant::now();
                let message: serde_json::Value = serde_json::from_str(&line).unwrap();
                if message["method"] == "mining.notify" {
                    let previous = message["params"][1].as_str().unwrap();
                    let clean = message["params"][8].as_bool().unwrap();
                    if jobs.send((unscramble(previous), clean, at)).is_err() {
                        return;
                    }
                }
                line.clear();
            }
        });
        heard
    }

    /// How many templates were checked by now, whatever came of it.
    fn checks(&self) -> u64 {
        let count =
            |result| self.metrics.template_checks.get_or_create(&[("result", result)]).get();
        ["valid", "outdated", "refused", "failed"].into_iter().map(count).sum()
    }
}

/// Stratum sends the previous hash as eight words, each in the other order.
fn unscramble(hash: &str) -> String {
    let words: Vec<&str> = (0..8).rev().map(|word| &hash[8 * word..8 * word + 8]).collect();
    words.concat()
}

struct Anyone;

impl Ledger for Anyone {
    fn submit(&self, _: Share, _: Arc<dyn Completion>, _: u64) -> Result<(), Full> {
        Err(Full)
    }

    fn login(&self, _: &str, _: &str, done: LoginDone) {
        done(LoginResult::Accepted(UserId(1)));
    }

    fn ensure_user(&self, _: &str, done: LoginDone) {
        done(LoginResult::Accepted(UserId(1)));
    }

    fn add_user(&self, _: &str, _: &str, done: UserDone) {
        done(Ok(()));
    }
}

struct Nobody;

impl Solver for Nobody {
    fn solved(&self, _: Solved, _: Reply) {}
}
