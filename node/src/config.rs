//! The configuration: a TOML file, `SEAM_SECTION_KEY` over it, unknown keys refused.

mod chain;

use std::path::{Path, PathBuf};

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, ScriptBuf};
use seam_cluster::logging::Log;
use seam_cluster::settings::{self, out_of_range, split_host_port};
use serde::{Deserialize, Serialize};

pub use self::chain::Chain;
use crate::fault::{Code, Fault};

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The member's name: the common name of its certificate.
    pub name: String,
    /// Where `bitcoin/`, `ledger/`, `outbox/`, `solved/` and `shares/` are.
    pub data_dir: PathBuf,
    /// Bitcoin Core.
    pub bitcoin: Bitcoin,
    /// The miners' port.
    pub stratum: Stratum,
    /// The port of peers and proxies.
    pub cluster: Cluster,
    /// The operator's port.
    pub admin: Admin,
    /// Who is paid and who may mine.
    pub pool: Pool,
    /// Share difficulty.
    pub difficulty: Difficulty,
    /// When miners get new work.
    pub jobs: Jobs,
    /// Bounds on what miners may use.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
}

impl Config {
    /// Reads `file`, lays the environment over it and checks every value. Opens nothing else.
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
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Fault> {
        let config: Self = settings::parse(text, environment)?;
        config.check()?;
        Ok(config)
    }

    /// The script that a block's reward goes to.
    pub fn payout_script(&self) -> Result<ScriptBuf, Fault> {
        let text = self.pool.address.trim();
        let chain = self.bitcoin.chain;
        if text.is_empty() {
            return Err(Fault::new(
                Code::PayoutAddress,
                format!("pool.address is not set: name the {chain} address that blocks pay to"),
            ));
        }
        let address: Address<NetworkUnchecked> = text.parse().map_err(|error| {
            let why = format!("pool.address {text:?} is no address, perhaps mistyped ({error})");
            Fault::new(Code::PayoutAddress, why)
        })?;
        address.require_network(chain.network()).map(|address| address.script_pubkey()).map_err(
            |_| {
                Fault::new(
                    Code::PayoutAddress,
                    format!("pool.address {text:?} is not an address of {chain}"),
                )
            },
        )
    }

    fn check(&self) -> Result<(), Fault> {
        self.payout_script()?;
        settings::check_name(&self.name)?;
        let d = &self.difficulty;
        let positive = [d.minimum, d.start, d.maximum].iter().all(|v| v.is_finite() && *v > 0.0);
        if !positive || d.minimum < MIN_DIFFICULTY {
            return Err(out_of_range("difficulty", "every value at least 1e-10").into());
        }
        if !(d.minimum <= d.start && d.start <= d.maximum) {
            return Err(out_of_range("difficulty", "minimum <= start <= maximum").into());
        }
        if !(d.target_seconds.is_finite() && (0.1..=600.0).contains(&d.target_seconds)) {
            return Err(out_of_range("difficulty.target_seconds", "0.1 to 600").into());
        }
        settings::check_bounds(&[
            ("stratum.extranonce2_size", self.stratum.extranonce2_size.into(), 2, 8),
            ("jobs.refresh_seconds", self.jobs.refresh_seconds, 1, MAX_SILENCE_SECONDS),
            ("jobs.fee_check_seconds", self.jobs.fee_check_seconds, 1, MAX_SILENCE_SECONDS),
            ("jobs.template_wait_ms", self.jobs.template_wait_ms, 0, 1_000),
            ("limits.connections", self.limits.connections as u64, 1, 1_000_000),
            ("limits.per_address", self.limits.per_address as u64, 1, 1_000_000),
            ("limits.write_backlog", self.limits.write_backlog as u64, 16_384, 16_777_216),
            ("limits.handshake_seconds", self.limits.handshake_seconds, 1, 3_600),
            ("limits.idle_seconds", self.limits.idle_seconds, 60, 86_400),
            ("limits.commit_wait_ms", self.limits.commit_wait_ms, 100, 60_000),
            ("limits.parked_sessions", self.limits.parked_sessions as u64, 0, 10_000_000),
            ("limits.drain_seconds", self.limits.drain_seconds, 1, 3_600),
        ])?;
        if self.pool.tag.len() > MAX_TAG {
            return Err(out_of_range("pool.tag", "at most 40 bytes").into());
        }
        settings::check_listeners([
            ("stratum.listen", &self.stratum.listen),
            ("cluster.listen", &self.cluster.listen),
            ("admin.listen", &self.admin.listen),
        ])?;
        if !self.stratum.public.is_empty() && split_host_port(&self.stratum.public).is_none() {
            return Err(out_of_range("stratum.public", "host:port, or empty").into());
        }
        Ok(())
    }

