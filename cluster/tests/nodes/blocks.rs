//! Blocks of ours, from the node that found them to maturity, on every member.

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use seam_cluster::BlockStatus;
use seam_cluster::ledger::{BlockFound, State, Status, UserId};

use crate::common::{Group, eventually, now};

async fn group() -> (Group, UserId) {
    let mut group = Group::new(3);
    for member in &mut group.members {
        member.config.timing.block_poll = Duration::from_millis(100);
        member.start().await.unwrap();
    }
    group.members[0].cluster().init().await.unwrap();
    for (name, i) in [("node-0", 0), ("node-1", 1), ("node-2", 2)] {
        group.members[0].cluster().add_member(name).await.unwrap();
        group.members[i].ready().await;
    }
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    (group, user)
}

fn block(number: u8, user: UserId) -> BlockFound {
    BlockFound {
        height: 100 + u32::from(number),
        hash: BlockHash::from_byte_array([number; 32]),
        previous: BlockHash::from_byte_array([number - 1; 32]),
        ts: now(),
        time: now(),
        txid: Txid::from_byte_array([number; 32]),
        address: "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".into(),
        reward: 5_000_000_000,
        network: "regtest".into(),
        node: "node-2".into(),
        job: 1,
        session: 7,
        user,
        share: None,
    }
}

impl Group {
    /// What every chain says from now on.
    fn chains_say(&self, status: BlockStatus) {
        for member in &self.members {
            *member.host.status.lock() = Some(status);
        }
    }

    async fn everywhere(&self, what: &str, ok: impl Fn(&State) -> bool) {
        for member in &self.members {
            member.ledger(what, &ok).await;
        }
    }

    /// A round's file on each member.
    fn dumps(&self, number: u8) -> Vec<PathBuf> {
        let block = block(number, UserId(0));
        let name = format!("shares/{}-{}.json", block.height, block.hash);
        self.members.iter().map(|member| member.config.data_dir.join(&name)).collect()
    }

    /// Waits until each member's file is the same and satisfies something.
    async fn dumped(&self, number: u8, what: &str, ok: impl Fn(&str) -> bool) {
        let files = self.dumps(number);
        let same = || {
            let texts: Vec<_> = files.iter().map(std::fs::read_to_string).collect();
            let Some(Ok(first)) = texts.first() else { return false };
            ok(first) && texts.iter().all(|text| text.as_ref().is_ok_and(|text| text == first))
        };
        eventually(what, same).await;
    }
}

fn status(state: &State, number: u8) -> Option<Status> {
    let block = block(number, UserId(0));
    state.rounds().by_hash(&block.hash).map(|round| round.status)
}

fn current(state: &State, user: UserId) -> u64 {
    state.rounds().current().table.of(user).shares
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_followed_to_maturity_and_its_file_is_the_same_everywhere() {
    let (mut group, user) = group().await;
    group.submit(1, user, 30).await;
    group.members[2].cluster().record_block(block(1, user));
    group.everywhere("pending", |state| status(state, 1) == Some(Status::Pending)).await;
    group.everywhere("a new round", |state| current(state, user) == 0).await;
    group.chains_say(BlockStatus::Active { confirmations: 1 });
    group.everywhere("confirmed", |state| status(state, 1) == Some(Status::Confirmed)).await;
    group.dumped(1, "a file", |text| text.contains("alice") && !text.contains("orphaned")).await;
    group.chains_say(BlockStatus::Active { confirmations: 101 });
    group.everywhere("mature", |state| status(state, 1) == Some(Status::Mature)).await;
    // A file that is gone is written again at the next start.
    let lost = group.dumps(1).remove(0);
    std::fs::remove_file(&lost).unwrap();
    group.members[0].stop().await;
    group.members[0].start().await.unwrap();
    group.dumped(1, "the file again", |text| text.contains("alice")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphans_credit_returns_and_is_taken_back_when_its_block_comes_back() {
    let (group, user) = group().await;
    group.submit(1, user, 30).await;
    group.members[0].cluster().record_block(block(1, user));
    group.chains_say(BlockStatus::Active { confirmations: 1 });
    group.everywhere("confirmed", |state| status(state, 1) == Some(Status::Confirmed)).await;
    group.submit(2, user, 5).await;
    group.chains_say(BlockStatus::Orphaned { buried: 1 });
    group.everywhere("credit is back", |state| current(state, user) == 35).await;
    group.dumped(1, "do not pay", |text| text.contains(r#""status": "orphaned""#)).await;
    group.chains_say(BlockStatus::Active { confirmations: 2 });
    group.everywhere("credit is the block's", |state| current(state, user) == 5).await;
    group.dumped(1, "pay", |text| !text.contains("orphaned")).await;
    // Orphaned for good.
    group.chains_say(BlockStatus::Orphaned { buried: 100 });
    group.everywhere("abandoned", |state| status(state, 1) == Some(Status::Abandoned)).await;
    group.everywhere("credit stays", |state| current(state, user) == 35).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_found_without_a_quorum_is_recorded_when_it_is_back_even_after_a_restart() {
    let (mut group, user) = group().await;
    group.submit(0, user, 10).await;
    for i in [0, 1] {
        group.members[i].stop().await;
    }
    group.members[2].cluster().record_block(block(1, user));
    let outbox = group.members[2].config.data_dir.join("outbox");
    let kept = || std::fs::read_dir(&outbox).is_ok_and(|mut files| files.next().is_some());
    eventually("the block is on the disk", kept).await;
    assert_eq!(group.members[2].cluster().read(|state| status(state, 1)), None);
    group.members[2].stop().await;
    for member in &mut group.members {
        member.start().await.unwrap();
    }
    group.everywhere("recorded", |state| status(state, 1) == Some(Status::Pending)).await;
    eventually("nothing waits", || !kept()).await;
}
