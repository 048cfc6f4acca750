//! The configuration: a TOML file, `SEAM_SECTION_KEY` over it, every bound a key.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use seam_cluster::logging::Log;
use seam_cluster::settings::{self, SettingsError, out_of_range, split_host_port};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The proxy's name: the common name of its certificate.
    pub name: String,
    /// The miners' ports.
    pub stratum: Stratum,
    /// Where the nodes are.
    pub cluster: Cluster,
    /// The operator's port.
    pub admin: Admin,
    /// Bounds on what miners may use.
    pub limits: Limits,
    /// The pace at which sessions move, and how long they wait.
    pub moves: Moves,
    /// Logging.
    pub log: Log,
}

/// `[stratum]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Stratum {
    /// Where miners connect; empty for nowhere.
    pub listen: String,
    /// Where miners connect with TLS; empty for nowhere.
    pub listen_tls: String,
    /// The TLS listener's certificate chain, PEM.
    pub tls_cert: PathBuf,
    /// Its private key, PEM.
    pub tls_key: PathBuf,
    /// `host:port` that miners know, for `client.reconnect` and `X-Stratum`.
    pub public: String,
    /// Networks (`10.0.0.0/8`) of load balancers. Their connections begin with a PROXY header,
    /// version 1 or 2; nobody else's may.
    pub proxy_protocol_from: Vec<String>,
    /// Bits that miners may roll, in hexadecimal.
    pub version_mask: String,
}

/// `[cluster]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// `host:port` of nodes to ask for membership.
    pub seeds: Vec<String>,
    /// The cluster's certificate authority, PEM.
    pub ca: PathBuf,
    /// This proxy's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// `[admin]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// Where the admin API and the metrics are; empty for nowhere.
    pub listen: String,
    /// A file with the bearer token; empty: `SEAM_ADMIN_TOKEN`, else nothing can be changed.
    pub token_file: PathBuf,
}

/// `[limits]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Miner connections in all.
    pub connections: usize,
    /// Miner connections of one address.
    pub per_address: usize,
    /// Seconds from connecting to the first stratum request, TLS and PROXY header included.
    pub handshake_seconds: u64,
    /// Bytes of a line.
    pub line_length: usize,
    /// Bytes that may wait for a miner that does not read.
    pub write_backlog: usize,
    /// Seconds that bytes may wait for a miner that does not read.
    pub write_seconds: u64,
    /// Bytes of requests that wait for their answer; beyond them the miner is not read.
    pub session_bytes: usize,
    /// Sessions without connection whose ticket is kept, for a miner that comes back.
    pub parked_sessions: usize,
    /// Seconds for which it is.
    pub parked_seconds: u64,
    /// Score at which an address is banned.
    pub ban_score: u32,
    /// Seconds that a ban lasts.
    pub ban_seconds: u64,
}

/// `[moves]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Moves {
    /// Sessions a second that leave a draining node.
    pub drain_rate: u32,
    /// Sessions a second that go home to a node that came back.
    pub return_rate: u32,
    /// Seconds that a node has to be ready before sessions go home to it.
    pub return_after_seconds: u64,
    /// Milliseconds that a move waits for outstanding answers before it takes the requests along.
    pub settle_ms: u64,
    /// Milliseconds that a linked node may be not ready before its sessions leave. Longer than an
    /// election: all nodes are without a leader then, and who hears of the new one last has lost
    /// nothing.
    pub not_ready_ms: u64,
    /// Seconds that miners are held while no node is ready.
    pub hold_seconds: u64,
    /// Seconds that a stopping proxy goes on for after it stopped accepting.
    pub stop_after_seconds: u64,
    /// Seconds over which miners are spread when they are told to reconnect or are closed.
    pub jitter_seconds: u64,
}

impl Config {
    /// Reads `file`, lays the environment over it and checks every value. Opens nothing else.
    ///
    /// # Errors
    /// [`Fault`] with the key that is wrong.
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Fault> {
        let text = settings::read(file)?;
        let mut config = Self::parse(&text, environment).map_err(|fault| fault.within(file))?;
        settings::resolve(file, config.paths());
        Ok(config)
    }

