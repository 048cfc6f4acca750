//! The chains that Seam mines, as `bitcoin.chain` names them.

use std::fmt;

use bitcoin::Network;
use serde::{Deserialize, Serialize};

/// Which of them a node is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    /// Bitcoin.
    #[default]
    Mainnet,
    /// Testnet 4 (BIP 94).
    Testnet4,
    /// The public signet.
    Signet,
    /// A signet of our own whose challenge is `OP_TRUE`: blocks need no signature.
    Devnet,
    /// Local, a block for almost every share.
    Regtest,
}

impl Chain {
    /// The `bitcoin` crate's name for its addresses.
    #[must_use]
    pub fn network(self) -> Network {
        match self {
            Self::Mainnet => Network::Bitcoin,
            Self::Testnet4 => Network::Testnet4,
            Self::Signet | Self::Devnet => Network::Signet,
            Self::Regtest => Network::Regtest,
        }
    }

    /// Chains on which work must go on though nobody else mines: no peers are waited for.
    #[must_use]
    pub fn is_private(self) -> bool {
        matches!(self, Self::Devnet | Self::Regtest)
    }

    /// The options that choose it in Bitcoin Core.
    #[must_use]
    pub fn core_options(self) -> &'static [&'static str] {
        match self {
            Self::Mainnet => &[],
            Self::Testnet4 => &["-testnet4"],
            Self::Signet => &["-signet"],
            Self::Devnet => &["-signet", "-signetchallenge=51"],
            Self::Regtest => &["-regtest"],
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mainnet => "mainnet",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Devnet => "devnet",
            Self::Regtest => "regtest",
        })
    }
}
