//! The lifecycle that `deploy/k8s` promises, run: this test plays kubelet and the controllers with
//! real processes, started, probed and stopped as the rendered manifests say, while miners work
//! through the proxies and must not notice.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod control;
mod host;
mod kubelet;
mod manifest;

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
    settle(it);
}

fn start_miners(it: &mut Deployment) {
    let endpoints = it.service("stratum");
    assert_eq!(endpoints.len(), 2, "both proxies are behind the Service");
    let mut options = Options::new(endpoints[0].clone());
    options.url = endpoints;
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

/// Ends the load, and compares what the miners were answered with what every ledger holds.
fn settle(mut it: Deployment) {
    wait_until_one_can_be_lost(&mut it);
    let report = it.take_load().stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.ready, SESSIONS);
    assert_eq!((report.drops, report.connect_failures, report.reconnect_requests), (0, 0, 0));
    assert_eq!((report.unanswered, report.unexpected_answers, report.out_of_order), (0, 0, 0));
    assert_eq!((report.skipped, report.refused_logins, report.bad_lines), (0, 0, 0));
    // A new tip, which one run in a hundred finds, makes shares stale: no operation of ours does.
    let stale = |reason: &String| report.tips > 1 && reason.starts_with("21 ");
    let rejected: Vec<_> = report.rejected.iter().filter(|(reason, _)| !stale(reason)).collect();
    assert!(rejected.is_empty(), "{rejected:?}");

    let mut accounts = Accounts::default();
    accounts.add_file(&it.host.dir().join("account.csv"), Via::Proxies);
    let summary = accounts.summary();
    assert_eq!(summary.users, u64::from(USERS));
    assert_eq!(summary.acknowledged, report.accepted);
    for number in 0..it.replicas() {
        let pod = format!("seam-node-{number}");
        it.wait("the ledger to have everything", |it| {
            accounts.check(&it.ctl(&pod, &["rounds"])).is_ok()
        });
    }
    let ledgers: Vec<Value> = (0..it.replicas())
        .map(|number| it.ctl(&format!("seam-node-{number}"), &["status"])["ledger"].clone())
        .collect();
    let same: Vec<&Value> =
        ledgers.iter().filter(|ledger| ledger["index"] == ledgers[0]["index"]).collect();
    assert!(same.iter().all(|ledger| ledger["hash"] == ledgers[0]["hash"]), "{ledgers:?}");

    let moves: Vec<Value> = (0..2)
        .map(|number| it.ctl(&format!("seam-proxy-{number}"), &["status"])["moves"].clone())
        .collect();
    let count = |key: &str| moves.iter().map(|moves| moves[key].as_u64().unwrap()).sum::<u64>();
    it.say(&json!({"moves": moves}).to_string());
    assert_eq!(count("lost"), 0);
    assert!(count("moved") > u64::from(SESSIONS), "sessions were on the nodes that went");
    for name in ["seam-proxy-0", "seam-proxy-1"] {
        assert_eq!(it.pod(name).lapses(), 0, "{name} always had a ready node");
    }
    it.delete();
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
