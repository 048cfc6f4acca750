//! Bitcoin Core beside the cluster: its RPC through `bitcoin-cli`, and a `bitcoind` as a P2P peer
//! that is not ours.

use std::fmt;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use bitcoin::consensus::deserialize;
use bitcoin::{Block, Network};
use seam_bitcoin_core::{BITCOIN_CLI, BITCOIND};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Program;
use crate::until;

/// The chains of local clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Every second hash is a block.
    Regtest,
    /// A private signet with the challenge `OP_TRUE`.
    Devnet,
}

impl Chain {
    /// Its name in addresses.
    pub fn network(self) -> Network {
        match self {
            Self::Regtest => Network::Regtest,
            Self::Devnet => Network::Signet,
        }
    }

    /// Bitcoin Core's options for it.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::Regtest => &["-regtest"],
            Self::Devnet => &["-signet", "-signetchallenge=51"],
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regtest => "regtest",
            Self::Devnet => "devnet",
        })
    }
}

impl FromStr for Chain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "regtest" => Ok(Self::Regtest),
            "devnet" => Ok(Self::Devnet),
            other => Err(format!("no chain of local clusters: {other}")),
        }
    }
}

/// A Bitcoin Core that answers RPC.
#[derive(Clone, Debug)]
pub struct Rpc {
    chain: Chain,
    data_dir: PathBuf,
    port: u16,
}

impl Rpc {
    /// Of the Core with this data directory and RPC port.
    pub fn new(chain: Chain, data_dir: &Path, port: u16) -> Self {
        Self { chain, data_dir: data_dir.to_owned(), port }
    }

    /// What a call answers; panics if it fails.
    pub fn call(&self, method: &str, arguments: &[&str]) -> Value {
        self.try_call(method, arguments).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What a call answers, or why it failed.
    pub fn try_call(&self, method: &str, arguments: &[&str]) -> Result<Value, String> {
        let mut child = Command::new(BITCOIN_CLI)
            .args(self.chain.options())
            .arg(format!("-datadir={}", self.data_dir.display()))
            .arg(format!("-rpcport={}", self.port))
            // Blocks are longer than a command line may be.
            .arg("-stdin")
            .arg(method)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for argument in arguments {
            writeln!(stdin, "{argument}").unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let text = String::from_utf8(output.stdout).unwrap();
        // Strings come without quotes.
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.trim().to_owned())))
    }

    /// The active chain's height.
    pub fn height(&self) -> u64 {
        self.call("getblockcount", &[]).as_u64().unwrap()
    }

    /// The hash of the active chain's block at `height`.
    pub fn hash_at(&self, height: u64) -> String {
        self.call("getblockhash", &[&height.to_string()]).as_str().unwrap().to_owned()
    }

    /// A block.
    pub fn block(&self, hash: &str) -> Block {
        let hex = self.call("getblock", &[hash, "0"]);
        deserialize(&hex::decode(hex.as_str().unwrap()).unwrap()).unwrap()
    }
}

/// A `bitcoind` of the same build in a process of its own.
pub struct Bitcoind {
    _process: Program,
    /// Its RPC.
    pub rpc: Rpc,
    dir: TempDir,
}

impl Bitcoind {
    /// Starts one that connects to `peers` only, and waits until it answers.
    pub fn start(chain: Chain, peers: &[&str], options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(BITCOIND);
        command
            .args(chain.options())
            .args(["-listen=0", "-dnsseed=0", "-fixedseeds=0", "-printtoconsole=0", "-dbcache=16"])
            .args(["-maxtipage=3153600000", "-debug=net", "-debug=validation", "-logtimemicros=1"])
            .arg(format!("-datadir={}", dir.path().display()))
            .arg(format!("-rpcport={port}"))
            .args(peers.iter().map(|peer| format!("-connect={peer}")))
            .args(options);
        let mut process = Program::spawn("bitcoind", &mut command);
        let rpc = Rpc::new(chain, dir.path(), port);
        until("bitcoind to answer", || {
            assert!(process.ended().is_none(), "bitcoind ended");
            rpc.try_call("getblockcount", &[]).ok()
        });
        Self { _process: process, rpc, dir }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let sub = match self.rpc.chain {
            Chain::Regtest => "regtest",
            Chain::Devnet => "signet",
        };
        // Custom signets have a directory named after their challenge.
        std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(sub))
            .map(|path| std::fs::read_to_string(path.join("debug.log")).unwrap_or_default())
            .collect()
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
