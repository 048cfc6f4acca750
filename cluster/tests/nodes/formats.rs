//! A member's disk as a build of format 1 left it, started with this build.
//!
//! `fixtures/node-1` was written once by `write_the_disk_of_format_1` and never changes: a seat, a
//! snapshot and the log behind it. When a format is added, add a disk of it.

use std::path::{Path, PathBuf};

use seam_cluster::Limits;

use crate::common::Group;
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
    assert_eq!(seam_cluster::ledger::FORMAT, 1);
    if fixture().exists() {
        return;
    }
    let mut group = Group::new(1);
    group.members[0].config.limits =
        Limits { snapshot_log_bytes: 2_000, kept_entries: 3, ..Limits::default() };
    group.members[0].start().await.unwrap();
    group.members[0].cluster().init().await.unwrap();
    group.members[0].ready().await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let mut left = SHARES;
    while group.members[0].cluster().metrics().snapshots_built.value() == 0 {
        assert!(left > 20, "no snapshot yet");
        group.submit(0, user, 10).await;
        left -= 10;
        tokio::time::sleep(group.members[0].config.timing.heartbeat * 6).await;
    }
    group.submit(0, user, left).await;
    let hash = hex::encode(group.members[0].cluster().ledger_hash().1);
    group.members[0].stop().await;
    copy(&group.members[0].config.data_dir.join("ledger"), &fixture().join("data/ledger"));
    std::fs::write(fixture().join("hash"), hash + "\n").unwrap();
    assert!(files(&fixture()).len() >= 4);
}
