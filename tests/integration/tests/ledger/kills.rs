//! The leader, then a follower, killed again and again under load: no acknowledged share is missing, none counts twice.
//!
//! Half of the miners connect to the nodes and turn to another when theirs dies; what they had submitted last they never
//! learn. The other half come through a proxy, which has to get them an answer to everything.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, thread};

use seam_integration::{Accounts, Agreement, Chain, Cluster, Dice, Via, until};
use seam_load::{Load, Options, Rate, Report};
use seam_stratum::Difficulty;
use serde_json::Value;

/// Kills where `SEAM_KILLS` says nothing.
const KILLS: usize = 8;

/// Kills between two looks at the whole ledger.
const LEG: usize = 10;

/// Some 4,300 hashes a share: at the rate below a block of devnet every few seconds.
const DIFFICULTY: f64 = 1e-6;

/// Miners of each half; each has a user of its own.
const MINERS: u32 = 30;

/// Shares a second of each half.
const RATE: f64 = 120.0;

/// Long enough that nobody notices the end of the load before it is asked to end.
const FOREVER: f64 = 3_600.0;

const PATIENCE: Duration = Duration::from_secs(60);

/// How long a cluster runs with two nodes, and between two kills, at most.
const PAUSE: Duration = Duration::from_millis(700);

#[test]
fn no_acknowledged_share_is_lost_or_doubled_whoever_is_killed() {
    let kills: usize = env::var("SEAM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut dice = Dice::new();
    let mut cluster = Cluster::start(Chain::Devnet, 3, 1, &["--authorization", "open"]);
    let mut agreement = Agreement::default();
    let (mut direct, mut proxied) = (Half::default(), Half::default());
    let began = Instant::now();
    let mut done = 0;
    while done < kills {
        let nodes: Vec<String> = cluster.nodes().iter().map(|node| node.stratum.clone()).collect();
        let proxies = vec![cluster.proxies()[0].stratum.clone()];
        let loads = [direct.start(&cluster, "d", nodes), proxied.start(&cluster, "p", proxies)];
        for load in &loads {
            load.wait_until("shares", PATIENCE, |live| live.accepted() > 100).unwrap();
        }
        let leg = LEG.min(kills - done);
        for turn in 0..leg {
            let victim = victim(&cluster, &mut dice, turn % 2 == 0);
            thread::sleep(dice.moment(PAUSE)); // The moment is what is tried here.
            cluster.kill(&victim);
            thread::sleep(dice.moment(PAUSE));
            cluster.restart(&victim);
            cluster.wait_ready(&victim);
            agreement.look(&cluster);
            let before = loads.each_ref().map(|load| load.live().accepted());
            for (load, before) in loads.iter().zip(before) {
                let on = |live: &seam_load::run::Live| live.accepted() > before + 50;
                load.wait_until("shares after a kill", PATIENCE, on).unwrap();
            }
        }
        done += leg;
        let [to_nodes, to_proxy] = loads;
        direct.stop(to_nodes, Via::Nodes);
        proxied.stop(to_proxy, Via::Proxies);
        let rounds = rounds_of_the_whole_chain(&cluster, &mut agreement);
        let mut both = direct.accounts.clone();
        both.add(&proxied.accounts);
        eprintln!(
            "{done} kills in {:.0} s, {} blocks, {} ledgers compared",
            began.elapsed().as_secs_f64(),
            rounds["past"].as_array().unwrap().len(),
            agreement.indices(),
        );
        eprintln!("to nodes: {}\nto the proxy: {}", direct.told(), proxied.told());
        both.check(&rounds).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")));
    }
    // Whoever comes through the proxy was not dropped, and left in the dark about nothing.
    assert_eq!(proxied.drops, 0, "connections of the proxy's miners");
    assert_eq!(proxied.unanswered, 0, "submits of the proxy's miners");
    // Or it was no test.
    assert!(direct.drops > 0 && direct.accounts.summary().acknowledged > 500);
    cluster.stop();
}

/// The leader, or one that does not lead.
fn victim(cluster: &Cluster, dice: &mut Dice, leader: bool) -> String {
    let leads = cluster.leader();
    if leader {
        return leads;
    }
    let nodes = cluster.nodes().iter().map(|node| node.name.clone());
    let followers: Vec<String> = nodes.filter(|name| *name != leads).collect();
    dice.pick(&followers).clone()
}

/// What all nodes agree on, once every block of the chain has its round: nobody else mines here. A block whose finder was
/// killed over it is recorded a moment after its restart.
fn rounds_of_the_whole_chain(cluster: &Cluster, agreement: &mut Agreement) -> Value {
    until("a round for each block of the chain", || {
        let rounds = agreement.settle(cluster);
        let past = rounds["past"].as_array()?;
        let standing = |height: u64| {
            let at = past.iter().filter(|round| round["height"] == height);
            at.filter(|round| round["status"] != "orphaned").count()
        };
        let heights = cluster
            .nodes()
            .iter()
            .map(|node| cluster.get(&node.name, "/v1/status")?["bitcoin"]["height"].as_u64());
        let height = heights.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        (1..=height).all(|height| standing(height) == 1).then_some(rounds)
    })
}

/// Half of the miners, over all their legs.
#[derive(Default)]
struct Half {
    files: Vec<PathBuf>,
    accounts: Accounts,
    reports: Vec<Report>,
    drops: u64,
    unanswered: u64,
}

impl Half {
    fn start(&mut self, cluster: &Cluster, user: &str, url: Vec<String>) -> Load {
        let file = cluster.dir().join(format!("{user}{}.csv", self.files.len()));
        self.files.push(file.clone());
        let options = Options {
            url,
            sessions: MINERS,
            users: MINERS,
            user: user.to_owned(),
            rate: Rate::PerSecond(RATE),
            secs: FOREVER,
            drain: 30.0,
            difficulty: Some(Difficulty::new(DIFFICULTY).unwrap()),
            resume: true,
            reconnect_ms: 100,
            accounting: Some(file),
            ..Options::new("")
        };
        Load::spawn(options).unwrap()
    }

    fn stop(&mut self, load: Load, via: Via) {
        let report = load.stop().unwrap();
        assert_eq!(report.unexpected_answers + report.out_of_order, 0, "{report}");
        self.drops += report.drops;
        self.unanswered += report.unanswered;
        self.accounts.add_file(self.files.last().unwrap(), via);
        self.reports.push(report);
    }

    fn told(&self) -> String {
        let mut rejected = std::collections::BTreeMap::new();
        for (reason, count) in self.reports.iter().flat_map(|report| &report.rejected) {
            *rejected.entry(reason).or_insert(0) += count;
        }
        let silence = self.reports.iter().map(|report| report.silence.max).fold(0.0, f64::max);
        let submitted: u64 = self.reports.iter().map(|report| report.submitted).sum();
        format!(
            "{submitted} submits: {}; {} drops, longest silence {silence:.0} ms, rejected {rejected:?}",
            self.accounts.summary(),
            self.drops,
        )
    }
}
