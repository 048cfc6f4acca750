//! A node that was never started, to be configured right or wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seam_integration::{Program, run};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node's directory with a configuration that is right.
pub(crate) struct FreshNode {
    dir: TempDir,
}

impl FreshNode {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        for command in [vec!["ca"], vec!["node", "node-0"]] {
            let words = ["certs"].into_iter().chain(command).chain(["--dir", path]);
            assert!(run("seamctl", words, PATIENCE).status.success());
        }
        fs::write(dir.path().join("admin.token"), "token\n").unwrap();
        // Nothing of it is reached: every port is closed again or refused before.
        let config = "\
name = \"node-0\"
data_dir = \"data\"
[bitcoin]
chain = \"regtest\"
options = [\"-listen=0\", \"-connect=0\", \"-dnsseed=0\", \"-fixedseeds=0\"]
[stratum]
listen = \"127.0.0.1:0\"
[cluster]
listen = \"127.0.0.1:0\"
advertise = \"127.0.0.1:7333\"
ca = \"ca.pem\"
cert = \"node-0.pem\"
key = \"node-0.key\"
[admin]
listen = \"127.0.0.1:0\"
token_file = \"admin.token\"
[pool]
address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"
[difficulty]
start = 1.0
";
        fs::write(dir.path().join("node.toml"), config).unwrap();
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether it got as far as to open its stores.
    pub(crate) fn has_opened(&self) -> bool {
        ["bitcoin", "ledger", "solved"].iter().any(|dir| self.dir().join("data").join(dir).exists())
    }

    /// Starts it, and does not wait.
    pub(crate) fn start(&self) -> Program {
        Program::start("seam-node", [Path::new("--config"), &self.config()])
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("node.toml")
    }

    pub(crate) fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from:?} is not in the configuration");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    pub(crate) fn run(&self, options: &[&str]) -> std::process::Output {
        let config = self.config();
        let words = [Path::new("--config"), &config].map(Path::as_os_str).into_iter();
        run("seam-node", words.chain(options.iter().map(AsRef::as_ref)), PATIENCE)
    }

    pub(crate) fn refuses(&self, says: &str) {
        for options in [&[][..], &["--check-config"]] {
            let output = self.run(options);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{says}: {text}");
            assert!(text.contains(says), "{says:?} is not in: {text}");
            assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        }
    }
}
