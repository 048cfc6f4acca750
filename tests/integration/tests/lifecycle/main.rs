//! The lifecycle that `deploy/k8s` promises, run: this test plays kubelet and the controllers with
//! real processes, started, probed and stopped as the rendered manifests say, while miners work
//! through the proxies and must not notice. Only when the proxies themselves are replaced are they told
//! to reconnect.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod control;
mod host;
mod kubelet;
mod manifest;
mod service;

use std::time::Duration;

use seam_integration::{Accounts, Via};
use seam_load::{Load, Options, Rate};
use serde_json::{Value, json};

use crate::control::Deployment;
use crate::manifest::Manifests;

/// Enough that every node has some at any moment, few enough for debug builds on two cores.
const SESSIONS: u32 = 200;
const SHARES_PER_SECOND: f64 = 100.0;
/// A handful of hashes a share, so that a block, which takes millions, stays out of the sums.
const DIFFICULTY: f64 = 1e-9;
const USERS: u32 = 7;
/// Longer than the story takes.
const STORY: f64 = 900.0;

/// What an operator's own overlay changes: a private chain on one machine, without the internet.
fn manifests() -> Manifests {
    let mut manifests = Manifests::dev();
    let chain = manifests.settings("seam-chain");
    let options = chain["SEAM_BITCOIN_OPTIONS"].as_str().unwrap().to_owned();
    let options = format!(
        "{options} -listen=1 -dnsseed=0 -fixedseeds=0 -discover=0 -listenonion=0 -server=0 \
         -i2pacceptincoming=0 -maxtipage=3153600000 -dbcache=16 -par=1"
    );
    chain["SEAM_BITCOIN_OPTIONS"] = options.into();
    chain["SEAM_BITCOIN_CHAIN"] = "devnet".into();
    chain["SEAM_POOL_ADDRESS"] =
        "tb1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqaqh7jw".into();
    manifests
}

#[test]
fn lifecycle_of_the_manifests_is_nothing_that_a_miner_notices() {
    let mut it = Deployment::apply(manifests());
    let formed = it.run_init_job();
    assert!(formed.contains("cluster"), "{formed}");
    it.wait_ready();
    let cluster = it.ctl("seam-node-0", &["status"])["cluster_id"].clone();
    assert!(cluster.is_string());
    it.say("formed and ready");
    let again = it.run_init_job();
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(it.ctl("seam-node-2", &["status"])["cluster_id"], cluster);

    start_miners(&mut it);
    replace_pod_with_its_disk(&mut it);
    replace_pod_with_an_empty_disk(&mut it);
    roll_all_nodes(&mut it);
    scale_up_and_down(&mut it);
    roll_all_proxies(&mut it);
    settle(it);
}

fn start_miners(it: &mut Deployment) {
    let mut options = Options::new(it.service());
    options.resume = true;
    options.sessions = SESSIONS;
    options.rate = Rate::PerSecond(SHARES_PER_SECOND);
    options.secs = STORY;
    options.users = USERS;
    options.difficulty = Some(DIFFICULTY.to_string().parse().unwrap());
    options.accounting = Some(it.host.dir().join("account.csv"));
    let load = Load::spawn(options).unwrap();
    load.wait_until("all miners to work", Duration::from_secs(60), |live| {
        live.ready() == u64::from(SESSIONS) && live.accepted() > 0
    })
    .unwrap();
    it.watch_over(load);
    it.say("miners work");
}

fn replace_pod_with_its_disk(it: &mut Deployment) {
    let id = member_id(it, "seam-node-1");
    it.delete_node(1);
    it.start_node(1);
    it.wait_ready();
    assert_eq!(member_id(it, "seam-node-1"), id, "the same member");
    it.say("seam-node-1 is back with its disk");
}

/// As "A lost disk" in `docs/operating.md` has it.
fn replace_pod_with_an_empty_disk(it: &mut Deployment) {
    wait_until_one_can_be_lost(it);
    let id = member_id(it, "seam-node-1");
    it.ctl("seam-node-0", &["member", "remove", "seam-node-1"]);
    it.delete_node(1);
    it.delete_claim(1);
    it.start_node(1);
    it.wait_ready();
    assert!(member_id(it, "seam-node-1") > id, "a disk's id is never given to another disk");
    it.say("seam-node-1 is back with an empty disk");
}

fn roll_all_nodes(it: &mut Deployment) {
    wait_until_one_can_be_lost(it);
    let mut changed = it.node_spec();
    changed.env.push(("SEAM_JOBS_REFRESH_SECONDS".into(), "20".into()));
    it.roll_nodes(changed);
    for number in 0..it.replicas() {
        let pid = it.pod(&format!("seam-node-{number}")).pid();
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let has_it =
            environment.split(|byte| *byte == 0).any(|v| v == b"SEAM_JOBS_REFRESH_SECONDS=20");
        assert!(has_it, "seam-node-{number} was not replaced");
    }
}

