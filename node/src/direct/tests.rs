//! Miners over real sockets.

use std::sync::Arc;
use std::time::Duration;

use seam_cluster::ledger::ShareOutcome;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Direct, listen};
use crate::clock::Clock;
use crate::config::{Authorization, Config};
use crate::testing::{HARD, START, Wanted, World, grind};

/// Long enough for a machine that does something else, too.
const PATIENCE: Duration = Duration::from_secs(20);

struct Port {
    world: World,
    direct: Arc<Direct>,
    address: std::net::SocketAddr,
}

impl Port {
    fn open(change: impl FnOnce(&mut Config)) -> Self {
        let mut limits = None;
        let world = World::on(Clock::system(), Authorization::Registered, |config| {
            change(config);
            limits = Some(config.limits.clone());
        });
        let direct = Direct::new(Arc::clone(&world.pool), limits.unwrap(), "pool.example:3333");
        let listener = listen("test", "127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(Arc::clone(&direct).accept(listener));
        tokio::spawn(Arc::clone(&direct).fan_out());
        Self { world, direct, address }
    }

    async fn connect(&self) -> Line {
        Line(BufReader::new(TcpStream::connect(self.address).await.unwrap()))
    }

    async fn miner(&self) -> Line {
        let mut line = self.connect().await;
        line.say("{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await;
        line.say("{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"alice\",\"secret\"]}\n")
            .await;
        for _ in 0..4 {
            line.hear().await.unwrap();
        }
        line
    }
}

struct Line(BufReader<TcpStream>);

impl Line {
    async fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; none when the connection is closed.
    async fn hear(&mut self) -> Option<Value> {
        let mut text = String::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut text)).await.unwrap();
        match read {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&text).unwrap()),
        }
    }

    async fn closed(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.unwrap();
        rest
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_share_is_answered_over_the_socket() {
    let port = Port::open(|_| {});
    let job = port.world.publish(1, 100, HARD);
    let mut line = port.connect().await;
    line.say("{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await;
    let answer = line.hear().await.unwrap();
    let extranonce1 =
        seam_stratum::Extranonce1::parse(answer["result"][1].as_str().unwrap()).unwrap();
    line.say("{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"alice\",\"secret\"]}\n")
        .await;
    for _ in 0..3 {
        line.hear().await.unwrap();
    }
    let nonce = grind(&job.job, extranonce1, START, 0, 0, Wanted::Good);
    line.say(&format!(
        "{{\"id\":3,\"method\":\"mining.submit\",\"params\":[\"alice\",\"{}\",\"0000000000000000\",\"{:08x}\",\"{nonce:08x}\"]}}\n",
        job.id(), job.job.ntime
    ))
    .await;
    until("the share is submitted", || port.world.ledger.submitted.lock().len() == 1).await;
    port.world.ledger.commit(Ok(ShareOutcome::Counted));
    assert_eq!(line.hear().await.unwrap()["result"], true);
}

#[tokio::test]
async fn a_new_job_reaches_everyone() {
    let port = Port::open(|_| {});
    port.world.publish(1, 100, HARD);
    let mut lines = Vec::new();
    for _ in 0..20 {
        lines.push(port.miner().await);
    }
    let job = port.world.publish(2, 101, HARD);
    for line in &mut lines {
        let notify = line.hear().await.unwrap();
        assert_eq!(notify["params"][0], job.id().to_string());
        assert_eq!(notify["params"][8], true);
    }
}

#[tokio::test]
async fn lines_may_come_byte_by_byte_or_all_at_once() {
    let port = Port::open(|_| {});
    let mut line = port.connect().await;
    for byte in "{\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\r\n".chars() {
        line.say(&byte.to_string()).await;
    }
    assert_eq!(line.hear().await.unwrap()["result"], "pong");
    let many: String =
        (0..500).map(|id| format!("{{\"id\":{id},\"method\":\"mining.ping\"}}\n")).collect();
    line.say(&many).await;
    for id in 0..500 {
        assert_eq!(line.hear().await.unwrap()["id"], id);
    }
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let port = Port::open(|_| {});
    let mut line = port.connect().await;
    // What was not read when the connection ends resets it: this much is read.
    line.say(&"x".repeat(16 * 1024 + 3)).await;
    let answer = line.hear().await.unwrap();
    assert_eq!(answer["error"][0], 20);
    assert!(line.closed().await.is_empty());
}

#[tokio::test]
async fn a_megabyte_of_line_harms_nobody() {
    let port = Port::open(|_| {});
    port.world.publish(1, 100, HARD);
    let mut other = port.miner().await;
    let mut line = port.connect().await;
    let _ = line.0.get_mut().write_all(&vec![b'{'; 1 << 20]).await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, line.0.read_to_end(&mut rest)).await.unwrap();
    other.say("{\"id\":1,\"method\":\"mining.ping\"}\n").await;
    assert_eq!(other.hear().await.unwrap()["result"], "pong");
}

#[tokio::test]
async fn a_browser_is_told_where_the_pool_is() {
    let port = Port::open(|_| {});
    let mut line = port.connect().await;
    line.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let text = String::from_utf8(line.closed().await).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("X-Stratum: stratum+tcp://pool.example:3333\r\n"), "{text}");
}

