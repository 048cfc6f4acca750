//! Miners that do not read delay nobody else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use seam_integration::{Client, Cluster, until};
use seam_load::Report;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::mining::{Promise, Scene, sessions};

/// By how much silent miners may lengthen what others see.
const RATIO: f64 = 1.2;

/// What two runs without any silent miner differ by on two cores that do everything, and perhaps more beside. Whoever
/// waits for a miner that does not read waits for seconds.
const NOISE_MS: f64 = 25.0;

/// Seconds of each run.
const RUN: f64 = 8.0;

/// Bytes that have to wait in the proxy for each of them.
const KEPT: f64 = 8_192.0;

/// A request with an answer, whatever the state of the session.
const PING: &[u8] = b"{\"id\":9,\"method\":\"mining.ping\",\"params\":[]}\n";

#[test]
fn miners_that_do_not_read_delay_nobody() {
    // A job every second: what comes unasked has to be fanned out around them.
    let mut scene = Scene::start(&["--set", "jobs.refresh_seconds=1"]);
    let count = sessions();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        without.push(run(&mut scene, count));
        let silent = Silent::start(&scene.cluster, (count / 100).max(1) as usize);
        with.push(run(&mut scene, count));
        silent.still_there();
    }
    let best =
        |runs: &[Report]| runs.iter().map(|report| report.submit.p99).fold(f64::INFINITY, f64::min);
    let (alone, beside) = (best(&without), best(&with));
    eprintln!("p99 of answers: {alone:.1} ms alone, {beside:.1} ms beside silent miners");
    assert!(
        beside <= (alone * RATIO).max(alone + NOISE_MS),
        "p99 of answers: {alone:.1} ms alone, {beside:.1} ms beside silent miners; {without:#?} {with:#?}"
    );
    scene.cluster.stop();
}

fn run(scene: &mut Scene, count: u32) -> Report {
    let mining = scene.mine(count, |_| {});
    mining.work(RUN);
    mining.judge(scene, Promise::gap(Duration::from_secs(1)))
}

/// Miners that work, then read nothing more while the pool has more to say to them than fits into
/// the sockets' buffers.
struct Silent {
    streams: Vec<TcpStream>,
}

impl Silent {
    fn start(cluster: &Cluster, count: usize) -> Self {
        let mut streams = Vec::new();
        for index in 0..count {
            let proxy = &cluster.proxies()[index % cluster.proxies().len()];
            let mut client = Client::over(narrow(&proxy.stratum));
            client.subscribe(None);
            let login = client.call("mining.authorize", json!(["load0", "secret,d=1e-9"]));
            assert!(login.is_true(), "{login:?}");
            client.wait_work();
            streams.push(client.into_stream());
        }
        let silent = Self { streams };
        // Until the sockets are full, and the proxies keep for each what it does not take.
        let wanted = memory(cluster) + KEPT * count as f64;
        until("proxies that keep what silent miners do not read", || {
            for mut stream in &silent.streams {
                stream.write_all(&PING.repeat(16)).unwrap();
            }
            (memory(cluster) >= wanted).then_some(())
        });
        silent
    }

    /// None was dropped while the others were measured.
    fn still_there(self) {
        for mut stream in self.streams {
            stream.set_nonblocking(true).unwrap();
            let mut bytes = vec![0; 1 << 20];
            // What came before it fell silent can be read; an end would come behind it.
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => panic!("a silent miner was dropped"),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("a silent miner was dropped: {error}"),
                }
            }
        }
    }
}

/// A connection with little room in the kernel's buffers, on either side.
fn narrow(address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    // The other side's buffer is a multiple of what one packet may hold, which on loopback is 64 kB.
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// Bytes that the proxies keep for all sessions.
fn memory(cluster: &Cluster) -> f64 {
    let proxies = cluster.proxies().iter();
    proxies.map(|proxy| cluster.metric(&proxy.name, "seam_session_memory_bytes")).sum()
}
