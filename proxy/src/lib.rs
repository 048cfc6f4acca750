//! One endpoint for miners in front of a Seam cluster, and sessions that outlive their node.
//!
//! | module | idea |
//! | --- | --- |
//! | [`config`], [`fault`] | what can be set, and how a mistake in it is told |
//! | `listen`, `header`, [`certificate`] | the miners' ports, the PROXY protocol, TLS |
//! | `connection`, `wire` | one miner's socket: reads when it may, writes without waiting |
//! | `opening` | a connection's first requests, until it is known where it belongs |
//! | `session`, `unanswered` | what the proxy knows of a session, and what is not answered yet |
//! | [`hub`], `numbers`, `parked` | which session belongs where, and how it gets there |
//! | `links`, `uplink`, [`dial`] | the links to the nodes, and what nodes say |
//! | `moves`, `drain` | the pace at which sessions move; sending all miners elsewhere |
//! | [`limits`], [`metrics`], [`admin`] | bounds, counts, the operator's port |
//!
//! A miner's bytes are cut into lines and sent on unread: after the first request the proxy knows
//! only how many lines its node has not settled yet, and keeps those lines to say them again.

#![forbid(unsafe_code)]

pub mod admin;
pub mod certificate;
pub mod config;
pub mod dial;
pub mod fault;
pub mod hub;
pub mod limits;
pub mod metrics;

mod connection;
mod drain;
#[cfg(test)]
mod fuzz;
mod header;
mod links;
mod listen;
mod moves;
mod numbers;
mod opening;
mod parked;
mod session;
mod unanswered;
mod uplink;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seam_cluster::link::Timing;
use seam_cluster::logging::Filter;
use seam_cluster::tls::{Files, Tls, ends};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::certificate::Certificate;
use crate::config::Config;
use crate::dial::{Dial, TlsDial};
use crate::fault::{Code, Fault};
use crate::hub::Hub;
use crate::metrics::{Metrics, labels};

/// How often certificates are looked at.
const CERTIFICATES: Duration = Duration::from_secs(10);

/// A running proxy. Dropping it ends it at once; [`Proxy::stop`] ends it well.
#[derive(Debug)]
pub struct Proxy {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
    accepting: Vec<AbortHandle>,
    certificates: Arc<Certificates>,
    plain: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

#[derive(Debug)]
struct Certificates {
    /// What is watched and when it ends, by the name that the metrics have for it.
    files: Vec<(&'static str, PathBuf)>,
    cluster: Option<Arc<Tls>>,
    stratum: Option<Arc<Certificate>>,
    metrics: Arc<Metrics>,
}

impl Proxy {
    /// Opens the ports and starts to look for nodes. Must be called within a runtime.
    ///
    /// # Errors
    /// [`Fault`] if a certificate, secret or address cannot be used.
    pub fn start(config: Config, metrics: Arc<Metrics>, filter: Filter) -> Result<Self, Fault> {
        let files = Files {
            ca: config.cluster.ca.clone(),
            cert: config.cluster.cert.clone(),
            key: config.cluster.key.clone(),
        };
        let tls =
            Tls::load(files).map_err(|error| Fault::new(Code::Certificate, error.to_string()))?;
        let tls = Arc::new(tls);
        let dial = Arc::new(TlsDial::new(Arc::clone(&tls), Arc::clone(&metrics)));
        Self::start_with(config, metrics, filter, dial, Some(tls), Timing::default())
    }

