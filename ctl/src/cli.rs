//! What can be typed: commands, options, and the help that explains them.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin::Admin;
use crate::cluster_file::ClusterFile;
use crate::failure::{EXIT_CODES, Failure};
use crate::mine::MineOptions;

/// Operate a Seam cluster: a Bitcoin mining pool that loses no share.
#[derive(Debug, Parser)]
#[command(name = "seamctl", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print JSON on standard output
    #[arg(long, global = true, help_heading = "Which cluster, and how it is told")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster a command talks to.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which cluster, and how it is told")]
pub(crate) struct Target {
    /// A local cluster's file, as `seamctl dev up` writes it (DIR/cluster.json)
    #[arg(long, global = true, value_name = "FILE", env = "SEAM_CLUSTER_FILE")]
    cluster: Option<PathBuf>,
    /// Admin address of a node or proxy; several, separated by commas, are tried in turn
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        env = "SEAM_ADMIN",
        conflicts_with = "cluster"
    )]
    admin: Vec<String>,
    /// File with the admin bearer token, needed for whatever changes or reveals something
    #[arg(long, global = true, value_name = "FILE", env = "SEAM_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Target {
    /// The admin addresses and the token that the options name.
    pub(crate) fn connect(&self) -> Result<Admin, Failure> {
        let given = self.token_file.as_deref().map(read_secret).transpose()?;
        if let Some(path) = &self.cluster {
            let file = ClusterFile::read(path)?;
            let token = given.unwrap_or_else(|| file.admin_token.clone());
            return Ok(Admin::of_cluster(&file, token));
        }
        if self.admin.is_empty() {
            return Err(Failure::Usage(
                "which cluster? Give --cluster FILE, or --admin HOST:PORT and --token-file FILE"
                    .to_owned(),
            ));
        }
        Ok(Admin::of_addresses(&self.admin, given))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A local cluster for development
    #[command(subcommand)]
    Dev(DevCommand),
    /// How the cluster is: leader, quorum, nodes, proxies
    Status,
    /// Form a cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// The nodes that are members
    #[command(subcommand)]
    Member(MemberCommand),
    /// Hand over a node's or proxy's sessions and wait until it has none
    Drain(DrainOptions),
    /// Let a drained node or proxy take sessions again
    Undrain(UndrainOptions),
    /// The pool's users
    #[command(subcommand)]
    User(UserCommand),
    /// Blocks that the pool found
    Blocks,
    /// Shares and work per user, of the current round and past ones
    Rounds(RoundsOptions),
    /// What each user gets for a block
    Payouts(PayoutsOptions),
    /// Save the ledger to a file
    Backup(BackupOptions),
    /// Form a new cluster from a backup
    Restore(RestoreOptions),
    /// Certificates for members
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Mine with this machine's processor
    Mine(MineOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// Start nodes and proxies on loopback, and run until interrupted
    ///
    /// Writes DIR/cluster.json once all are ready. Started again with the same DIR, the cluster
    /// goes on where it was.
    Up(DevUpOptions),
}

/// Options of `dev up`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevUpOptions {
    /// How many nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) nodes: u16,
    /// How many proxies
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=32))]
    pub(crate) proxies: u16,
    /// Where everything of the cluster goes
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// regtest: every second hash is a block. devnet: a block takes about 4.8 million hashes
    #[arg(long, value_enum, default_value_t = DevChain::Regtest)]
    pub(crate) chain: DevChain,
    /// Start again what dies
    #[arg(long)]
    pub(crate) respawn: bool,
    /// Who may mine
    #[arg(long, value_enum, default_value_t = Authorization::Registered)]
    pub(crate) authorization: Authorization,
    /// Payout address; by default one that anyone may spend from (OP_TRUE)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Difficulty that sessions start with
    #[arg(long, value_name = "DIFFICULTY", default_value_t = 1e-4)]
    pub(crate) start_difficulty: f64,
    /// Seconds per share that difficulty aims at
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) target_seconds: u32,
    /// Bitcoin Core option for every node, such as --core-option=-debug=net; repeatable
    #[arg(long = "core-option", value_name = "OPTION", allow_hyphen_values = true)]
    pub(crate) core_options: Vec<String>,
    /// Serve Bitcoin Core's RPC, too (cookie authentication; ports are in DIR/dev.json)
    #[arg(long)]
    pub(crate) rpc: bool,
    /// Setting for every node as in its configuration file, such as --set pool.tag='"/x/"'; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Setting for every proxy, likewise
    #[arg(long = "set-proxy", value_name = "KEY=VALUE")]
    pub(crate) set_proxy: Vec<String>,
    /// Seconds until everything has to be ready
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) deadline: u64,
}