    /// Those that are read from where the file is.
    fn paths(&mut self) -> [&mut PathBuf; 7] {
        [
            &mut self.data_dir,
            &mut self.cluster.ca,
            &mut self.cluster.cert,
            &mut self.cluster.key,
            &mut self.admin.token_file,
            &mut self.pool.admin_password_file,
            &mut self.pool.users_file,
        ]
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "node-0".into(),
            data_dir: "/var/lib/seam".into(),
            bitcoin: Bitcoin::default(),
            stratum: Stratum::default(),
            cluster: Cluster::default(),
            admin: Admin::default(),
            pool: Pool::default(),
            difficulty: Difficulty::default(),
            jobs: Jobs::default(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

/// `[bitcoin]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bitcoin {
    /// Which chain is mined.
    pub chain: Chain,
    /// Any Bitcoin Core option, as on its command line: `-prune=550`.
    pub options: Vec<String>,
}

/// `[stratum]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Stratum {
    /// Where miners connect to this node directly.
    pub listen: String,
    /// `host:port` that miners know, for `client.reconnect` and `X-Stratum`.
    pub public: String,
    /// Bytes of extranonce2, 2 to 8.
    pub extranonce2_size: u8,
}

impl Default for Stratum {
    fn default() -> Self {
        Self { listen: "0.0.0.0:3333".into(), public: String::new(), extranonce2_size: 8 }
    }
}

/// `[cluster]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Where peers and proxies connect.
    pub listen: String,
    /// `host:port` under which the others reach this node.
    pub advertise: String,
    /// `host:port` of nodes to ask for membership.
    pub seeds: Vec<String>,
    /// The cluster's certificate authority, PEM.
    pub ca: PathBuf,
    /// This node's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:7333".into(),
            advertise: String::new(),
            seeds: Vec::new(),
            ca: "ca.pem".into(),
            cert: "node.pem".into(),
            key: "node.key".into(),
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// Where the admin API and the metrics are.
    pub listen: String,
    /// A file with the bearer token; empty: `SEAM_ADMIN_TOKEN`, else nothing can be changed.
    pub token_file: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9333".into(), token_file: PathBuf::new() }
    }
}

/// `[pool]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// The address that blocks pay to.
    pub address: String,
    /// What the coinbase says besides height and extranonce.
    pub tag: String,
    /// Who may mine.
    pub authorization: Authorization,
    /// A file with the password of `mining.authorize_admin`; empty: `SEAM_POOL_ADMIN_PASSWORD`.
    pub admin_password_file: PathBuf,
    /// bcoin-stratum's `users.json`, imported at start.
    pub users_file: PathBuf,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            address: String::new(),
            tag: "/seam/".into(),
            authorization: Authorization::Registered,
            admin_password_file: PathBuf::new(),
            users_file: PathBuf::new(),
        }
    }
}

/// Who may mine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authorization {
    /// Users of the ledger, with their passwords.
    Registered,
    /// Whoever names a valid address of the chain.
    Address,
    /// Whoever names a user.
    Open,
}

/// `[difficulty]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Difficulty {
    /// What a session starts with.
    pub start: f64,
    /// The least that is ever assigned.
    pub minimum: f64,
    /// The most that is ever assigned.
    pub maximum: f64,
    /// Seconds between two shares of a session that vardiff aims at.
    pub target_seconds: f64,
}

impl Default for Difficulty {
    fn default() -> Self {
        Self { start: 1.0, minimum: 0.001, maximum: 1e9, target_seconds: 10.0 }
    }
}

/// `[jobs]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Jobs {
    /// How long a new tip's full template is waited for before an empty block's job goes out.
    pub template_wait_ms: u64,
    /// Seconds after which work is sent anew although nothing changed.
    pub refresh_seconds: u64,
    /// How often fees are looked at.
    pub fee_check_seconds: u64,
    /// Satoshi of additional fees that are worth a new job.
    pub fee_threshold: u64,
    /// Seconds between two jobs that only a difficulty change asked for.
    pub difficulty_refresh_seconds: u64,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            template_wait_ms: 5,
            refresh_seconds: 30,
            fee_check_seconds: 10,
            fee_threshold: 100_000,
            difficulty_refresh_seconds: 5,
        }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Direct connections in all.
    pub connections: usize,
    /// Direct connections of one address.
    pub per_address: usize,
    /// Bytes that may wait for a client that does not read.
    pub write_backlog: usize,
    /// Seconds from connecting to being subscribed and authorized.
    pub handshake_seconds: u64,
    /// Seconds without a line from a miner after which it is dropped.
    pub idle_seconds: u64,
    /// Logins that one connection may try without success.
    pub login_attempts: u32,
    /// Milliseconds that a refused login waits for its answer.
    pub refused_login_delay_ms: u64,
    /// Score at which an address is banned.
    pub ban_score: u32,
    /// Seconds that a ban lasts.
    pub ban_seconds: u64,
    /// Milliseconds that a submit waits for a quorum before it fails.
    pub commit_wait_ms: u64,
    /// Sessions without a connection that are remembered.
    pub parked_sessions: usize,
    /// Seconds that they are remembered.
    pub parked_seconds: u64,
    /// Seconds that a drain may take.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_address: 10_000,
            write_backlog: 524_288,
            handshake_seconds: 60,
            idle_seconds: 3_600,
            login_attempts: 10,
            refused_login_delay_ms: 1_000,
            ban_score: 1_000,
            ban_seconds: 600,
            commit_wait_ms: 5_000,
            parked_sessions: 20_000,
            parked_seconds: 600,
            drain_seconds: 10,
        }
    }
}