#[tokio::test]
async fn a_tls_hello_is_closed_and_is_no_offence() {
    let port = Port::open(|_| {});
    for _ in 0..30 {
        let mut line = port.connect().await;
        line.0.get_mut().write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        assert!(line.closed().await.is_empty());
    }
    let mut line = port.connect().await;
    line.say("{\"id\":1,\"method\":\"mining.ping\"}\n").await;
    assert!(line.hear().await.is_some());
}

#[tokio::test]
async fn nonsense_bans_the_address_in_the_end() {
    let port = Port::open(|_| {});
    let mut line = port.connect().await;
    line.say(&"nonsense\n".repeat(20)).await;
    assert!(line.hear().await.unwrap()["error"].is_array());
    line.closed().await;
    assert!(port.connect().await.closed().await.is_empty());
}

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let port = Port::open(|config| config.limits.per_address = 3);
    let mut lines = Vec::new();
    for _ in 0..3 {
        let mut line = port.connect().await;
        line.say("{\"id\":1,\"method\":\"mining.ping\"}\n").await;
        line.hear().await.unwrap();
        lines.push(line);
    }
    assert!(port.connect().await.closed().await.is_empty());
    drop(lines.pop());
    until("its place is free", || port.direct.connections() == 2).await;
    let mut line = port.connect().await;
    line.say("{\"id\":1,\"method\":\"mining.ping\"}\n").await;
    assert!(line.hear().await.is_some());
}

#[tokio::test]
async fn who_never_reads_is_dropped_and_others_are_not_delayed() {
    let port = Port::open(|config| config.limits.write_backlog = 16_384);
    port.world.publish(1, 100, HARD);
    let mut other = port.miner().await;
    let deaf = port.miner().await;
    assert_eq!(port.direct.connections(), 2);
    let ping = "{\"id\":\"a long id that is echoed again and again and again\",\"method\":\"mining.ping\"}\n"
        .repeat(100);
    let mut deaf = deaf.0.into_inner();
    let mut counter = 2;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while port.direct.connections() == 2 {
        assert!(tokio::time::Instant::now() < deadline, "it is never dropped");
        let _ = deaf.try_write(ping.as_bytes());
        port.world.publish(counter, 100, HARD);
        assert!(other.hear().await.is_some());
        counter += 1;
    }
    let _ = deaf.shutdown().await;
}

#[tokio::test]
async fn a_drain_sends_miners_away_once_they_are_answered() {
    let port = Port::open(|_| {});
    port.world.publish(1, 100, HARD);
    let mut line = port.miner().await;
    port.direct.drain();
    let reconnect = line.hear().await.unwrap();
    assert_eq!(reconnect["method"], "client.reconnect");
    assert_eq!(reconnect["params"][0], "pool.example");
    assert_eq!(reconnect["params"][1], 3333);
    assert!(line.closed().await.is_empty());
    until("nobody is left", || port.direct.connections() == 0).await;
    assert!(port.connect().await.closed().await.is_empty());
}

#[tokio::test]
async fn a_second_connection_with_the_sid_closes_the_first() {
    let port = Port::open(|_| {});
    let mut first = port.connect().await;
    first.say("{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await;
    let sid = first.hear().await.unwrap()["result"][0][0][1].as_str().unwrap().to_owned();
    let mut second = port.connect().await;
    second
        .say(&format!(
            "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"x\",\"{sid}\"]}}\n"
        ))
        .await;
    assert_eq!(second.hear().await.unwrap()["result"][0][0][1], sid);
    assert!(first.closed().await.is_empty());
}

#[tokio::test]
async fn the_task_of_an_idle_connection_is_small() {
    let port = Port::open(|_| {});
    let stream = TcpStream::connect(port.address).await.unwrap();
    let address = stream.peer_addr().unwrap();
    let place = port.world.pool.addresses.admit(address.ip()).unwrap();
    let serve = Arc::clone(&port.direct).serve(stream, address, place);
    assert!(size_of_val(&serve) < 3_072, "{} bytes", size_of_val(&serve));
}
