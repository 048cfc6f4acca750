//! What is on a member's disk is whole, or the member refuses to start.

use std::path::{Path, PathBuf};

use seam_cluster::Limits;

use crate::common::{Group, eventually};

/// A member that has everything on its disk: a seat, a snapshot, and log behind it; not running.
async fn member_with_files() -> Group {
    let mut group = Group::new(1);
    group.members[0].config.limits =
        Limits { snapshot_log_bytes: 100_000, kept_entries: 10, ..Limits::default() };
    group.members[0].start().await.unwrap();
    group.members[0].cluster().init().await.unwrap();
    group.members[0].ready().await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let snapshots = |group: &Group| group.members[0].cluster().metrics().snapshots_built.value();
    while snapshots(&group) == 0 {
        group.submit(0, user, 100).await;
    }
    // And something behind the snapshot.
    group.submit(0, user, 50).await;
    group.members[0].stop().await;
    group
}

pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_in_any_file_is_refused_with_the_files_name() {
    let mut group = member_with_files().await;
    let data = group.members[0].config.data_dir.clone();
    let kept = group.path("kept");
    copy(&data, &kept);
    let ledger = files(&kept.join("ledger"));
    let named = |name: &str| ledger.iter().any(|file| file.ends_with(name));
    assert!(named("seat") && named("token") && named("snapshot"), "{ledger:?}");
    assert!(ledger.iter().any(|file| file.parent().unwrap().ends_with("log")), "{ledger:?}");
    for file in &ledger {
        let length = std::fs::metadata(file).unwrap().len() as usize;
        if length == 0 {
            continue;
        }
        // Its beginning, its end, and places in between.
        for place in [0, length / 7, length / 3, length / 2, length * 4 / 5, length - 1] {
            std::fs::remove_dir_all(&data).unwrap();
            copy(&kept, &data);
            let damaged = data.join(file.strip_prefix(&kept).unwrap());
            let mut bytes = std::fs::read(&damaged).unwrap();
            bytes[place] ^= 0x10;
            std::fs::write(&damaged, bytes).unwrap();
            let started = group.members[0].start().await;
            let error = match started {
                Err(error) => error.to_string(),
                Ok(()) => {
                    // The token is read by a node without a seat only.
                    group.members[0].stop().await;
                    assert!(file.ends_with("token"), "{}, byte {place}", damaged.display());
                    continue;
                }
            };
            let dir = data.join("ledger");
            assert!(error.contains(dir.to_str().unwrap()), "byte {place}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_log_is_cut_off_and_nothing_else() {
    let mut group = member_with_files().await;
    let data = group.members[0].config.data_dir.clone();
    let logs = files(&data.join("ledger/log"));
    let newest = logs.iter().rfind(|file| file.metadata().unwrap().len() > 0).unwrap();
    // A crash in the middle of a write that nobody was told of.
    let mut bytes = std::fs::read(newest).unwrap();
    let torn = bytes[bytes.len() / 2..bytes.len() / 2 + 11].to_vec();
    bytes.extend_from_slice(&torn[..3]);
    std::fs::write(newest, bytes).unwrap();
    group.members[0].start().await.unwrap();
    group.members[0].ready().await;
    let state = group.members[0].cluster().read(Clone::clone);
    assert!(state.counted().shares >= 150);
    assert_eq!(state.counted().shares % 50, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_joins_after_the_log_was_purged() {
    let mut group = Group::new(1);
    let limits = Limits { snapshot_log_bytes: 100_000, kept_entries: 10, ..Limits::default() };
    group.members[0].config.limits = limits;
    group.members[0].start().await.unwrap();
    group.members[0].cluster().init().await.unwrap();
    group.members[0].ready().await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let snapshots = |group: &Group| group.members[0].cluster().metrics().snapshots_built.value();
    let mut submitted = 0;
    while snapshots(&group) < 2 {
        group.submit(0, user, 100).await;
        submitted += 100;
    }
    let late = group.add();
    group.members[late].config.limits = limits;
    group.members[late].start().await.unwrap();
    group.members[late].ready().await;
    group.members[0].cluster().add_member("node-1").await.unwrap();
    assert!(group.members[late].cluster().metrics().snapshots_installed.value() > 0);
    group.submit(late, user, 100).await;
    submitted += 100;
    for member in &group.members {
        member.ledger("all shares", |state| state.counted().shares == submitted).await;
    }
    let same =
        || group.members[0].cluster().ledger_hash() == group.members[late].cluster().ledger_hash();
    eventually("equal ledgers", same).await;
}