    /// As [`Config::load`], from the text of the file; paths stay as written.
    ///
    /// # Errors
    /// [`Fault`] with the key that is wrong.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Fault> {
        let config: Self = settings::parse(text, environment)?;
        config.check()?;
        Ok(config)
    }

    /// `stratum.public`, taken apart.
    pub fn public(&self) -> Option<(&str, u16)> {
        split_host_port(&self.stratum.public)
    }

    /// `stratum.version_mask` as a number.
    pub fn version_mask(&self) -> Option<u32> {
        u32::from_str_radix(self.stratum.version_mask.trim_start_matches("0x"), 16).ok()
    }

    /// `stratum.proxy_protocol_from`, taken apart.
    pub fn balancers(&self) -> Vec<Network> {
        self.stratum.proxy_protocol_from.iter().filter_map(|text| Network::parse(text)).collect()
    }

    fn check(&self) -> Result<(), SettingsError> {
        settings::check_name(&self.name)?;
        let l = &self.limits;
        let m = &self.moves;
        settings::check_bounds(&[
            ("limits.connections", l.connections as u64, 1, 1_000_000),
            ("limits.per_address", l.per_address as u64, 1, 1_000_000),
            ("limits.handshake_seconds", l.handshake_seconds, 1, 3_600),
            ("limits.line_length", l.line_length as u64, 1_024, 16_384),
            ("limits.write_backlog", l.write_backlog as u64, 16_384, 16_777_216),
            ("limits.write_seconds", l.write_seconds, 1, 3_600),
            ("limits.session_bytes", l.session_bytes as u64, 1_024, 524_288),
            ("limits.parked_sessions", l.parked_sessions as u64, 0, 1_000_000),
            ("limits.parked_seconds", l.parked_seconds, 1, 86_400),
            ("limits.ban_score", l.ban_score.into(), 1, 1_000_000),
            ("limits.ban_seconds", l.ban_seconds, 1, 86_400),
            ("moves.drain_rate", m.drain_rate.into(), 1, 100_000),
            ("moves.return_rate", m.return_rate.into(), 1, 100_000),
            ("moves.return_after_seconds", m.return_after_seconds, 0, 3_600),
            ("moves.settle_ms", m.settle_ms, 10, 60_000),
            ("moves.not_ready_ms", m.not_ready_ms, 0, 60_000),
            ("moves.hold_seconds", m.hold_seconds, 1, 3_600),
            ("moves.stop_after_seconds", m.stop_after_seconds, 0, 3_600),
            ("moves.jitter_seconds", m.jitter_seconds, 0, 3_600),
        ])?;
        let listeners = [
            ("stratum.listen", &self.stratum.listen),
            ("stratum.listen_tls", &self.stratum.listen_tls),
            ("admin.listen", &self.admin.listen),
        ];
        settings::check_listeners(listeners.into_iter().filter(|(_, value)| !value.is_empty()))?;
        if self.stratum.listen.is_empty() && self.stratum.listen_tls.is_empty() {
            return Err(out_of_range("stratum.listen", "this or stratum.listen_tls has to be set"));
        }
        if !self.stratum.listen_tls.is_empty()
            && (self.stratum.tls_cert.as_os_str().is_empty()
                || self.stratum.tls_key.as_os_str().is_empty())
        {
            return Err(out_of_range(
                "stratum.tls_cert",
                "stratum.listen_tls needs it and tls_key",
            ));
        }
        if !self.stratum.public.is_empty() && self.public().is_none() {
            return Err(out_of_range("stratum.public", "host:port, or empty"));
        }
        if self.version_mask().is_none() {
            return Err(out_of_range("stratum.version_mask", "hexadecimal, as \"1fffe000\""));
        }
        for text in &self.stratum.proxy_protocol_from {
            if Network::parse(text).is_none() {
                return Err(out_of_range("stratum.proxy_protocol_from", "networks, as 10.0.0.0/8"));
            }
        }
        if self.cluster.seeds.is_empty() {
            return Err(out_of_range("cluster.seeds", "at least one host:port"));
        }
        for seed in &self.cluster.seeds {
            if split_host_port(seed).is_none() {
                return Err(out_of_range("cluster.seeds", "host:port each"));
            }
        }
        Ok(())
    }

    /// Those that are read from where the file is.
    fn paths(&mut self) -> [&mut PathBuf; 6] {
        [
            &mut self.stratum.tls_cert,
            &mut self.stratum.tls_key,
            &mut self.cluster.ca,
            &mut self.cluster.cert,
            &mut self.cluster.key,
            &mut self.admin.token_file,
        ]
    }
}

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { base, bits })
    }

    /// Whether `address` is one of them. An IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let same = base.to_bits() ^ address.to_bits();
                same.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let same = base.to_bits() ^ address.to_bits();
                same.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "proxy-0".into(),
            stratum: Stratum::default(),
            cluster: Cluster::default(),
            admin: Admin::default(),
            limits: Limits::default(),
            moves: Moves::default(),
            log: Log::default(),
        }
    }
}

