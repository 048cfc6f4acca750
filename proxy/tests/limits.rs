//! Bounds: what a miner, a balancer or a stranger may not do, and that others do not notice.

mod support;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use support::{Cluster, Miner, config, metric, proxy, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn before_one_node(
    change: impl FnOnce(&mut seam_proxy::config::Config),
) -> (Cluster, seam_proxy::Proxy) {
    let cluster = Cluster::start(1).await;
    let mut config = config(&cluster);
    change(&mut config);
    let proxy = proxy(config);
    until("ready", || proxy.hub().ready_nodes() == 1).await;
    (cluster, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_are_bounded() {
    let (_cluster, proxy) = before_one_node(|config| config.limits.per_address = 2).await;
    let address = proxy.plain().expect("listens");
    let (mut one, _two) = (Miner::working(address).await, Miner::working(address).await);
    assert!(Miner::connect(address).await.is_closed().await);
    assert_eq!(metric(&proxy, "seam_limit_hits_total{limit=\"connections_per_address\"}"), 1.0);
    one.mine(1).await;
    drop(one);
    until("there is room", || proxy.hub().session_count() == 1).await;
    Miner::working(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_without_end_is_cut_off() {
    let (_cluster, proxy) = before_one_node(|_| {}).await;
    for working in [false, true] {
        let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
        if working {
            miner.subscribe(None).await;
        }
        for _ in 0..5 {
            miner.send_bytes(&[b'x'; 4000]).await;
        }
        let line = miner.line().await.expect("is told");
        assert_eq!(line["error"][1], "line too long", "{line}");
        assert!(miner.is_closed().await);
    }
    assert_eq!(metric(&proxy, "seam_limit_hits_total{limit=\"line_length\"}"), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connection_is_closed_in_time() {
    let (_cluster, proxy) = before_one_node(|config| config.limits.handshake_seconds = 1).await;
    let mut silent = Miner::connect(proxy.plain().expect("listens")).await;
    let mut miner = Miner::working(proxy.plain().expect("listens")).await;
    assert!(silent.is_closed().await);
    assert_eq!(metric(&proxy, "seam_limit_hits_total{limit=\"handshake_time\"}"), 1.0);
    miner.mine(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn miner_that_does_not_read_is_dropped_and_its_neighbour_served() {
    let (cluster, proxy) = before_one_node(|config| config.limits.write_backlog = 65_536).await;
    let address = proxy.plain().expect("listens");
    let mut reads = Miner::working(address).await;
    let mut deaf = Miner::working(address).await;
    let line = format!("{{\"id\":null,\"method\":\"x\",\"params\":[\"{}\"]}}\n", "y".repeat(4000));
    // More than the kernel's buffers and ours.
    for nonce in 0..100 {
        cluster.nodes()[0].flood(&deaf.extranonce1, line.as_bytes(), 50);
        reads.mine(nonce).await;
    }
    until("it is dropped", || {
        metric(&proxy, "seam_proxy_sessions_closed_total{reason=\"slow_reader\"}") == 1.0
    })
    .await;
    assert_eq!(metric(&proxy, "seam_limit_hits_total{limit=\"write_backlog\"}"), 1.0);
    until("the node knows", || cluster.nodes()[0].sessions() == 1).await;
    while deaf.text().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_gets_everything_in_order() {
    let (cluster, proxy) = before_one_node(|config| config.limits.write_backlog = 8 << 20).await;
    let mut slow = Miner::working(proxy.plain().expect("listens")).await;
    slow.job().await;
    let line = format!("{{\"id\":null,\"params\":[\"{}\"]}}\n", "y".repeat(990));
    cluster.nodes()[0].flood(&slow.extranonce1, line.as_bytes(), 6_000);
    cluster.nodes()[0].job("last");
    for _ in 0..6_000 {
        assert_eq!(slow.text().await.expect("connected").len() + 1, line.len());
    }
    assert_eq!(slow.job().await[0], "last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_bound_wait_in_the_miner() {
    let (cluster, proxy) = before_one_node(|config| config.limits.session_bytes = 4096).await;
    let mut miner = Miner::working(proxy.plain().expect("listens")).await;
    let mut other = Miner::working(proxy.plain().expect("listens")).await;
    let node = &cluster.nodes()[0];
    node.mute(true);
    let lines: String = (0..5_000).map(|nonce| Miner::submit_line(4, nonce) + "\n").collect();
    let sent = tokio::spawn(async move {
        miner.send_bytes(lines.as_bytes()).await;
        miner
    });
    until("some have come", || node.owed() > 0).await;
    for _ in 0..200 {
        other.send("{\"id\":7,\"method\":\"mining.ping\"}").await;
        other.answer().await;
    }
    // The bound, and one read.
    assert!(node.owed() < 400, "{}", node.owed());
    node.mute(false);
    let mut miner = sent.await.expect("sent");
    for _ in 0..5_000 {
        assert_eq!(miner.answer().await["result"], true);
    }
    assert_eq!(cluster.counted(), 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_header_says_who_the_miner_is_where_a_balancer_may() {
    let balanced = |config: &mut seam_proxy::config::Config| {
        config.stratum.proxy_protocol_from = vec!["127.0.0.0/8".into()];
        config.limits.per_address = 1;
    };
    let (cluster, proxy) = before_one_node(balanced).await;
    let address = proxy.plain().expect("listens");
    let mut one = Miner::connect(address).await;
    one.send_bytes(b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 3333\r\n").await;
    one.subscribe(None).await;
    let opened = cluster.nodes()[0].log();
    assert!(opened.iter().any(|line| line.ends_with("peer=10.9.8.7")), "{opened:?}");
    // The same miner again, by version 2.
    let mut again = Miner::connect(address).await;
    again
        .send_bytes(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x09\x08\x07\x7f\0\0\x01\x10\0\x0d\x05")
        .await;
    assert!(again.is_closed().await);
    // Without a header.
    let mut none = Miner::connect(address).await;
    none.send("{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}").await;
    assert!(none.is_closed().await);
    assert_eq!(metric(&proxy, "seam_limit_hits_total{limit=\"proxy_header\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_header_of_a_stranger_is_no_request() {
    let (cluster, proxy) = before_one_node(|config| {
        config.stratum.proxy_protocol_from = vec!["10.0.0.0/8".into()];
    })
    .await;
    let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
    miner.send_bytes(b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 3333\r\n").await;
    let answer = miner.answer().await;
    assert_eq!(answer["result"], serde_json::Value::Null);
    assert!(cluster.nodes()[0].log()[0].ends_with("peer=127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_and_tls_on_the_plain_port_are_told_apart() {
    let (_cluster, proxy) = before_one_node(|config| {
        config.stratum.public = "pool.example.org:3333".into();
    })
    .await;
    let address = proxy.plain().expect("listens");
    let mut http = TcpStream::connect(address).await.expect("listens");
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains("X-Stratum: stratum+tcp://pool.example.org:3333"), "{answer}");
    let mut tls = Miner::connect(address).await;
    tls.send_bytes(&[0x16, 3, 1, 0, 200, 1]).await;
    assert!(tls.is_closed().await);
    assert_eq!(metric(&proxy, "seam_banned_addresses"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_miners_are_served_and_certificates_change_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(["pool.example.org".into()]).expect("made");
        std::fs::write(&chain, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        made.cert.der().clone()
    };
    let first = write();
    let (cluster, proxy) = before_one_node(|config| {
        config.stratum.listen_tls = "127.0.0.1:0".into();
        config.stratum.tls_cert = chain.clone();
        config.stratum.tls_key = key.clone();
    })
    .await;
    let connect = async |trusted: &rustls::pki_types::CertificateDer<'static>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(proxy.tls().expect("listens")).await.expect("connects");
        let name = ServerName::try_from("pool.example.org").expect("a name");
        TlsConnector::from(Arc::new(client)).connect(name, socket).await
    };
    let mut miner = Miner::over(Box::new(connect(&first).await.expect("trusted")));
    miner.subscribe(None).await;
    miner.authorize().await;
    for nonce in 0..50 {
        miner.submit(4, nonce).await;
    }
    for _ in 0..50 {
        assert_eq!(miner.answer().await["result"], true);
    }
    cluster.nodes()[0].job("2");
    while miner.job().await[0] != "2" {}
    let second = write();
    until("the new one is in use", || {
        proxy.reload_certificates();
        metric(&proxy, "seam_certificate_reloads_total{certificate=\"stratum\",result=\"loaded\"}")
            > 0.0
    })
    .await;
    assert!(connect(&first).await.is_err());
    // What rcgen makes ends in the year 4096.
    let ends = metric(&proxy, "seam_certificate_expiry_timestamp_seconds{certificate=\"stratum\"}");
    assert_eq!(ends, 67_090_118_400.0);
    assert!(connect(&second).await.is_ok());
    miner.mine(100).await;
    // Plain text on the TLS port.
    let mut plain = Miner::connect(proxy.tls().expect("listens")).await;
    plain.send("{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}").await;
    while plain.text().await.is_some() {}
}
