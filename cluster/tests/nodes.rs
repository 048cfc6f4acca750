//! Members with real certificates, sockets and files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "nodes/backup.rs"]
mod backup;
#[path = "nodes/blocks.rs"]
mod blocks;
#[path = "nodes/certificates.rs"]
mod certificates;
mod common;
#[path = "nodes/files.rs"]
mod files;
#[path = "nodes/formats.rs"]
mod formats;
#[path = "nodes/peers.rs"]
mod peers;

use common::{Group, Member};
use seam_cluster::ledger::ShareOutcome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_node_counts_shares_and_remembers_them() {
    let mut group = Group::formed(1).await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let answers = group.submit(0, user, 1_000).await;
    assert_eq!(answers.counted(), 1_000);
    let hash = group.members[0].cluster().ledger_hash();
    group.members[0].stop().await;
    group.members[0].start().await.unwrap();
    group.members[0].ready().await;
    let again = group.members[0].cluster().ledger_hash();
    assert_eq!(again, hash);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_agree_whoever_is_asked() {
    let group = Group::formed(3).await;
    let user = group.members[1].cluster().ensure_user("alice").await.unwrap();
    for i in 0..3 {
        let answers = group.submit(i, user, 500).await;
        assert_eq!(answers.counted(), 500);
    }
    for member in &group.members {
        member.ledger("all shares", |state| state.counted().shares == 1_500).await;
    }
    let hashes: Vec<_> = group.members.iter().map(|m: &Member| m.cluster().ledger_hash()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_survive_the_leaders_end_and_a_new_leader_takes_over() {
    let mut group = Group::formed(3).await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    group.submit(0, user, 100).await;
    let leader = group.leader();
    group.members[leader].stop().await;
    let follower = (leader + 1) % 3;
    let answers = group.submit(follower, user, 100).await;
    assert!(answers.answers.lock().values().all(|a| *a == Ok(ShareOutcome::Counted)));
    group.members[leader].start().await.unwrap();
    group.members[leader].ready().await;
    group.members[leader].ledger("caught up", |state| state.counted().shares == 200).await;
}
