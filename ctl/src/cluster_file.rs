//! `cluster.json`: where a local cluster's parts are. `dev up` writes it, every command reads it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::private_file;

/// A running local cluster. Addresses are `host:port`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ClusterFile {
    /// `regtest` or `devnet`.
    pub(crate) chain: String,
    /// Path of the cluster CA's certificate (PEM); proxies' TLS certificates are signed by it, too.
    pub(crate) ca: PathBuf,
    /// The bearer token of every admin port.
    pub(crate) admin_token: String,
    /// What `mining.authorize_admin` takes.
    pub(crate) admin_password: String,
    /// The nodes, in the order of their names' numbers.
    pub(crate) nodes: Vec<NodeEntry>,
    /// The proxies, likewise.
    pub(crate) proxies: Vec<ProxyEntry>,
}

/// A node of a local cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct NodeEntry {
    /// Member name, as in its certificate.
    pub(crate) name: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Where miners connect.
    pub(crate) stratum: String,
    /// Where peers and proxies connect.
    pub(crate) cluster: String,
    /// Admin HTTP.
    pub(crate) admin: String,
    /// Bitcoin P2P.
    pub(crate) p2p: String,
    /// Its `data_dir`.
    pub(crate) data_dir: PathBuf,
}

/// A proxy of a local cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ProxyEntry {
    /// Name, as in its certificate.
    pub(crate) name: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Where miners connect.
    pub(crate) stratum: String,
    /// Where miners connect over TLS.
    pub(crate) stratum_tls: String,
    /// Admin HTTP.
    pub(crate) admin: String,
}

impl ClusterFile {
    /// Reads the file that `--cluster` names.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read(path)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
        serde_json::from_slice(&text).map_err(|error| {
            Failure::Usage(format!("{} is not a cluster file: {error}", path.display()))
        })
    }

    /// Writes it so that a reader sees all of it or none, and only its owner may read (it holds secrets).
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::Refused(format!("cluster file: {error}")))?;
        text.push(b'\n');
        private_file::write(path, &text)
            .map_err(|error| Failure::Refused(format!("cannot write {}: {error}", path.display())))
    }
}
