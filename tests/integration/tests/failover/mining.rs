//! Miners at work on a cluster, and the accounts that have to agree afterwards.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use seam_integration::{Accounts, Chain, Cluster, Via};
use seam_load::{Load, Options, Rate, Report};

/// Users that the sessions share.
const USERS: u32 = 8;

/// Next to no hashing: a processor that mines is none that serves. A block is then a rare event.
const DIFFICULTY: &str = "1e-9";

/// Until all sessions work, with everything on two cores.
const JOIN: Duration = Duration::from_secs(90);

/// Until what was submitted is answered, in the end.
const ANSWERS: f64 = 20.0;

/// A cluster with users.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    seed: u64,
    /// What the miners of all runs were answered.
    accounts: Accounts,
}

/// Miners at work.
pub(crate) struct Mining {
    load: Load,
    rate: f64,
    accounting: PathBuf,
    began: Instant,
    events: Vec<(f64, String)>,
}

/// What miners were to see.
#[derive(Clone, Copy)]
pub(crate) struct Promise {
    /// The longest time that any session with an open submit waited for an answer.
    pub(crate) gap: Duration,
    /// Their own proxy died: connections may drop, and what was open is unknown to the miner.
    pub(crate) dropped: bool,
}

impl Promise {
    /// Nobody sees more than a gap in the answers.
    pub(crate) fn gap(gap: Duration) -> Self {
        Self { gap, dropped: false }
    }
}

impl Scene {
    /// Three nodes, two proxies.
    pub(crate) fn start(options: &[&str]) -> Self {
        let cluster = Cluster::start(Chain::Devnet, 3, 2, options);
        for user in 0..USERS {
            cluster.add_user(&format!("load{user}"), "secret");
        }
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = setting("SEAM_FAILOVER_SEED", clock.subsec_nanos().into());
        Self { cluster, seed, accounts: Accounts::default() }
    }

    /// Brings `sessions` miners over both proxies to work, and waits until they are.
    pub(crate) fn mine(&self, sessions: u32, change: impl FnOnce(&mut Options)) -> Mining {
        let proxies = self.cluster.proxies();
        let mut options = Options::new(&proxies[0].stratum);
        options.url = proxies.iter().map(|proxy| proxy.stratum.clone()).collect();
        let rate = setting("SEAM_FAILOVER_RATE", 500) as f64;
        options.sessions = sessions;
        options.ramp = f64::from(sessions) / 400.0;
        options.ready_timeout = JOIN.as_secs_f64();
        options.rate = Rate::PerSecond(rate);
        options.secs = 3_600.0;
        options.drain = ANSWERS;
        options.users = USERS;
        options.password = "secret".into();
        options.difficulty = Some(DIFFICULTY.parse().unwrap());
        options.version_rolling = true;
        let accounting = self.cluster.dir().join("accounting.csv");
        options.accounting = Some(accounting.clone());
        change(&mut options);
        let load = Load::spawn(options).unwrap();
        load.wait_until("all sessions to work", JOIN, |live| {
            live.is_working() && live.ready() >= u64::from(sessions)
        })
        .unwrap();
        let began = Instant::now();
        let mining = Mining { load, rate, accounting, began, events: Vec::new() };
        // A moment of its own for every run.
        mining.work(2.0 + (self.seed % 1_000) as f64 / 1_000.0);
        mining
    }
}

impl Mining {
    /// Lets miners submit for so many seconds of their schedule.
    pub(crate) fn work(&self, seconds: f64) {
        let wanted = self.load.live().submitted() + (self.rate * seconds) as u64;
        let patience = Duration::from_secs_f64(seconds + 60.0);
        self.load.wait_until("submits", patience, |live| live.submitted() >= wanted).unwrap();
    }

    /// Notes that something happens now, for the report of a failure.
    pub(crate) fn note(&mut self, what: &str) {
        self.events.push((self.began.elapsed().as_secs_f64(), what.to_owned()));
    }

    /// Ends the work, and compares what miners and ledger say with what was promised.
    pub(crate) fn judge(self, scene: &mut Scene, promise: Promise) -> Report {
        let Self { load, accounting, mut events, .. } = self;
        let report = load.stop().unwrap();
        let mut wrong = Vec::new();
        let mut zero = |what: &str, count: u64| {
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        };
        if !promise.dropped {
            zero("connections dropped", report.drops + report.connect_failures);
            zero("submits not answered", report.unanswered);
        }
        zero("sessions told to reconnect", report.reconnect_requests);
        zero("shares rejected", report.rejections() - stale(&report));
        zero("answers to nothing: a submit answered twice", report.unexpected_answers);
        zero("answers out of order", report.out_of_order);
        zero("lines that are no stratum", report.bad_lines);
        zero("sessions that never worked", (report.sessions - report.ready).into());
        if report.silence.max > promise.gap.as_secs_f64() * 1e3 {
            wrong.push(format!("{:.0} ms without an answer", report.silence.max));
        }
        if report.accepted == 0 {
            wrong.push("no share accepted".into());
        }
        scene.accounts.add_file(&accounting, Via::Proxies);
        // What was acknowledged is in the ledger now; what is in flight elsewhere comes within a moment.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(differences) = scene.accounts.check(&scene.cluster.ctl(&["rounds"])) {
            if Instant::now() >= deadline {
                wrong.extend(differences);
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let summary = format!(
            "sessions {}, {} shares, silence p50 {:.1} p99 {:.1} max {:.1} ms, submit p50 {:.1} p99 {:.1} ms",
            report.sessions,
            report.accepted,
            report.silence.p50,
            report.silence.p99,
            report.silence.max,
            report.submit.p50,
            report.submit.p99,
        );
        if wrong.is_empty() {
            eprintln!("{summary}; events {events:.2?}");
            return report;
        }
        events.push((report.secs, "the work ended".into()));
        let mut text = format!(
            "{}\nseed {}\n{report}\nevents (s): {events:.3?}\n",
            wrong.join("; "),
            scene.seed
        );
        for (second, at) in report.timeline.iter().enumerate() {
            writeln!(text, "second {second}: {at:?}").unwrap();
        }
        for session in &report.worst {
            writeln!(text, "{session:?}").unwrap();
        }
        panic!("{text}");
    }
}

/// Shares that were on their way when a block was found: rare, and nobody's fault.
fn stale(report: &Report) -> u64 {
    let rejected = report.rejected.iter().filter(|(reason, _)| reason.ends_with("stale-work"));
    if report.tips > 1 { rejected.map(|(_, count)| count).sum() } else { 0 }
}

/// How many sessions a test brings.
pub(crate) fn sessions() -> u32 {
    setting("SEAM_FAILOVER_SESSIONS", 1_000) as u32
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The sessions of a node, over all proxies; none while it does not answer.
pub(crate) fn sessions_of(cluster: &Cluster, node: &str) -> Option<u64> {
    let url = format!("http://{}/v1/status", cluster.member(node).admin);
    let status = ureq::get(&url).call().ok()?.body_mut().read_to_string().ok()?;
    let status: serde_json::Value = serde_json::from_str(&status).ok()?;
    status["sessions"].as_u64()
}
