//! What a local cluster is made of: names, ports, secrets, and where they are kept, so that a second run with
//! the same directory goes on where the first ended.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::certs::{self, Role};
use crate::cli::{DevChain, DevUpOptions};
use crate::failure::Failure;
use crate::private_file;

/// Where ports are taken from: below what the kernel gives to outgoing connections, so that none of those
/// sits on a port between our choice and its use.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Days that development certificates are valid.
const CERTIFICATE_DAYS: u64 = 365;

/// A local cluster on disk.
pub(super) struct Layout {
    dir: PathBuf,
    /// `regtest` or `devnet`.
    pub(super) chain: String,
    /// Whether `cluster init` was done.
    pub(super) formed: bool,
    pub(super) nodes: Vec<NodePorts>,
    pub(super) proxies: Vec<ProxyPorts>,
    pub(super) admin_token: String,
    pub(super) admin_password: String,
    /// Holds the ports against other local clusters.
    _claims: Vec<UdpSocket>,
}

/// A node's name and ports, all on loopback.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct NodePorts {
    pub(super) name: String,
    stratum: u16,
    cluster: u16,
    admin: u16,
    p2p: u16,
    /// Bitcoin Core's RPC, listened on with `--rpc` only.
    pub(super) rpc: u16,
}

/// A proxy's name and ports, all on loopback.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ProxyPorts {
    pub(super) name: String,
    stratum: u16,
    stratum_tls: u16,
    admin: u16,
}

/// `dev.json`.
#[derive(Default, Deserialize, Serialize)]
struct Saved {
    chain: String,
    formed: bool,
    nodes: Vec<NodePorts>,
    proxies: Vec<ProxyPorts>,
}

impl Layout {
    /// Takes up what is in `dir`, and adds what is missing.
    pub(super) fn prepare(dir: &Path, options: &DevUpOptions) -> Result<Self, Failure> {
        let chain = match options.chain {
            DevChain::Regtest => "regtest",
            DevChain::Devnet => "devnet",
        };
        let saved = read_saved(dir)?;
        if !saved.chain.is_empty() && saved.chain != chain {
            return Err(Failure::Usage(format!(
                "{} holds a {} cluster",
                dir.display(),
                saved.chain
            )));
        }
        let (wanted_nodes, wanted_proxies) =
            (usize::from(options.nodes), usize::from(options.proxies));
        let mut ports = Ports::claim(&saved)?;
        let (mut nodes, mut proxies) = (saved.nodes, saved.proxies);
        if nodes.len() > wanted_nodes && saved.formed {
            return Err(Failure::Usage(format!(
                "{} holds a cluster of {} nodes: remove members first",
                dir.display(),
                nodes.len()
            )));
        }
        nodes.truncate(wanted_nodes);
        for number in nodes.len()..wanted_nodes {
            nodes.push(NodePorts {
                name: format!("node-{number}"),
                stratum: ports.next()?,
                cluster: ports.next()?,
                admin: ports.next()?,
                p2p: ports.next()?,
                rpc: ports.next()?,
            });
        }
        // Proxies hold no state: as many as are wanted this time.
        proxies.truncate(wanted_proxies);
        for number in proxies.len()..wanted_proxies {
            proxies.push(ProxyPorts {
                name: format!("proxy-{number}"),
                stratum: ports.next()?,
                stratum_tls: ports.next()?,
                admin: ports.next()?,
            });
        }
        let layout = Self {
            dir: dir.to_owned(),
            chain: chain.to_owned(),
            formed: saved.formed,
            nodes,
            proxies,
            admin_token: secret(&dir.join("admin.token"))?,
            admin_password: secret(&dir.join("admin.password"))?,
            _claims: ports.claims,
        };
        layout.certificates()?;
        layout.save()?;
        Ok(layout)
    }

    /// Remembers names and ports.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let saved = Saved {
            chain: self.chain.clone(),
            formed: self.formed,
            nodes: self.nodes.clone(),
            proxies: self.proxies.clone(),
        };
        let text = serde_json::to_vec_pretty(&saved)
            .map_err(|error| Failure::Refused(format!("dev.json: {error}")))?;
        write(&self.dir.join("dev.json"), &text)
    }

    /// The cluster's CA certificate.
    pub(super) fn ca(&self) -> PathBuf {
        self.certs_dir().join("ca.pem")
    }

    /// A member's certificate and key.
    pub(super) fn certificate_of(&self, name: &str) -> (PathBuf, PathBuf) {
        let dir = self.certs_dir();
        (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")))
    }

    /// Where a member's files are.
    pub(super) fn member_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A node's `data_dir`.
    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.member_dir(name).join("data")
    }

    /// A member's configuration file.
    pub(super) fn config_of(&self, name: &str) -> PathBuf {
        self.member_dir(name).join("config.toml")
    }

    /// The file with the admin token.
    pub(super) fn token_file(&self) -> PathBuf {
        self.dir.join("admin.token")
    }

    /// The file with the password for `mining.authorize_admin`.
    pub(super) fn password_file(&self) -> PathBuf {
        self.dir.join("admin.password")
    }

    /// Names of the nodes.
    pub(super) fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// Names of the proxies.
    pub(super) fn proxy_names(&self) -> Vec<String> {
        self.proxies.iter().map(|proxy| proxy.name.clone()).collect()
    }

    fn certs_dir(&self) -> PathBuf {
        self.dir.join("certs")
    }

    fn certificates(&self) -> Result<(), Failure> {
        let dir = self.certs_dir();
        if !dir.join("ca.pem").exists() {
            certs::create_ca(&dir)?;
        }
        let hosts = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        let nodes = self.node_names().into_iter().map(|name| (Role::Node, name));
        let proxies = self.proxy_names().into_iter().map(|name| (Role::Proxy, name));
        for (role, name) in nodes.chain(proxies) {
            let (cert, key) = self.certificate_of(&name);
            if !cert.exists() || !key.exists() {
                certs::create_member(role, &name, &hosts, CERTIFICATE_DAYS, &dir, &dir)?;
            }
            fs::create_dir_all(self.member_dir(&name))
                .map_err(|error| Failure::Usage(format!("{}: {error}", self.dir.display())))?;
        }
        Ok(())
    }
}