impl Default for Stratum {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:3333".into(),
            listen_tls: String::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            public: String::new(),
            proxy_protocol_from: Vec::new(),
            version_mask: "1fffe000".into(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            ca: "ca.pem".into(),
            cert: "proxy.pem".into(),
            key: "proxy.key".into(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9334".into(), token_file: PathBuf::new() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            per_address: 20_000,
            handshake_seconds: 60,
            line_length: 16_384,
            write_backlog: 131_072,
            write_seconds: 60,
            session_bytes: 65_536,
            parked_sessions: 20_000,
            parked_seconds: 600,
            ban_score: 1_000,
            ban_seconds: 600,
        }
    }
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            drain_rate: 1_000,
            return_rate: 200,
            return_after_seconds: 3,
            settle_ms: 2_000,
            not_ready_ms: 2_500,
            hold_seconds: 60,
            stop_after_seconds: 2,
            jitter_seconds: 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;

    const SHORT: &str = "name = \"p\"\n[cluster]\nseeds = [\"node-0:7333\"]\n";

    #[test]
    fn short_file_is_enough() {
        let config = Config::parse(SHORT, []).unwrap();
        assert_eq!(config.stratum.listen, "0.0.0.0:3333");
        assert_eq!(config.version_mask(), Some(0x1fff_e000));
    }

    #[test]
    fn mistakes_name_their_key() {
        for (text, code, part) in [
            ("[stratum]\nlistn = \"\"", Code::UnknownKey, "did you mean stratum.listen?"),
            ("[stratum]\nlisten = \"here\"", Code::OutOfRange, "stratum.listen"),
            ("[stratum]\nlisten_tls = \"0.0.0.0:1\"", Code::OutOfRange, "stratum.tls_cert"),
            ("[stratum]\nproxy_protocol_from = [\"10/8\"]", Code::OutOfRange, "proxy_protocol"),
            ("[limits]\nline_length = 1", Code::OutOfRange, "limits.line_length"),
            ("[limits]\nconnections = \"x\"", Code::ConfigInvalid, "connections"),
        ] {
            let fault = Config::parse(&format!("{SHORT}{text}\n"), []).unwrap_err();
            assert_eq!(fault.code, code, "{fault}");
            assert!(fault.message.contains(part), "{fault}");
        }
        let fault = Config::parse("name = \"p\"", []).unwrap_err();
        assert!(fault.message.contains("cluster.seeds"), "{fault}");
    }

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.1.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.255.1.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "11.0.0.1"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "::1"));
        assert!(contains("fd00::/8", "fdff::1"));
        assert!(contains("127.0.0.1", "127.0.0.1"));
        assert!(!contains("127.0.0.1", "127.0.0.2"));
        assert_eq!(Network::parse("10.0.0.0/33"), None);
    }
}
