//! A disk that a node of an older ledger format left, under the programs of this build.

use std::path::{Path, PathBuf};
use std::{fs, io};

use seam_integration::{Chain, Cluster, until};

/// What `alice` had on that disk: see `cluster/tests/nodes/formats.rs`.
const SHARES: u64 = 80;

#[test]
fn node_of_format_1_starts_with_this_build_and_its_cluster_grows() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../cluster/fixtures/node-1");
    let cluster = Cluster::start_on(Chain::Regtest, 3, 1, &[], |dir| {
        copy(&fixture.join("data"), &dir.join("node-0/data")).unwrap();
    });
    let counted = |name: &str| {
        let rounds = cluster.get(name, "/v1/rounds").unwrap();
        let past = rounds["past"].as_array().unwrap().clone();
        let all = past.iter().chain([&rounds["current"]]);
        let shares = |round: &serde_json::Value, user: &str| {
            round["users"][user]["shares"].as_u64().unwrap_or(0)
        };
        all.fold((0, 0), |sum, round| {
            (sum.0 + shares(round, "alice"), sum.1 + shares(round, "bob"))
        })
    };
    // It was not formed anew, and the two empty disks joined it.
    assert_eq!(counted("node-0"), (SHARES, 0));
    assert_eq!(
        cluster.get("node-0", "/v1/members").unwrap()["members"].as_array().unwrap().len(),
        3
    );

    cluster.add_user("bob", "secret");
    let proxy = &cluster.proxies()[0].stratum;
    let mined = cluster.mine(proxy, "bob", "secret,d=1e-9", &["--blocks", "2"]);
    let accepted = mined["accepted"].as_u64().unwrap();
    assert!(accepted >= 2);
    for node in cluster.nodes() {
        // What was under way when the miner had its blocks may be there, too.
        until("all shares on every node", || {
            let (alice, bob) = counted(&node.name);
            (alice == SHARES && bob >= accepted).then_some(())
        });
    }
    until("the same ledger on every node", || {
        let ledgers = cluster.nodes().iter().map(|node| {
            let status = cluster.get(&node.name, "/v1/status")?;
            let ledger = &status["ledger"];
            Some((ledger["index"].clone(), ledger["hash"].clone()))
        });
        let ledgers: Option<Vec<_>> = ledgers.collect();
        ledgers.filter(|all| all.iter().all(|one| *one == all[0])).map(drop)
    });
    cluster.stop();
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => fs::copy(entry.path(), to).map(drop)?,
        }
    }
    Ok(())
}
