//! What Bitcoin Core is started with.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Error;

/// Which chain Core follows (its `-chain` option).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The main chain.
    Main,
    /// The public test chain (BIP 94).
    Test4,
    /// A chain whose blocks need a solution to a challenge (BIP 325).
    Signet {
        /// The challenge script; `None` is the public signet.
        challenge: Option<Vec<u8>>,
    },
    /// A private chain without difficulty.
    Regtest,
}

impl Chain {
    /// A private signet whose challenge, `OP_TRUE`, needs no solution: blocks take real work, about
    /// 4.8 million hashes each, and nothing else.
    pub fn devnet() -> Self {
        Self::Signet { challenge: Some(vec![0x51]) }
    }

    /// Core's name for the chain.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Test4 => "testnet4",
            Self::Signet { .. } => "signet",
            Self::Regtest => "regtest",
        }
    }
}

/// How to start Bitcoin Core.
#[derive(Clone, Debug)]
pub struct Options {
    /// An ordinary Core data directory. It is made if it does not exist. A `bitcoin.conf` in it is
    /// read as `bitcoind` reads it.
    pub data_dir: PathBuf,
    /// The chain to follow.
    pub chain: Chain,
    /// Any options of `bitcoind`, each `-key=value`, but those that `data_dir` and `chain` set. They
    /// win over `bitcoin.conf`. Core's RPC server is off unless `-server` is among them or in
    /// `bitcoin.conf`.
    pub extra: Vec<String>,
}

/// Options that the fields of [`Options`] stand for, or that make no sense inside a process.
const RESERVED: [&str; 9] = [
    "chain",
    "daemon",
    "daemonwait",
    "datadir",
    "regtest",
    "signet",
    "signetchallenge",
    "testnet",
    "testnet4",
];

/// A bound on what is passed on; a command line of the kernel's largest size is far below it.
const MAX_EXTRA: usize = 10_000;

impl Options {
    /// What `bitcoind` would have got as its command line.
    pub(crate) fn arguments(&self) -> Result<Vec<CString>, Error> {
        if self.extra.len() > MAX_EXTRA {
            return Err(Error::BadOption(format!("more than {MAX_EXTRA} options")));
        }
        let mut data_dir = b"-datadir=".to_vec();
        data_dir.extend_from_slice(self.data_dir.as_os_str().as_bytes());
        let mut arguments =
            vec![b"seam".to_vec(), data_dir, format!("-chain={}", self.chain.name()).into_bytes()];
        if let Chain::Signet { challenge: Some(challenge) } = &self.chain {
            let hex: String = challenge.iter().map(|byte| format!("{byte:02x}")).collect();
            arguments.push(format!("-signetchallenge={hex}").into_bytes());
        }
        for option in &self.extra {
            check_extra(option)?;
            arguments.push(option.clone().into_bytes());
        }
        arguments
            .into_iter()
            .map(|argument| {
                CString::new(argument)
                    .map_err(|_| Error::BadOption("an option contains a NUL byte".to_owned()))
            })
            .collect()
    }
}

fn check_extra(option: &str) -> Result<(), Error> {
    let Some(name) = option.strip_prefix('-') else {
        return Err(Error::BadOption(format!("'{option}' does not begin with '-'")));
    };
    let name = name.strip_prefix('-').unwrap_or(name).split('=').next().unwrap_or_default();
    if RESERVED.contains(&name) {
        return Err(Error::BadOption(format!("'-{name}' cannot be given as an extra option")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(extra: &[&str]) -> Options {
        Options {
            data_dir: PathBuf::from("/data"),
            chain: Chain::devnet(),
            extra: extra.iter().map(|&option| option.to_owned()).collect(),
        }
    }

    #[test]
    fn options_become_a_command_line() {
        let arguments = options(&["-listen=0"]).arguments().unwrap();
        let arguments: Vec<_> =
            arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        assert_eq!(
            arguments,
            ["seam", "-datadir=/data", "-chain=signet", "-signetchallenge=51", "-listen=0"]
        );
    }

    #[test]
    fn options_that_contradict_the_fields_are_refused() {
        for option in ["-datadir=/other", "--regtest", "-chain=main", "listen=0", "-uacomment=a\0b"]
        {
            assert!(
                matches!(options(&[option]).arguments(), Err(Error::BadOption(_))),
                "{option:?} was taken"
            );
        }
    }
}
