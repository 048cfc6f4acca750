//! `seamctl mine`: a CPU miner that behaves as good hardware does.
//!
//! Threads search ([`hashers`]), one task talks to the pool ([`connection`]) and keeps what was
//! agreed with it ([`session`]); [`tally`] counts.

mod connection;
mod hashers;
mod session;
mod stream;
mod tally;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use seam_stratum::Difficulty;
use tokio::runtime;

use self::stream::Connector;
use crate::cli::is_host_and_port;
use crate::failure::Failure;
use crate::print::Output;

/// Options of `mine`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MineOptions {
    /// The pool: HOST:PORT, stratum+tcp://HOST:PORT, or stratum+ssl://HOST:PORT for TLS
    #[arg(long, value_parser = PoolUrl::parse)]
    pub(crate) url: PoolUrl,
    /// PEM file with the CAs that may vouch for the pool, for TLS (DIR/certs/ca.pem of a local cluster)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// User, or USER.WORKER
    #[arg(long)]
    pub(crate) user: String,
    /// Password, with options as the pool takes them (d=0.5)
    #[arg(long, default_value = "x", env = "SEAM_MINE_PASSWORD", hide_env_values = true)]
    pub(crate) password: String,
    /// Threads that hash
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Stop after so many blocks
    #[arg(long, value_name = "N")]
    pub(crate) blocks: Option<u64>,
    /// Stop after so many accepted shares
    #[arg(long, value_name = "N")]
    pub(crate) shares: Option<u64>,
    /// Stop after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// Ask the pool for this difficulty
    #[arg(long, value_name = "DIFFICULTY")]
    pub(crate) suggest_difficulty: Option<Difficulty>,
    /// Hash no faster than this, in hashes per second
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) hashrate: Option<u64>,
    /// Do not roll the header's version
    #[arg(long)]
    pub(crate) no_version_rolling: bool,
    /// Print only the summary
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// How a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As many blocks or shares as wanted.
    Reached,
    /// The time is up.
    Time,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Mines until a limit is reached or the user interrupts, then prints the sums.
pub(crate) fn run(options: &MineOptions, out: Output) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("cannot start: {error}")))?;
    let started = Instant::now();
    let deadline = match options.seconds {
        None => None,
        Some(seconds) => Some(
            Duration::try_from_secs_f64(seconds)
                .ok()
                .and_then(|span| started.checked_add(span))
                .ok_or_else(|| Failure::Usage("--for takes seconds, 0 or more".to_owned()))?,
        ),
    };
    let connector = match (&options.ca, options.url.tls) {
        (_, false) => Connector::Plain,
        (Some(ca), true) => Connector::tls(ca)?,
        (None, true) => {
            return Err(Failure::Usage("TLS needs --ca FILE: whom to believe".to_owned()));
        }
    };
    let speak = !out.json && !options.quiet;
    let (end, tally, hashes) =
        runtime.block_on(connection::mine(options, connector, deadline, speak))?;
    let summary = tally.summary(started.elapsed(), hashes);
    out.show(&summary, || tally.text(started.elapsed(), hashes))?;
    let wanted = options.blocks.is_some() || options.shares.is_some();
    match end {
        End::Time if tally.connected == 0 => {
            Err(Failure::Unreachable(format!("{} could not be reached", options.url.address)))
        }
        End::Time if wanted => Err(Failure::Refused("the time was up first".to_owned())),
        End::Reached | End::Time | End::Interrupted => Ok(()),
    }
}

/// Where a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolUrl {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// Whether it speaks TLS.
    pub(crate) tls: bool,
}

impl PoolUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let schemes =
            [("stratum+tcp://", false), ("stratum+ssl://", true), ("stratum+tls://", true)];
        let (address, tls) = schemes
            .iter()
            .find_map(|(scheme, tls)| Some((text.strip_prefix(scheme)?, *tls)))
            .unwrap_or((text, false));
        let address = address.trim_end_matches('/');
        if !is_host_and_port(address) {
            return Err(
                "expected HOST:PORT, stratum+tcp://HOST:PORT or stratum+ssl://HOST:PORT".to_owned()
            );
        }
        Ok(Self { address: address.to_owned(), tls })
    }
}
