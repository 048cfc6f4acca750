//! Miners on nodes and on proxies, and what they know of their shares.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use seam_integration::{Accounts, Cluster, Member, Via};
use seam_load::{Load, Options, Rate, Report};
use seam_stratum::Difficulty;
use serde_json::Value;

/// Sessions of each half; each has a user of its own, and another in the next leg.
const SESSIONS: u32 = 30;

/// Shares a second of each half.
const RATE: f64 = 60.0;

/// Hashes that a block of the development signet takes.
const BLOCK: f64 = 4.8e6;

/// Seconds between two blocks, at least.
const BLOCK_SECONDS: f64 = 15.0;

/// Rounds of a run, about: the checker needs all of them told at once, which a thousand are.
const ROUNDS: f64 = 500.0;

/// How long a miner may be without an answer, whatever happens, and all of them once all is well. Longer is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Half of the miners connect to nodes, half to proxies, and go to another when theirs goes.
pub(crate) struct Miners {
    difficulty: Difficulty,
    loads: Vec<(Half, Load)>,
    accounts: Accounts,
    legs: usize,
    told: [Told; 2],
}

#[derive(Clone, Copy)]
enum Half {
    Direct,
    Proxied,
}

/// What became of one half's submits so far.
#[derive(Default)]
struct Told {
    submits: u64,
    drops: u64,
    silence: Duration,
    refused: std::collections::BTreeMap<String, u64>,
}

impl Miners {
    /// For a run of about so long.
    pub(crate) fn new(length: Duration) -> Self {
        let seconds = BLOCK_SECONDS.max(length.as_secs_f64() / ROUNDS);
        // A share of difficulty 1 takes 2^32 hashes.
        let hashes = BLOCK / seconds / (2.0 * RATE);
        let difficulty = Difficulty::new(hashes / 4_294_967_296.0).unwrap();
        let (loads, accounts) = (Vec::new(), Accounts::default());
        Self { difficulty, loads, accounts, legs: 0, told: Default::default() }
    }

    /// Lets them begin.
    pub(crate) fn start(&mut self, cluster: &Cluster) {
        self.legs += 1;
        for (half, members) in [(Half::Direct, cluster.nodes()), (Half::Proxied, cluster.proxies())]
        {
            let options = self.options(half, members, self.file(cluster, half));
            self.loads.push((half, Load::spawn(options).unwrap()));
        }
        self.go_on();
    }

    fn options(&self, half: Half, members: &[Member], accounting: PathBuf) -> Options {
        Options {
            url: members.iter().map(|member| member.stratum.clone()).collect(),
            sessions: SESSIONS,
            users: SESSIONS,
            // New ones in every leg: what is unknown of one leg leaves no room for errors in the others.
            user: format!("{half}-{}-", self.legs),
            rate: Rate::PerSecond(RATE),
            secs: 1e6,
            drain: 30.0,
            difficulty: Some(self.difficulty),
            resume: true,
            reconnect_ms: 100,
            accounting: Some(accounting),
            ..Options::new("")
        }
    }

    fn file(&self, cluster: &Cluster, half: Half) -> PathBuf {
        cluster.dir().join(format!("{half}{}.csv", self.legs))
    }

    /// Waits until all of them are at work, and had shares acknowledged.
    pub(crate) fn go_on(&self) {
        for (half, load) in &self.loads {
            let what = format!("all of {half} to work");
            let all = u64::from(SESSIONS);
            load.wait_until(&what, PATIENCE, |live| live.ready() == all).unwrap();
            let before = load.live().accepted();
            let what = format!("shares of {half}");
            load.wait_until(&what, PATIENCE, |live| live.accepted() >= before + all).unwrap();
        }
    }

    /// Ends their work, and takes down what they know.
    pub(crate) fn stop(&mut self, cluster: &Cluster) {
        for (half, load) in std::mem::take(&mut self.loads) {
            let report = load.stop().unwrap();
            let nonsense = report.unexpected_answers + report.out_of_order + report.bad_lines;
            assert_eq!(nonsense, 0, "{report}");
            let file = self.file(cluster, half);
            let via = match half {
                Half::Direct => Via::Nodes,
                Half::Proxied => Via::Proxies,
            };
            self.accounts.add_file(&file, via);
            std::fs::remove_file(file).unwrap();
            let told = &mut self.told[half as usize];
            told.add(&report);
            assert!(told.silence < PATIENCE, "a miner had no answer: {:?}", report.worst);
        }
    }

    /// Compares what they know with a ledger.
    pub(crate) fn check(&self, rounds: &Value) {
        self.accounts.check(rounds).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")));
    }

    /// Shares that were answered `true`.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.accounts.summary().acknowledged
    }
}

impl Told {
    fn add(&mut self, report: &Report) {
        self.submits += report.submitted;
        self.drops += report.drops;
        self.silence = self.silence.max(Duration::from_secs_f64(report.silence.max / 1e3));
        for (reason, count) in &report.rejected {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Proxied => "proxied",
        })
    }
}

impl fmt::Display for Miners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.accounts.summary())?;
        for half in [Half::Direct, Half::Proxied] {
            let Told { submits, drops, silence, refused } = &self.told[half as usize];
            let silence = silence.as_secs_f64();
            write!(
                f,
                "; {half}: {submits} submits, {drops} drops, longest silence {silence:.1} s"
            )?;
            write!(f, ", refused {refused:?}")?;
        }
        Ok(())
    }
}
