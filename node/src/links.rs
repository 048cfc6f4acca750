//! The proxies that are linked to this node, for its operator.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::metrics::Metrics;

/// What is known of each.
#[derive(Default)]
pub struct Links {
    proxies: Mutex<BTreeMap<String, Proxy>>,
}

#[derive(Default)]
struct Proxy {
    links: usize,
    sessions: u32,
}

impl Links {
    /// A proxy's link is up.
    pub fn opened(&self, name: &str, metrics: &Metrics) {
        self.proxies.lock().entry(name.to_owned()).or_default().links += 1;
        self.tell(metrics);
    }

    /// It told how many miners are connected to it.
    pub fn told(&self, name: &str, sessions: u32) {
        if let Some(proxy) = self.proxies.lock().get_mut(name) {
            proxy.sessions = sessions;
        }
    }

    /// A link is down. What it told stays, until it comes back or is forgotten for others.
    pub fn closed(&self, name: &str, metrics: &Metrics) {
        let mut proxies = self.proxies.lock();
        if let Some(proxy) = proxies.get_mut(name) {
            proxy.links = proxy.links.saturating_sub(1);
            if proxy.links == 0 {
                proxy.sessions = 0;
            }
        }
        while proxies.len() > MAX_PROXIES {
            let gone = proxies.iter().find(|(_, proxy)| proxy.links == 0);
            let Some(name) = gone.map(|(name, _)| name.clone()) else { break };
            proxies.remove(&name);
        }
        drop(proxies);
        self.tell(metrics);
    }

    /// As the status document has them.
    #[must_use]
    pub fn document(&self) -> Vec<Value> {
        self.proxies
            .lock()
            .iter()
            .map(|(name, proxy)| {
                json!({
                    "name": name, "up": proxy.links > 0, "ready": null, "draining": null,
                    "sessions": proxy.sessions, "held": null,
                })
            })
            .collect()
    }

    fn tell(&self, metrics: &Metrics) {
        let up: usize = self.proxies.lock().values().map(|proxy| proxy.links).sum();
        metrics.links.set(up as i64);
    }
}

/// Names that are remembered; links that are up are not bounded by it.
const MAX_PROXIES: usize = 256;
