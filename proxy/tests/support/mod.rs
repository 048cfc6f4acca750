//! A cluster of nodes that only know the link, and miners that only know lines.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]

pub mod miner;
pub mod node;

use std::sync::Arc;
use std::time::Duration;

use seam_cluster::link::Timing;
use seam_cluster::logging::{self, Log};
use seam_proxy::Proxy;
use seam_proxy::config::Config;
use seam_proxy::dial::PlainDial;
use seam_proxy::metrics::Metrics;

pub use self::miner::Miner;
pub use self::node::{Cluster, FakeNode};

/// Longer than anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A proxy's settings for a cluster.
pub fn config(cluster: &Cluster) -> Config {
    let mut config = Config { name: "proxy-0".into(), ..Config::default() };
    config.stratum.listen = "127.0.0.1:0".into();
    config.admin.listen = String::new();
    config.cluster.seeds = cluster.nodes().iter().map(|node| node.address()).collect();
    config.moves.return_after_seconds = 0;
    config.moves.jitter_seconds = 0;
    config.moves.stop_after_seconds = 0;
    config
}

/// A proxy in front of a cluster.
pub fn proxy(config: Config) -> Proxy {
    let metrics = Arc::new(Metrics::new());
    let quiet = Log { filter: "off".into(), ..Log::default() };
    let filter = logging::start(&quiet, |_| {}).expect("a filter");
    Proxy::start_with(config, metrics, filter, Arc::new(PlainDial), None, Timing::default())
        .expect("the proxy starts")
}

/// A proxy that sees so many ready nodes.
pub async fn ready_proxy(cluster: &Cluster, count: usize) -> Proxy {
    let proxy = proxy(config(cluster));
    until("the nodes are ready", || proxy.hub().ready_nodes() == count).await;
    proxy
}

/// How often a metric counted.
pub fn metric(proxy: &Proxy, line: &str) -> f64 {
    let text = proxy.metrics();
    let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("{line} is not in\n{text}"))
}
