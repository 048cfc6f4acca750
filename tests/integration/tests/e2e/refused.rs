//! Bitcoin Core finds fault with a template that it has made itself.
//!
//! `-blockversion` makes it do that: a block of version 1 is one that its own rules have refused since
//! BIP 66.

use std::fs;
use std::time::Duration;

use seam_integration::{Chain, Client, Cluster, Coin, Wallet, until};

/// `dev up` pays to this address unless told otherwise, and anyone may spend from it.
const ANYONE: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
const STOP: Duration = Duration::from_secs(60);

#[test]
fn refused_template_is_replaced_by_an_empty_one_and_says_so() {
    let mut cluster = Cluster::start(
        Chain::Regtest,
        1,
        0,
        &["--rpc", "--set", "jobs.refresh_seconds=1", "--set", "jobs.fee_check_seconds=55"],
    );
    cluster.add_user("al", "secret");
    let rpc = cluster.rpc("node-0");
    rpc.call("generatetoaddress", &["102", ANYONE]);
    let mature = rpc.block(&rpc.hash_at(1));
    assert_eq!(checks(&cluster, "refused"), 0.0);

    cluster.terminate("node-0", STOP);
    let config = cluster.dir().join("node-0/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let changed = text.replace("\"-listen=1\"", "\"-listen=1\", \"-blockversion=1\"");
    assert_ne!(changed, text);
    fs::write(&config, changed).unwrap();
    cluster.restart("node-0");
    cluster.wait_ready("node-0");
    until("a refused template", || (checks(&cluster, "refused") > 0.0).then_some(()));
    assert_eq!(checks(&cluster, "valid"), 0.0);
    let empty_jobs = || cluster.metric("node-0", "seam_jobs_total{reason=\"empty\"}");
    // An empty one is the best that there is: it is not made once more.
    assert_eq!(empty_jobs(), 0.0);

    let rpc = cluster.rpc("node-0");
    rpc.send(&Wallet::default().take(&Coin::of_coinbase(&mature)));
    let mut client = Client::log_in(&cluster.nodes()[0].stratum, "al", "secret,d=1");
    let siblings = |client: &mut Client| client.newest_job()[4].as_array().unwrap().len();
    for wanted in [1, 0] {
        // Nobody waited for Core's verdict: work with the transaction comes, and then work without.
        while siblings(&mut client) != wanted {
            let old = client.newest_job()[0].as_str().unwrap().to_owned();
            client.wait_other_work(&old);
        }
        assert_eq!(client.newest_job()[8], false, "nobody has to drop what he works on");
    }
    assert!(empty_jobs() >= 1.0);
    let log = cluster.log("node-0");
    let told = log.lines().find(|line| line.contains("SEAM-N019")).expect("a line with its code");
    assert!(told.contains("bad-version(0x00000001)"), "{told}");
    // One verdict for each job, so that no job asks for another without end.
    let jobs: f64 = ["tip", "interval", "empty"]
        .map(|reason| cluster.metric("node-0", &format!("seam_jobs_total{{reason=\"{reason}\"}}")))
        .iter()
        .sum();
    assert!(checks(&cluster, "refused") <= jobs + 1.0);
    cluster.stop();
}

fn checks(cluster: &Cluster, result: &str) -> f64 {
    cluster.metric("node-0", &format!("seam_template_checks_total{{result=\"{result}\"}}"))
}
