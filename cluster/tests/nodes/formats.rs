//! A member's disk as a build of format 1 left it, started with this build; and members of two builds
//! in one cluster, while it is updated and after.
//!
//! `fixtures/node-1` was written once by `write_the_disk_of_format_1` and never changes: a seat, a
//! snapshot and the log behind it. When a format is added, add a disk of it.
//!
//! A member of the next build is one of this build that is told to read one format more. That format
//! has nothing new in it: what is tested is when it is agreed on, and who may take part then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use seam_cluster::ledger::{FORMAT, ShareOutcome, State, UserId};
use seam_cluster::{Cluster, ClusterView, Limits, Unavailable};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::common::{Answers, Group, Member, SOON, eventually, share};
use crate::files::{copy, files};

const SHARES: u64 = 80;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node-1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_format_1_is_read_and_gone_on_with() {
    let mut group = Group::new(1);
    copy(&fixture().join("data"), &group.members[0].config.data_dir);
    // Those in the fixture were numbered from the beginning.
    group.numbers(10 * SHARES);
    group.members[0].start().await.unwrap();
    group.members[0].ready().await;
    let hash = std::fs::read_to_string(fixture().join("hash")).unwrap();
    let cluster = group.members[0].cluster();
    assert_eq!(hex::encode(cluster.ledger_hash().1), hash.trim());
    assert_eq!(cluster.read(|state| state.counted().shares), SHARES);
    let alice = cluster.read(|state| state.users().id("alice")).unwrap();
    // It takes shares, and a member of this build.
    group.submit(0, alice, 10).await;
    let new = group.add();
    group.members[new].start().await.unwrap();
    group.members[new].ready().await;
    group.submit(new, alice, 10).await;
    group.members[new].ledger("all", |state| state.counted().shares == SHARES + 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes the fixture; for the first build of a format only"]
async fn write_the_disk_of_format_1() {
    assert_eq!(FORMAT, 1);
    if fixture().exists() {
        return;
    }
    let mut group = Group::new(1);
    group.members[0].config.limits =
        Limits { snapshot_log_bytes: 10_000, kept_entries: 3, ..Limits::default() };
    group.members[0].start().await.unwrap();
    group.members[0].cluster().init().await.unwrap();
    group.members[0].ready().await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let mut left = SHARES;
    while group.members[0].cluster().metrics().snapshots_built.value() == 0 {
        assert!(left > 20, "no snapshot yet");
        group.submit(0, user, 10).await;
        left -= 10;
        sleep(group.members[0].config.timing.heartbeat * 6).await;
    }
    group.submit(0, user, left).await;
    let hash = hex::encode(group.members[0].cluster().ledger_hash().1);
    group.members[0].stop().await;
    copy(&group.members[0].config.data_dir.join("ledger"), &fixture().join("data/ledger"));
    std::fs::write(fixture().join("hash"), hash + "\n").unwrap();
    assert!(files(&fixture()).len() >= 4);
}

/// What a build of the next release reads.
const NEXT: u8 = FORMAT + 1;

/// A member that is restarted with another build.
async fn restart_reading(member: &mut Member, format: u8) {
    member.stop().await;
    member.config.newest_format = format;
    member.start().await.unwrap();
    member.ready().await;
}

/// One share after the other, each until it is acknowledged, by whoever runs.
struct Load {
    running: Arc<Mutex<Vec<Cluster>>>,
    sent: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(clusters: Vec<Cluster>, user: UserId) -> Self {
        let running = Arc::new(Mutex::new(clusters));
        let (count, sent) = watch::channel(0);
        let members = running.clone();
        let task = tokio::spawn(async move {
            for number in 1.. {
                let mut attempt = number as usize;
                loop {
                    let answers = Answers::new();
                    attempt += 1;
                    {
                        let members = members.lock();
                        if members.is_empty() {
                            return;
                        }
                        let member = &members[attempt % members.len()];
                        member.submit(share(user, number), answers.clone(), number).unwrap();
                    }
                    answers.wait_for(1).await;
                    let answer = answers.answers.lock()[&number];
                    match answer {
                        Ok(ShareOutcome::Counted | ShareOutcome::Replayed) => break,
                        // That member is being stopped, or its leader.
                        Err(Unavailable) => {}
                        other => panic!("share {number}: {other:?}"),
                    }
                }
                count.send_replace(number);
            }
        });
        Self { running, sent, task }
    }

    fn goes_to(&self, clusters: Vec<Cluster>) {
        *self.running.lock() = clusters;
    }

    /// Waits until so many more shares are acknowledged.
    async fn goes_on_for(&mut self, shares: u64) {
        let goal = *self.sent.borrow() + shares;
        timeout(SOON, self.sent.wait_for(|sent| *sent >= goal)).await.unwrap().unwrap();
    }

    /// How many were acknowledged.
    async fn stop(self) -> u64 {
        self.running.lock().clear();
        timeout(SOON, self.task).await.unwrap().unwrap();
        *self.sent.borrow()
    }
}

fn running(group: &Group) -> Vec<Cluster> {
    group.members.iter().filter_map(|member| member.cluster.clone()).collect()
}

/// Waits until the leader knows what every member reads.
async fn leader_sees(group: &Group, mut expected: Vec<u8>) {
    expected.sort_unstable();
    eventually(&format!("the leader to see that the members read {expected:?}"), || {
        running(group).iter().any(|cluster| {
            let view = cluster.view().borrow().clone();
            let mut reads: Vec<u8> =
                view.members.iter().filter_map(|member| member.reads).collect();
            reads.sort_unstable();
            view.is_leader() && view.members.len() == expected.len() && reads == expected
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_update_under_load_raises_the_format_when_the_last_member_reads_it() {
    let mut group = Group::formed(3).await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let mut load = Load::start(running(&group), user);
    let mut builds = vec![FORMAT; 3];
    for updated in 0..3 {
        let others: Vec<Cluster> =
            (0..3).filter(|i| *i != updated).map(|i| group.members[i].cluster().clone()).collect();
        load.goes_to(others);
        // Small snapshots from now on: a member of the older build has to read those of the newer.
        let limits = Limits { snapshot_log_bytes: 10_000, kept_entries: 3, ..Limits::default() };
        group.members[updated].config.limits = limits;
        if updated == 2 {
            group.members[updated].stop().await;
            let built = |i: usize| group.members[i].cluster().metrics().snapshots_built.value();
            // The log is purged in pieces of a few hundred entries.
            load.goes_on_for(600).await;
            let before = (built(0), built(1));
            eventually("snapshots while the old build is away", || {
                built(0) > before.0 + 1 && built(1) > before.1 + 1
            })
            .await;
            // Still the old build: what the new ones wrote meanwhile is for it, too.
            restart_reading(&mut group.members[updated], FORMAT).await;
            let installed = group.members[updated].cluster().metrics().snapshots_installed.value();
            assert!(installed > 0, "it was sent the log, which should be gone");
            leader_sees(&group, builds.clone()).await;
            load.goes_to(running(&group));
            load.goes_on_for(50).await;
            let others: Vec<Cluster> = running(&group).into_iter().take(2).collect();
            load.goes_to(others);
        }
        restart_reading(&mut group.members[updated], NEXT).await;
        builds[updated] = NEXT;
        load.goes_to(running(&group));
        leader_sees(&group, builds.clone()).await;
        load.goes_on_for(50).await;
        if updated < 2 {
            // Time enough for the leader to agree on it several times over.
            sleep(group.members[0].config.timing.heartbeat * 8).await;
            for member in &group.members {
                assert_eq!(member.cluster().read(State::format), FORMAT, "after {updated}");
            }
        }
    }
    for member in &group.members {
        member.ledger("the newer format", |state| state.format() == NEXT).await;
    }
    load.goes_on_for(50).await;
    let acknowledged = load.stop().await;
    let newest = group.members[group.leader()].cluster().ledger_hash();
    for member in &group.members {
        member.ledger("all of the log", |state| state.applied() == newest.0).await;
        assert_eq!(member.cluster().ledger_hash(), newest);
        assert_eq!(member.cluster().read(|state| state.counted().shares), acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_build_is_refused_once_a_newer_format_is_agreed_on_and_says_what_to_do() {
    let mut group = Group::new(3);
    for member in &mut group.members {
        member.config.newest_format = NEXT;
        member.start().await.unwrap();
    }
    group.members[0].cluster().init().await.unwrap();
    for i in 0..3 {
        let name = group.members[i].config.name.clone();
        group.members[0].cluster().add_member(&name).await.unwrap();
        group.members[i].ready().await;
        group.members[i].ledger("the newer format", |state| state.format() == NEXT).await;
    }
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let what_to_do = format!(
        "the cluster has agreed on ledger format {NEXT}, this build reads formats up to {FORMAT}: \
         start the node with the build that the other members run"
    );

    // A member that goes back stops, and harms nobody.
    group.members[2].stop().await;
    group.members[2].config.newest_format = FORMAT;
    match group.members[2].start().await {
        Err(error) => assert!(error.to_string().contains(&what_to_do), "{error}"),
        Ok(()) => {
            let stopped = |view: &ClusterView| {
                view.failed.as_ref().is_some_and(|why| why.contains(&what_to_do))
            };
            group.members[2].view("stopped", stopped).await;
        }
    }
    assert_eq!(group.submit(0, user, 50).await.counted(), 50);
    assert_eq!(group.submit(1, user, 50).await.counted(), 50);

    // A new node is not taken.
    let new = group.add();
    group.members[new].start().await.unwrap();
    let refused =
        |view: &ClusterView| view.unready.as_ref().is_some_and(|why| why.contains(&what_to_do));
    group.members[new].view("refused", refused).await;
    assert_eq!(group.members[0].cluster().view().borrow().members.len(), 3);

    // With the others' build both take part.
    for i in [2, new] {
        restart_reading(&mut group.members[i], NEXT).await;
        assert_eq!(group.submit(i, user, 10).await.counted(), 10);
    }
}
