//! `seamctl backup` of a running cluster, and what a new cluster makes of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use seam_cluster::ledger::State;
use seam_integration::{Chain, Client, Cluster, Program, run, until, until_within};
use serde_json::{Value, json};

const COMMAND: Duration = Duration::from_secs(60);
const READY: Duration = Duration::from_secs(120);

#[test]
fn backup_of_a_running_cluster_restored_into_a_new_one_is_the_same_ledger() {
    let old = Cluster::start(Chain::Regtest, 3, 0, &[]);
    old.add_user("al", "secret");
    old.add_user("bob", "other");
    old.ctl(&["user", "disable", "bob"]);
    old.mine(&old.nodes()[0].stratum, "al", "secret,d=1e-9", &["--blocks", "2"]);
    let file = old.dir().join("ledger.backup");
    let path = file.to_str().unwrap();
    // The running cluster goes on: its ledger has the backup's hash when it is at its index.
    let saved = until("a backup that nothing was written after", || {
        old.ctl(&["backup", path]);
        let saved = read(&file);
        let at = json!({"index": saved.applied(), "hash": hex::encode(saved.digest())});
        let ledgers = old.nodes().iter().map(|node| status(&node.admin)["ledger"].clone());
        let same =
            ledgers.filter(|l| json!({"index": l["index"], "hash": l["hash"]}) == at).count();
        (same == 3).then_some(saved)
    });
    assert_eq!(mode(&file), 0o600, "it holds keys");
    // A cluster that is in use is no place to restore into.
    assert_eq!(old.try_ctl(&["restore", path]).status.code(), Some(1));
    let rounds = old.ctl(&["rounds"]);
    let users = old.ctl(&["user", "list"]);
    let passwords = old.try_ctl(&["user", "export"]).stdout;
    let backup = fs::read(&file).unwrap();
    old.stop();

    let mut new = Unformed::start(3);
    let (admin, token) = (new.admin(0), new.token());
    let ctl = |words: &[&str]| {
        run(
            "seamctl",
            [&["--json", "--admin", &admin, "--token-file", &token], words].concat(),
            COMMAND,
        )
    };
    let copy = new.dir.path().join("copy.backup");
    let copy = copy.to_str().unwrap();
    let mut damaged = backup.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(copy, &damaged).unwrap();
    assert_eq!(ctl(&["restore", copy]).status.code(), Some(1), "a damaged file is refused");
    fs::write(copy, &backup).unwrap();
    let output = ctl(&["restore", copy]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let at_backup = json!({"index": saved.applied(), "hash": hex::encode(saved.digest())});
    assert_eq!(answer["ledger"], at_backup);
    new.wait_ready();

    // All members of the new cluster have it; only what a running cluster leases has gone on.
    let state = until("a backup of the new cluster", || {
        let again = new.dir.path().join("again.backup");
        let output = ctl(&["backup", again.to_str().unwrap()]);
        output.status.success().then(|| read(&again))
    });
    assert_eq!(state.counted(), saved.counted());
    assert_eq!(state.identity(), saved.identity());
    assert_eq!(state.settings(), saved.settings());
    assert!(state.applied() > saved.applied());
    assert_eq!(ctl(&["user", "export"]).stdout, passwords);
    for node in 0..3 {
        let admin = new.admin(node);
        until("every node to have the rounds", || (get(&admin, "rounds") == rounds).then_some(()));
        assert_eq!(get(&admin, "users"), users);
        until("the same ledger on every node", || {
            let (here, there) = (status(&admin), status(&new.admin(0)));
            (here["ledger"]["index"] == there["ledger"]["index"]).then(|| {
                assert_eq!(here["ledger"]["hash"], there["ledger"]["hash"]);
            })
        });
        // With the password that only the backup knew.
        drop(Client::log_in(&new.stratum(node), "al", "secret"));
    }
    new.stop();
}

/// Nodes on loopback that belong to no cluster.
struct Unformed {
    dir: tempfile::TempDir,
    up: Program,
    nodes: Vec<Value>,
}

impl Unformed {
    fn start(nodes: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("seam-test-").tempdir().unwrap();
        // As if it had been formed: so nobody forms it.
        let saved = json!({"chain": "regtest", "formed": true, "nodes": [], "proxies": []});
        fs::write(dir.path().join("dev.json"), saved.to_string()).unwrap();
        let number = nodes.to_string();
        let words = ["dev", "up", "--nodes", &number, "--deadline", "170", "--dir"];
        let mut up =
            Program::start("seamctl", words.iter().copied().chain([dir.path().to_str().unwrap()]));
        let nodes = until("the nodes' addresses", || {
            assert!(up.ended().is_none(), "seamctl dev up ended");
            let dev: Value =
                serde_json::from_slice(&fs::read(dir.path().join("dev.json")).ok()?).ok()?;
            let list = dev["nodes"].as_array()?.clone();
            (list.len() == nodes).then_some(list)
        });
        let this = Self { dir, up, nodes };
        until_within(READY, "the first node to answer", || {
            let url = format!("http://{}/v1/members", this.admin(0));
            ureq::get(url).call().ok()
        });
        this
    }

    fn admin(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node]["admin"])
    }

    fn stratum(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node]["stratum"])
    }

    fn token(&self) -> String {
        self.dir.path().join("admin.token").to_str().unwrap().to_owned()
    }

    fn wait_ready(&mut self) {
        let file = self.dir.path().join("cluster.json");
        until_within(READY, "a ready cluster", || {
            assert!(self.up.ended().is_none(), "seamctl dev up ended");
            file.exists().then_some(())
        });
    }

    fn stop(mut self) {
        self.up.terminate();
        assert!(self.up.wait_within(Duration::from_secs(90)).success());
    }
}

fn read(file: &Path) -> State {
    State::read_from(&mut &fs::read(file).unwrap()[..]).unwrap()
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn status(admin: &str) -> Value {
    get(admin, "status")
}

fn get(admin: &str, what: &str) -> Value {
    crate::http::get(&format!("http://{admin}/v1/{what}"))
}