/// As "Scale" in `docs/operating.md` has it.
fn scale_up_and_down(it: &mut Deployment) {
    let few = it.replicas();
    let many = few + 2;
    it.host.make_secrets(many);
    for number in few..many {
        it.start_node(number);
    }
    it.wait_ready();
    it.wait("five voters", |it| voters(it) == 5);
    it.say("five nodes");
    for number in (few..many).rev() {
        let name = format!("seam-node-{number}");
        it.ctl(&name, &["drain"]);
        it.ctl("seam-node-0", &["member", "remove", &name]);
        it.delete_node(number);
        it.delete_claim(number);
    }
    it.wait("three voters", |it| voters(it) == 3);
    it.say("three nodes");
}

/// Until now no miner noticed anything. A proxy cannot hand its miners' sockets over: it tells them to
/// reconnect, and they come back as who they were.
fn roll_all_proxies(it: &mut Deployment) {
    let moves = moves(it);
    it.say(&json!({"moves": moves}).to_string());
    assert_eq!(sum(&moves, "lost"), 0);
    assert!(sum(&moves, "moved") > u64::from(SESSIONS), "sessions were on the nodes that went");
    assert_no_lapse(it);
    let old = it.proxies();
    let mut changed = it.proxy_spec();
    changed.env.push(("SEAM_LOG_FILTER".into(), "info,seam_proxy=debug".into()));
    it.roll_proxies(changed, |it| it.ready_miners() == u64::from(SESSIONS));
    assert!(it.proxies().iter().all(|name| !old.contains(name)), "{:?}", it.proxies());
    it.say("both proxies replaced");
}

/// Ends the load, and compares what the miners were answered with what every ledger holds.
fn settle(mut it: Deployment) {
    wait_until_one_can_be_lost(&mut it);
    let report = it.take_load().stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.ready, SESSIONS);
    assert_eq!((report.drops, report.connect_failures), (0, 0));
    // A miner may have been on both of the old proxies, one after the other.
    let told = u64::from(SESSIONS)..=2 * u64::from(SESSIONS);
    assert!(told.contains(&report.reconnect_requests), "{}", report.reconnect_requests);
    assert_eq!((report.resumed, report.not_resumed), (report.reconnect_requests, 0));
    assert_eq!((report.unexpected_answers, report.out_of_order), (0, 0));
    // What is under way when a miner is told to go somewhere else, which is a share in two seconds.
    assert!(report.unanswered <= report.reconnect_requests / 4, "{}", report.unanswered);
    assert_eq!((report.skipped, report.refused_logins, report.bad_lines), (0, 0, 0));
    // A new tip, which one run in a hundred finds, makes shares stale: no operation of ours does.
    let stale = |reason: &String| report.tips > 1 && reason.starts_with("21 ");
    let rejected: Vec<_> = report.rejected.iter().filter(|(reason, _)| !stale(reason)).collect();
    assert!(rejected.is_empty(), "{rejected:?}");

    let mut accounts = Accounts::default();
    accounts.add_file(&it.host.dir().join("account.csv"), Via::Proxies);
    let known = accounts.summary();
    it.say(&known.to_string());
    assert_eq!((known.users, known.acknowledged), (u64::from(USERS), report.accepted));
    assert_eq!(known.unknown, report.unanswered);
    for number in 0..it.replicas() {
        let pod = format!("seam-node-{number}");
        let rounds = |it: &Deployment| it.ctl(&pod, &["rounds"]);
        it.wait("the ledger to have everything", |it| accounts.check(&rounds(it)).is_ok());
    }
    let ledgers: Vec<Value> = (0..it.replicas())
        .map(|number| it.ctl(&format!("seam-node-{number}"), &["status"])["ledger"].clone())
        .collect();
    let same: Vec<&Value> =
        ledgers.iter().filter(|ledger| ledger["index"] == ledgers[0]["index"]).collect();
    assert!(same.iter().all(|ledger| ledger["hash"] == ledgers[0]["hash"]), "{ledgers:?}");

    assert_eq!(sum(&moves(&it), "lost"), 0);
    assert_no_lapse(&it);
    it.delete();
}

fn moves(it: &Deployment) -> Vec<Value> {
    it.proxies().iter().map(|name| it.ctl(name, &["status"])["moves"].clone()).collect()
}

fn sum(moves: &[Value], key: &str) -> u64 {
    moves.iter().map(|moves| moves[key].as_u64().unwrap()).sum()
}

fn assert_no_lapse(it: &Deployment) {
    for name in it.proxies() {
        assert_eq!(it.pod(&name).lapses(), 0, "{name} always had a ready node");
    }
}

fn wait_until_one_can_be_lost(it: &mut Deployment) {
    it.wait("one node to be spare", |it| {
        it.ctl("seam-node-0", &["status"])["can_lose_one"] == true
    });
}

fn member_id(it: &Deployment, name: &str) -> u64 {
    let list = it.ctl("seam-node-0", &["member", "list"]);
    let member = list["members"].as_array().unwrap().iter().find(|member| member["name"] == name);
    member.unwrap_or_else(|| panic!("{name} is no member: {list}"))["id"].as_u64().unwrap()
}

fn voters(it: &Deployment) -> u64 {
    it.ctl("seam-node-0", &["status"])["voters"].as_u64().unwrap()
}
