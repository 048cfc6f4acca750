//! Whatever comes in at the stratum port gets a clear answer and harms nobody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use seam_integration::{Chain, Client, Cluster, until};
use serde_json::json;

/// Bans have their own test; elsewhere they would end what is tried.
const NO_BANS: [&str; 2] = ["--set", "limits.ban_score=1000000000"];
/// Every hash is a share.
const LOGIN: (&str, &str) = ("al", "secret,d=1e-10");

#[test]
fn broken_lines_are_answered_and_the_session_goes_on() {
    let (cluster, mut bystander) = start(&NO_BANS);
    let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
    let lines: &[&[u8]] = &[
        b"hello",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\"text\"",
        b"{}",
        b"{\"id\":77}",
        b"{\"id\":77,\"method\":7,\"params\":[]}",
        b"{\"id\":77,\"method\":null}",
        b"{\"id\":77,\"method\":\"mining.submit\",\"params\":{\"a\":1}}",
        b"{\"id\":77,\"method\":\"mining.submit\",\"params\":\"al\"}",
        b"{\"id\":77,\"method\":\"mining.submit\",\"params\":[1,2,3,4,5]}",
        b"{\"id\":77,\"method\":\"mining.authorize\",\"params\":[[],{}]}",
        b"{\"id\":77,\"method\":\"mining.suggest_difficulty\",\"params\":[1e999]}",
        b"{\"id\":77,\"method\":\"mining.suggest_difficulty\",\"params\":[-1]}",
        b"{\"id\":99999999999999999999999999999999,\"method\":\"mining.nothing\",\"params\":[]}",
        b"\xff\xfe\xfd",
        b"{\"id\":77,\"method\":\"\xc3\x28\",\"params\":[]}",
        deep.as_bytes(),
    ];
    for line in lines {
        let mut client = Client::connect(&cluster.nodes()[0].stratum);
        client.send(line);
        client.send(b"\n");
        // These look like answers, and an answer needs none.
        if *line != b"{\"id\":77}" && *line != b"{\"id\":77,\"method\":null}" {
            let answer = client.line().expect("an answer");
            let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
            assert!(!answer["error"].is_null(), "{shown}: {answer}");
            assert!(
                answer["error"][0].as_i64().is_some_and(|code| code >= 20),
                "{shown}: {answer}"
            );
        }
        // The connection is as good as before.
        assert_eq!(client.call("mining.ping", json!([])).result, "pong");
    }
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn unknown_method_is_told_and_its_id_comes_back_whatever_its_type() {
    let (cluster, mut bystander) = start(&NO_BANS);
    let mut client = Client::connect(&cluster.nodes()[0].stratum);
    for id in [json!(1), json!("one"), json!(null), json!(1.5), json!(-7), json!(4_294_967_296u64)]
    {
        let line = json!({"id": id, "method": "mining.nothing", "params": []});
        client.send(format!("{line}\n").as_bytes());
        let answer = client.line().unwrap();
        assert_eq!(answer["id"], id);
        assert_eq!(answer["error"], json!([20, "unknown method", null]));
    }
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn bytes_one_at_a_time_are_a_line_and_a_line_without_end_is_not() {
    let (cluster, mut bystander) = start(&NO_BANS);
    let url = &cluster.nodes()[0].stratum;
    let mut slow = Client::connect(url);
    for byte in b"{\"id\":7,\"method\":\"mining.ping\",\"params\":[]}\r\n" {
        slow.send(&[*byte]);
    }
    assert_eq!(slow.answer_to(&json!(7)).result, "pong");

    // Without a line end, and with one after a megabyte: both are told so and hung up on.
    for end in ["", "\n"] {
        let mut client = Client::connect(url);
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(end.as_bytes());
        // It may hang up before all is written, and the answer may be lost with the reset.
        let _ = client.try_send(&bytes);
        client.wait_closed();
    }
    let mut client = Client::connect(url);
    client.send(&vec![b'{'; 20_000]);
    let answer = client.line();
    assert!(answer.is_none_or(|answer| answer["error"][1] == "line too long"));
    client.wait_closed();
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn each_wrong_share_gets_its_own_code() {
    let (cluster, mut bystander) = start(&NO_BANS);
    let url = &cluster.nodes()[0].stratum;

    let mut client = Client::connect(url);
    let nothing = json!(["al", "1", "00", "00000000", "00000000"]);
    assert_eq!(client.call("mining.submit", nothing.clone()).code(), 25, "before subscribe");
    client.subscribe(None);
    assert_eq!(client.call("mining.submit", nothing).code(), 24, "before authorize");
    let mask = json!([["version-rolling"], {"version-rolling.mask": "00ffe000"}]);
    assert_eq!(client.call("mining.configure", mask).result["version-rolling"], true);
    assert!(client.call("mining.authorize", json!([LOGIN.0, LOGIN.1])).is_true());
    let share = client.find(true);
    let spoiled = |at: usize, text: &str| {
        let mut share = share.clone();
        share.parameters[at] = text.to_owned();
        share
    };
    let short = share.parameters[1][2..].to_owned();
    let cases = [
        (spoiled(0, "fffffffffff"), 21, "unknown job"),
        (spoiled(0, "no job"), 21, "a job that is none of ours"),
        (spoiled(1, &short), 20, "nonce2 too short"),
        (spoiled(1, &format!("{}00", share.parameters[1])), 20, "nonce2 too long"),
        (spoiled(1, "zz"), 20, "nonce2 of no digits"),
        (spoiled(2, "00000001"), 20, "time long ago"),
        (spoiled(2, "ffffffff"), 20, "time far ahead"),
        (spoiled(3, "100000000"), 20, "nonce too long"),
    ];
    for (share, code, what) in cases {
        let answer = client.submit("al", &share);
        assert_eq!(answer.code(), code, "{what}: {answer:?}");
        assert!(!answer.error.unwrap().1.is_empty(), "{what}: in words, too");
    }
    let [job, nonce2, ntime, nonce] = share.parameters.clone();
    let bits = json!(["al", job, nonce2, ntime, nonce, "80000000"]);
    assert_eq!(client.call("mining.submit", bits).code(), 20, "version bits outside the mask");
    let stranger = client.submit("bob", &share);
    assert_eq!(stranger.code(), 24, "a user that did not log in: {stranger:?}");
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn duplicate_and_low_difficulty_are_told_apart() {
    // Devnet: a share is no block, so that the work stays as it is.
    let cluster = Cluster::start(Chain::Devnet, 1, 0, &NO_BANS);
    cluster.add_user("al", "secret");
    let mut client = Client::log_in(&cluster.nodes()[0].stratum, "al", "secret,d=1e-7");
    let good = client.find(true);
    assert!(client.submit("al", &good).is_true());
    assert_eq!(client.submit("al.other", &good).code(), 22);
    let low = client.find(false);
    assert_eq!(client.submit("al", &low).code(), 23);
    // Only one of them counts.
    let rounds = cluster.ctl(&["rounds"]);
    assert_eq!(rounds["current"]["users"]["al"]["shares"], 1, "{rounds}");
    cluster.stop();
}

#[test]
fn wrong_logins_are_refused_slowed_and_ended() {
    let options: Vec<&str> =
        NO_BANS.into_iter().chain(["--set", "limits.login_attempts=3"]).collect();
    let (cluster, mut bystander) = start(&options);
    let url = &cluster.nodes()[0].stratum;
    let mut client = Client::connect(url);
    client.subscribe(None);
    let began = Instant::now();
    let refused = client.call("mining.authorize", json!(["al", "wrong"]));
    assert!(!refused.is_true() && refused.code() != 20, "{refused:?}");
    assert!(began.elapsed() > Duration::from_millis(500), "a refusal is slow");
    assert!(!client.call("mining.authorize", json!(["nobody", "x"])).is_true());
    // The right one still works on the same connection.
    assert!(client.call("mining.authorize", json!(["al", "secret"])).is_true());
    let _ = client.call("mining.authorize", json!(["nobody", "y"]));
    client.wait_closed();

    let mut client = Client::connect(url);
    let add = |client: &mut Client| client.call("mining.add_user", json!(["eve", "pw"]));
    assert!(!add(&mut client).is_true(), "not an administrator");
    assert!(!client.call("mining.authorize_admin", json!(["guess"])).is_true());
    assert!(!add(&mut client).is_true());
    assert!(client.call("mining.authorize_admin", json!([cluster.admin_password()])).is_true());
    assert!(add(&mut client).is_true());
    drop(Client::log_in(url, "eve", "pw"));
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn http_on_the_stratum_port_is_told_where_stratum_is() {
    let (cluster, mut bystander) = start(&NO_BANS);
    let url = &cluster.nodes()[0].stratum;
    let mut stream = TcpStream::connect(url).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("X-Stratum: stratum+tcp://{url}\r\n")), "{answer}");

    // A TLS hello on the plain port is closed, and no offence: the same address connects again.
    let mut tls = Client::connect(url);
    tls.send(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01]);
    tls.wait_closed();
    drop(Client::log_in(url, LOGIN.0, LOGIN.1));
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn address_that_misbehaves_is_banned_for_a_while() {
    let options = ["--set", "limits.ban_score=500", "--set", "limits.ban_seconds=3"];
    let (cluster, _) = start(&options);
    let url = &cluster.nodes()[0].stratum;
    let mut client = Client::connect(url);
    for _ in 0..10 {
        let _ = client.try_send(b"nonsense\n");
    }
    client.wait_closed();
    let mut refused = Client::connect(url);
    let _ = refused.try_send(b"{\"id\":77,\"method\":\"mining.ping\",\"params\":[]}\n");
    refused.wait_closed();
    until("the end of the ban", || {
        let mut client = Client::connect(url);
        client.try_send(b"{\"id\":77,\"method\":\"mining.ping\",\"params\":[]}\n").ok()?;
        client.line().map(|answer| assert_eq!(answer["result"], "pong"))
    });
    cluster.stop();
}

#[test]
fn flood_of_connections_leaves_room_for_miners() {
    let options: Vec<&str> =
        NO_BANS.into_iter().chain(["--set", "limits.per_address=200"]).collect();
    let (cluster, mut bystander) = start(&options);
    let url = &cluster.nodes()[0].stratum;
    // More than are let in; those beyond are closed at once, and cost nobody anything.
    let flood: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(url).ok()).collect();
    still_served(&mut bystander);
    drop(flood);
    until("room after the flood", || {
        let mut client = Client::connect(url);
        client.try_send(b"{\"id\":77,\"method\":\"mining.ping\",\"params\":[]}\n").ok()?;
        client.line()
    });
    still_served(&mut bystander);
    cluster.stop();
}

#[test]
fn client_that_never_reads_is_dropped_and_delays_nobody() {
    let options: Vec<&str> =
        NO_BANS.into_iter().chain(["--set", "limits.write_backlog=16384"]).collect();
    let (cluster, mut bystander) = start(&options);
    let mut deaf = Client::log_in(&cluster.nodes()[0].stratum, LOGIN.0, LOGIN.1);
    // Each request has an answer as long that is not read, until the node has enough of it.
    let id = "x".repeat(400);
    let request = format!("{}\n", json!({"id": id, "method": "mining.ping", "params": []}));
    let request = request.repeat(1_000);
    until("the node to hang up", || {
        let began = Instant::now();
        still_served(&mut bystander);
        assert!(began.elapsed() < Duration::from_secs(5), "others are served meanwhile");
        deaf.try_send(request.as_bytes()).err()
    });
    cluster.stop();
}

/// A node, and a miner on it that behaves well.
fn start(options: &[&str]) -> (Cluster, Client) {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, options);
    cluster.add_user("al", "secret");
    let bystander = Client::log_in(&cluster.nodes()[0].stratum, LOGIN.0, LOGIN.1);
    (cluster, bystander)
}

/// The well-behaved miner mines as ever.
fn still_served(client: &mut Client) {
    let share = client.find(true);
    let answer = client.submit("al", &share);
    // A block by someone else in between is nobody's fault.
    assert!(answer.is_true() || answer.code() == 21, "{answer:?}");
    if share.is_block || answer.code() == 21 {
        client.wait_other_work(&share.parameters[0]);
    }
}