    /// As [`Proxy::start`], reaching the nodes in a way of the caller's.
    ///
    /// # Errors
    /// [`Fault`] if a certificate, secret or address cannot be used.
    pub fn start_with(
        config: Config,
        metrics: Arc<Metrics>,
        filter: Filter,
        dial: Arc<dyn Dial>,
        cluster: Option<Arc<Tls>>,
        timing: Timing,
    ) -> Result<Self, Fault> {
        let token = admin::token(&config.admin)?;
        let stratum = match config.stratum.listen_tls.is_empty() {
            true => None,
            false => {
                let (chain, key) = (&config.stratum.tls_cert, &config.stratum.tls_key);
                Some(Arc::new(Certificate::load(chain, key)?))
            }
        };
        let open = |key: &str, address: &str| {
            (!address.is_empty()).then(|| listen::bind(key, address)).transpose()
        };
        let plain = open("stratum.listen", &config.stratum.listen)?;
        let secure = open("stratum.listen_tls", &config.stratum.listen_tls)?;
        let operator = open("admin.listen", &config.admin.listen)?;
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().and_then(|listener| listener.local_addr().ok())
        };
        let certificates = Arc::new(Certificates {
            files: vec![
                ("ca", config.cluster.ca.clone()),
                ("cluster", config.cluster.cert.clone()),
                ("stratum", config.stratum.tls_cert.clone()),
            ],
            cluster,
            stratum: stratum.clone(),
            metrics: Arc::clone(&metrics),
        });
        let mut proxy = Self {
            plain: address(&plain),
            tls: address(&secure),
            admin: address(&operator),
            hub: Hub::new(config, metrics),
            tasks: JoinSet::new(),
            accepting: Vec::new(),
            certificates: Arc::clone(&certificates),
        };
        let hub = &proxy.hub;
        proxy.tasks.spawn(links::keep(Arc::clone(hub), dial, timing));
        proxy.tasks.spawn(moves::run(Arc::clone(hub)));
        proxy.tasks.spawn(async move {
            loop {
                certificates.reload();
                tokio::time::sleep(CERTIFICATES).await;
            }
        });
        if let Some(listener) = operator {
            proxy.tasks.spawn(admin::serve(Arc::clone(hub), listener, token, filter));
        }
        for (listener, certificate) in [(plain, None), (secure, stratum)] {
            if let Some(listener) = listener {
                let accept = listen::accept(Arc::clone(hub), listener, certificate);
                proxy.accepting.push(proxy.tasks.spawn(accept));
            }
        }
        Ok(proxy)
    }

    /// Where miners connect.
    pub fn plain(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// Where miners connect with TLS.
    pub fn tls(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// Where the admin API is.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What `/metrics` answers.
    pub fn metrics(&self) -> String {
        self.hub.metrics.render()
    }

    /// What its parts share.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Looks whether certificates have changed, now.
    pub fn reload_certificates(&self) {
        self.certificates.reload();
    }

    /// Resolves when a part of the proxy failed, which none should.
    pub async fn failed(&mut self) -> Fault {
        let what = match self.tasks.join_next().await {
            Some(Err(error)) => error.to_string(),
            _ => "a task ended".to_owned(),
        };
        Fault::new(Code::Panicked, what)
    }

    /// Stops well: takes no more miners, waits a while, then sends the others to the public
    /// endpoint, spread over the configured jitter.
    pub async fn stop(mut self) {
        for task in self.accepting.drain(..) {
            task.abort();
        }
        self.hub.start_drain();
        drain::run(Arc::clone(&self.hub)).await;
    }
}

/// Allows as many open files as the hard limit does, if `connections` miners need them.
///
/// # Errors
/// [`Fault`] if the hard limit is too low for them.
pub fn raise_file_limit(connections: u64) -> Result<(), Fault> {
    let wanted = connections + SPARE_FILES;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = rustix::process::Rlimit { current: Some(current), maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)
        .map_err(|error| Fault::new(Code::OutOfRange, format!("open files: {error}")))?;
    if current < wanted {
        let message = format!("only {current} files may be open, {wanted} are wanted");
        return Err(Fault::new(Code::OutOfRange, message));
    }
    Ok(())
}

/// Open files besides miners: links, listeners, admin requests, the log.
const SPARE_FILES: u64 = 256;

impl Certificates {
    fn reload(&self) {
        if let Some(tls) = &self.cluster {
            self.say("cluster", tls.reload_if_changed().map_err(|error| error.to_string()));
        }
        if let Some(certificate) = &self.stratum {
            self.say("stratum", certificate.reload_if_changed().map_err(|error| error.to_string()));
        }
        for (name, file) in &self.files {
            // A file that cannot be read is told of above; the old certificate stays in use.
            if let Some(end) = ends(file) {
                let gauge = &self.metrics.certificate_expiry;
                gauge.get_or_create(&labels([("certificate", name)])).set(end);
            }
        }
    }

    fn say(&self, certificate: &'static str, result: Result<bool, String>) {
        let result = match result {
            Ok(false) => return,
            Ok(true) => {
                tracing::info!(certificate, "certificate read again");
                "loaded"
            }
            Err(error) => {
                tracing::error!(certificate, error, "the new certificate cannot be used");
                "failed"
            }
        };
        let labels = labels([("certificate", certificate), ("result", result)]);
        self.metrics.certificate_reloads.get_or_create(&labels).inc();
    }
}
