//! A backup of a running cluster becomes a new one.

use seam_cluster::MemberError;

use crate::common::{Group, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_cluster_has_the_backups_ledger_and_none_of_the_old_members() {
    let mut group = Group::formed(3).await;
    let alice = group.members[1].cluster().add_user("alice", "correct horse").await.unwrap();
    group.submit(2, alice, 300).await;
    let lease = group.members[0].cluster().job_lease().await.unwrap();
    let backup = group.members[1].cluster().backup().await.unwrap();
    let hash = group.members[1].cluster().ledger_hash();
    let keys = group.members[1].cluster().read(|state| state.identity().clone());
    let old = group.members[0].cluster().view().borrow().cluster_id.clone().unwrap();
    // Only a node without a cluster takes it.
    let refused = group.members[0].cluster().restore(backup.clone()).await;
    assert!(matches!(refused, Err(MemberError::Refused(_))), "{refused:?}");
    // What happens later is not in it.
    group.submit(2, alice, 10).await;
    for member in &mut group.members {
        member.stop().await;
    }

    // Node 0 gets an empty disk; nodes 1 and 2 keep theirs.
    std::fs::remove_dir_all(&group.members[0].config.data_dir).unwrap();
    group.members[0].start().await.unwrap();
    let damaged = {
        let mut bytes = backup.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        group.members[0].cluster().restore(bytes.into()).await
    };
    assert!(matches!(damaged, Err(MemberError::Refused(_))), "{damaged:?}");
    group.members[0].cluster().restore(backup).await.unwrap();
    group.members[0].ready().await;
    assert_eq!(group.members[0].cluster().ledger_hash(), hash);
    let restored = group.members[0].cluster();
    assert_eq!(restored.read(|state| state.identity().clone()), keys, "sids and tickets are valid");
    assert_eq!(restored.authorize("alice", "correct horse").await, Ok(alice));
    let new = restored.view().borrow().cluster_id.clone().unwrap();
    assert_ne!(new, old);

    // A member of the old cluster comes back: it is refused, and changes nothing.
    group.members[1].start().await.unwrap();
    let refused = || group.members[0].cluster().metrics().connections_refused.value() > 0;
    eventually("the old member is refused", refused).await;
    assert_eq!(group.members[0].cluster().view().borrow().members.len(), 1);
    assert_eq!(group.members[0].cluster().ledger_hash(), hash);
    group.members[1].stop().await;

    // With empty disks the others join, and the cluster goes on where the backup was.
    for i in [1, 2] {
        std::fs::remove_dir_all(&group.members[i].config.data_dir).unwrap();
        group.members[i].start().await.unwrap();
        group.members[i].ready().await;
    }
    for name in ["node-1", "node-2"] {
        group.members[0].cluster().add_member(name).await.unwrap();
    }
    group.submit(2, alice, 100).await;
    for member in &group.members {
        member.ledger("all shares", |state| state.counted().shares == 400).await;
    }
    let next = group.members[2].cluster().job_lease().await.unwrap();
    assert_eq!(next, lease + 1, "no job id is given out again");
}
