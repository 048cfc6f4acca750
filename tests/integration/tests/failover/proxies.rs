//! A proxy dies, or a miner's connection does: the sid brings the session back.

use std::time::Duration;

use seam_integration::{Client, Cluster, until};
use seam_stratum::{Extranonce1, Sid, SidKey};
use serde_json::json;

use crate::mining::{Promise, Scene, sessions, sessions_of};

#[test]
fn killed_proxy_s_miners_come_back_through_the_other_and_resume() {
    let mut scene = Scene::start(&[]);
    let mut mining = scene.mine(sessions(), |options| options.resume = true);
    mining.note("proxy-0 is killed");
    scene.cluster.kill("proxy-0");
    mining.work(6.0);
    let promise = Promise { gap: Duration::from_secs(2), dropped: true };
    let report = mining.judge(&mut scene, promise);
    // Every other miner was connected to it.
    assert_eq!(report.drops, u64::from(report.sessions / 2), "{report}");
    assert_eq!((report.resumed, report.not_resumed), (report.drops, 0), "{report}");
    scene.cluster.restart("proxy-0");
    scene.cluster.wait_ready("proxy-0");
    scene.cluster.stop();
}

#[test]
fn sid_brings_a_session_back_through_any_proxy_and_without_its_node() {
    let mut cluster = Cluster::start(seam_integration::Chain::Devnet, 3, 2, &[]);
    cluster.add_user("al", "secret");
    let (first, second) =
        (cluster.proxies()[0].stratum.clone(), cluster.proxies()[1].stratum.clone());

    // Through the other proxy: the same number, difficulty and node, and the old connection ends.
    let mut old = Client::log_in(&first, "al", "secret,d=3e-9");
    old.wait_work();
    let (sid, number) = (old.sid.clone().unwrap(), old.extranonce1().to_vec());
    let difficulty = old.difficulty();
    let home = home(&cluster);
    let mut new = resume(&second, &sid, &number);
    assert_eq!(new.difficulty(), difficulty);
    old.wait_closed();
    assert_eq!(self::home(&cluster), home);
    let share = new.find(true);
    assert!(new.submit("al", &share).is_true());

    // The connection breaks, then the node dies: the proxy still has the ticket.
    drop(new);
    until("the session's end", || (sessions_of(&cluster, &home)? == 0).then_some(()));
    cluster.kill(&home);
    let mut again = resume(&second, &sid, &number);
    assert_eq!(again.difficulty(), difficulty);
    let share = again.find(true);
    assert!(again.submit("al", &share).is_true());
    assert_ne!(self::home(&cluster), home);

    // What is not ours is no offence, and brings nothing.
    let foreign = Sid::mint(&SidKey([8; 32]), Extranonce1(7)).to_string();
    let mut forged = sid.clone();
    forged.replace_range(23.., if sid.ends_with('0') { "1" } else { "0" });
    for wrong in [&foreign, &forged, &sid[..8].to_owned()] {
        let mut client = Client::connect(&first);
        client.subscribe(Some(wrong));
        assert_ne!(client.sid.as_deref(), Some(sid.as_str()), "{wrong}");
        assert_ne!(client.extranonce1(), number, "{wrong}");
        assert!(client.call("mining.authorize", json!(["al", "secret"])).is_true());
    }
    let share = again.find(true);
    assert!(again.submit("al", &share).is_true(), "still there");
    cluster.stop_with_dead();
}

/// Comes back with a sid, without saying a difficulty, and works.
fn resume(url: &str, sid: &str, number: &[u8]) -> Client {
    let mut client = Client::connect(url);
    client.subscribe(Some(sid));
    assert_eq!((client.sid.as_deref(), client.extranonce1()), (Some(sid), number));
    assert!(client.call("mining.authorize", json!(["al", "secret"])).is_true());
    client.wait_work();
    client
}

/// The node that has the only session.
fn home(cluster: &Cluster) -> String {
    until("the session on one node", || {
        let mut with =
            cluster.nodes().iter().filter(|node| sessions_of(cluster, &node.name) == Some(1));
        let node = with.next()?.name.clone();
        with.next().is_none().then_some(node)
    })
}