/// Chains that a local cluster can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DevChain {
    Regtest,
    Devnet,
}

/// The node's authorization modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Authorization {
    /// Users that were added, with their password
    Registered,
    /// Any valid address of the chain
    Address,
    /// Anyone
    Open,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the asked node the first member of a new cluster; once in a cluster's life
    Init,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List the members
    List,
    /// Let a name join; a node with a new name and an empty disk asks by itself
    Add {
        /// Member name, as in its certificate
        name: String,
    },
    /// Forget a member, so that its name may join again with an empty disk
    Remove {
        /// Member name, as in its certificate
        name: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct DrainOptions {
    /// The node or proxy; may be left out where --admin names just one
    pub(crate) name: Option<String>,
    /// Seconds to wait until it has no session left
    #[arg(long, value_name = "SECONDS", default_value_t = 270)]
    pub(crate) timeout: u64,
    /// Only begin, do not wait
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct UndrainOptions {
    /// The node or proxy; may be left out where --admin names just one
    pub(crate) name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    Add {
        /// User name
        name: String,
        /// Where the password comes from
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List the users
    List,
    /// Give a user another password
    Password {
        /// User name
        name: String,
        /// Where the password comes from
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Refuse a user from now on; its shares stay
    Disable {
        /// User name
        name: String,
    },
    /// Accept a disabled user again
    Enable {
        /// User name
        name: String,
    },
    /// Add the users of a users.json (one JSON object per line; - is standard input)
    Import {
        /// The file
        file: PathBuf,
    },
    /// Print all users in the same format
    Export {
        /// Write to this file (readable by its owner only), not to standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Where a password comes from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct PasswordSource {
    /// The password; others on this machine can read it from the process list
    #[arg(long, value_name = "P")]
    password: Option<String>,
    /// Read the password from standard input (first line)
    #[arg(long)]
    password_stdin: bool,
}

impl PasswordSource {
    /// The password itself.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        if let Some(password) = &self.password {
            return Ok(password.clone());
        }
        let mut text = String::new();
        std::io::stdin()
            .take(SECRET_LIMIT)
            .read_to_string(&mut text)
            .map_err(|error| Failure::Usage(format!("cannot read the password: {error}")))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(Failure::Usage("no password on standard input".to_owned()));
        }
        Ok(line.to_owned())
    }
}

#[derive(Args, Debug)]
pub(crate) struct RoundsOptions {
    /// Only the round of the block at this height
    #[arg(long, value_name = "H")]
    pub(crate) height: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct PayoutsOptions {
    /// The block
    #[arg(long, value_name = "H")]
    pub(crate) height: u32,
    /// Part of the reward that the pool keeps, in percent with at most four decimals
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub(crate) fee: String,
    /// json: everything. csv: a line per user. outputs: what Bitcoin Core's `createpsbt` takes
    /// as outputs, for users whose names are addresses
    #[arg(long, value_enum, default_value_t = PayoutFormat::Table)]
    pub(crate) format: PayoutFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayoutFormat {
    Table,
    Json,
    Csv,
    Outputs,
}

#[derive(Args, Debug)]
pub(crate) struct BackupOptions {
    /// The file to write; it holds password hashes and keys, and only its owner may read it
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreOptions {
    /// A file that `seamctl backup` wrote
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make the cluster's CA: DIR/ca.pem and DIR/ca.key
    Ca {
        /// Where to
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Make or renew a node's certificate
    Node(MemberCertificate),
    /// Make or renew a proxy's certificate
    Proxy(MemberCertificate),
}

#[derive(Args, Debug)]
pub(crate) struct MemberCertificate {
    /// Member name
    pub(crate) name: String,
    /// Where ca.pem and ca.key are
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where NAME.pem and NAME.key go, if not to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Host name or IP address that the member is reached by; repeatable
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Days until it has to be renewed
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) days: u64,
}

/// More than any token or password has, so that a wrong file is not read whole.
const SECRET_LIMIT: u64 = 4096;

fn read_secret(path: &Path) -> Result<String, Failure> {
    let unusable = |error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(unusable)?
        .take(SECRET_LIMIT)
        .read_to_string(&mut text)
        .map_err(unusable)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::Usage(format!("{} is empty", path.display())));
    }
    Ok(token.to_owned())
}

/// `HOST:PORT`, of which the host may be a name.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains([':', '/', '@', ' ']) && port.parse::<u16>().is_ok()
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn host_and_port_is_told_from_other_text() {
        for good in ["127.0.0.1:1", "[::1]:9333", "node-0.seam:9333"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in ["127.0.0.1", ":1", "http://x:1", "x:99999", "a b:1", "x:"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