impl NodePorts {
    /// Where miners connect.
    pub(super) fn stratum(&self) -> String {
        on_loopback(self.stratum)
    }

    /// Where peers and proxies connect.
    pub(super) fn cluster(&self) -> String {
        on_loopback(self.cluster)
    }

    /// Admin HTTP.
    pub(super) fn admin(&self) -> String {
        on_loopback(self.admin)
    }

    /// Bitcoin P2P.
    pub(super) fn p2p(&self) -> String {
        on_loopback(self.p2p)
    }
}

impl ProxyPorts {
    /// Where miners connect.
    pub(super) fn stratum(&self) -> String {
        on_loopback(self.stratum)
    }

    /// Where miners connect over TLS.
    pub(super) fn stratum_tls(&self) -> String {
        on_loopback(self.stratum_tls)
    }

    /// Admin HTTP.
    pub(super) fn admin(&self) -> String {
        on_loopback(self.admin)
    }
}

/// Chooses ports that nobody listens on and no other local cluster has chosen. The second is what
/// the UDP sockets are for: Seam speaks only TCP, so the UDP port of the same number is a claim that
/// the kernel gives to one process and takes back when it ends, however it ends.
struct Ports {
    claims: Vec<UdpSocket>,
    taken: HashSet<u16>,
}

impl Ports {
    /// Claims the ports of an earlier run.
    fn claim(saved: &Saved) -> Result<Self, Failure> {
        let mut ports = Self { claims: Vec::new(), taken: HashSet::new() };
        let nodes = saved.nodes.iter().flat_map(|n| [n.stratum, n.cluster, n.admin, n.p2p, n.rpc]);
        let proxies = saved.proxies.iter().flat_map(|p| [p.stratum, p.stratum_tls, p.admin]);
        for port in nodes.chain(proxies) {
            let socket = try_claim(port).ok_or_else(|| {
                Failure::Refused(format!(
                    "port {port} of the earlier run is in use: is it running?"
                ))
            })?;
            ports.claims.push(socket);
            ports.taken.insert(port);
        }
        Ok(ports)
    }

    fn next(&mut self) -> Result<u16, Failure> {
        let span = PORTS.end - PORTS.start;
        let start = getrandom::u32()
            .map_err(|error| Failure::Refused(format!("no randomness: {error}")))?
            % u32::from(span);
        for step in 0..span {
            let port = PORTS.start + ((start + u32::from(step)) % u32::from(span)) as u16;
            if self.taken.contains(&port) {
                continue;
            }
            if let Some(socket) = try_claim(port) {
                self.claims.push(socket);
                self.taken.insert(port);
                return Ok(port);
            }
        }
        Err(Failure::Refused("no free port on loopback".to_owned()))
    }
}

fn try_claim(port: u16) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    Some(socket)
}

fn on_loopback(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

fn read_saved(dir: &Path) -> Result<Saved, Failure> {
    let path = dir.join("dev.json");
    if !path.exists() {
        return Ok(Saved::default());
    }
    let unusable = |error: String| Failure::Usage(format!("{}: {error}", path.display()));
    let text = fs::read(&path).map_err(|error| unusable(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))
}

/// The secret in `path`, made up the first time.
fn secret(path: &Path) -> Result<String, Failure> {
    if let Ok(text) = fs::read_to_string(path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Refused(format!("no randomness: {error}")))?;
    let secret = hex::encode(random);
    write(path, format!("{secret}\n").as_bytes())?;
    Ok(secret)
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    private_file::write(path, content)
        .map_err(|error| Failure::Usage(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: DevUpOptions,
    }

    fn options(dir: &Path, more: &[&str]) -> DevUpOptions {
        let dir = dir.to_str().unwrap();
        Line::parse_from(["up", "--dir", dir].iter().chain(more)).options
    }

    #[test]
    fn second_run_has_the_same_ports_and_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = options(dir.path(), &["--nodes", "2", "--proxies", "1"]);
        let first = Layout::prepare(dir.path(), &wanted).unwrap();
        let (nodes, token) = (format!("{:?}", first.nodes), first.admin_token.clone());
        drop(first);
        let second = Layout::prepare(dir.path(), &wanted).unwrap();
        assert_eq!((format!("{:?}", second.nodes), second.admin_token), (nodes, token));
    }

    #[test]
    fn two_clusters_never_share_a_port() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let layouts = dirs
            .each_ref()
            .map(|d| Layout::prepare(d.path(), &options(d.path(), &["--nodes", "8"])).unwrap());
        let ports: Vec<u16> = layouts
            .iter()
            .flat_map(|layout| &layout.nodes)
            .flat_map(|n| [n.stratum, n.cluster, n.admin, n.p2p, n.rpc])
            .collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 80);
    }

    #[test]
    fn directory_of_a_running_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = options(dir.path(), &[]);
        let _running = Layout::prepare(dir.path(), &wanted).unwrap();
        assert!(matches!(Layout::prepare(dir.path(), &wanted), Err(Failure::Refused(_))));
    }

    #[test]
    fn directory_of_another_chain_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Layout::prepare(dir.path(), &options(dir.path(), &[])).unwrap());
        let other = options(dir.path(), &["--chain", "devnet"]);
        assert!(matches!(Layout::prepare(dir.path(), &other), Err(Failure::Usage(_))));
    }
}