/// The coinbase script holds 100 bytes: height, extranonces and the tag.
const MAX_TAG: usize = 40;

/// The least difficulty that the arithmetic is exact for.
const MIN_DIFFICULTY: f64 = 1e-10;

/// cgminer leaves after 90 s of silence; 55 leaves time for a lost packet or two.
const MAX_SILENCE_SECONDS: u64 = 55;

#[cfg(test)]
mod tests {
    use super::*;

    const REGTEST: &str = "name = \"a\"\n[bitcoin]\nchain = \"regtest\"\n[pool]\n\
        address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"\n";

    fn parse(text: &str) -> Result<Config, Fault> {
        Config::parse(text, [])
    }

    #[test]
    fn a_short_file_is_enough() {
        let config = parse(REGTEST).unwrap();
        assert_eq!(config.bitcoin.chain, Chain::Regtest);
        assert_eq!(config.stratum.extranonce2_size, 8);
        assert!(!config.payout_script().unwrap().is_empty());
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let fault = parse(&format!("{REGTEST}[stratum]\nlisen = \"0.0.0.0:1\"\n")).unwrap_err();
        assert_eq!(fault.code, Code::UnknownKey);
        assert!(fault.message.contains("stratum.lisen"), "{fault}");
        assert!(fault.message.contains("did you mean stratum.listen?"), "{fault}");
        let fault = parse("[strutum]\nlisten = \"\"\n").unwrap_err();
        assert!(fault.message.contains("did you mean stratum?"), "{fault}");
        let fault = parse(&format!("{REGTEST}[cluster]\ntoken_file = \"x\"\n")).unwrap_err();
        assert!(fault.message.contains("did you mean admin.token_file?"), "{fault}");
    }

    #[test]
    fn the_environment_wins() {
        let environment = [
            ("SEAM_CLUSTER_LISTEN".to_owned(), "127.0.0.1:5".to_owned()),
            ("SEAM_DIFFICULTY_START".to_owned(), "0.5".to_owned()),
            ("SEAM_BITCOIN_OPTIONS".to_owned(), "-prune=550,-debug=net".to_owned()),
            ("SEAM_NAME".to_owned(), "other".to_owned()),
        ];
        let config = Config::parse(REGTEST, environment).unwrap();
        assert_eq!(config.cluster.listen, "127.0.0.1:5");
        assert_eq!(config.difficulty.start, 0.5);
        assert_eq!(config.bitcoin.options, ["-prune=550", "-debug=net"]);
        assert_eq!(config.name, "other");
    }

    #[test]
    fn whole_numbers_are_difficulties_too() {
        let config = parse(&format!("{REGTEST}[difficulty]\nstart = 2\n")).unwrap();
        assert_eq!(config.difficulty.start, 2.0);
    }

    #[test]
    fn an_address_of_another_chain_or_with_a_typo_is_refused() {
        let mainnet = REGTEST.replace("regtest", "mainnet");
        assert_eq!(parse(&mainnet).unwrap_err().code, Code::PayoutAddress);
        let typo = REGTEST.replace("kygt080", "kygt081");
        assert_eq!(parse(&typo).unwrap_err().code, Code::PayoutAddress);
        assert_eq!(parse("name = \"a\"").unwrap_err().code, Code::PayoutAddress);
    }

    #[test]
    fn values_outside_their_limits_are_refused() {
        for (section, text) in [
            ("difficulty", "minimum = 0"),
            ("difficulty", "start = 1e-11"),
            ("difficulty", "start = 1e12"),
            ("difficulty", "target_seconds = -1"),
            ("stratum", "extranonce2_size = 9"),
            ("stratum", "listen = \"localhost\""),
            ("stratum", "public = \"pool\""),
            ("jobs", "refresh_seconds = 60"),
        ] {
            let fault = parse(&format!("{REGTEST}[{section}]\n{text}\n")).unwrap_err();
            assert_eq!(fault.code, Code::OutOfRange, "{section} {text}: {fault}");
        }
        let fault = parse(&format!("{REGTEST}[limits]\nconnections = \"many\"\n")).unwrap_err();
        assert_eq!(fault.code, Code::ConfigInvalid);
        assert!(!fault.message.contains('\n'));
    }
}
