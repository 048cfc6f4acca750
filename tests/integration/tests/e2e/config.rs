//! What is wrong with a configuration is said in one line, with exit code 2, before anything is opened.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seam_integration::run;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn wrong_configuration_is_one_clear_line_and_exit_code_2() {
    let cases = [
        // (what to replace, by what, what the line has to say)
        ("[pool]", "[pool]\nadress = \"x\"", "pool.adress"),
        ("[pool]", "[pool]\nadress = \"x\"", "pool.address"),
        ("[stratum]", "[strutum]", "stratum"),
        ("chain = \"regtest\"", "chain = \"mainnet\"", "pool.address"),
        (
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081",
            "pool.address",
        ),
        ("chain = \"regtest\"", "chain = \"simnet\"", "simnet"),
        ("start = 1.0", "start = 0.0", "difficulty"),
        ("start = 1.0", "start = \"high\"", "start"),
        ("node-0.pem", "nowhere.pem", "nowhere.pem"),
        ("name = \"node-0\"", "name = \"node-1\"", "node-1"),
        ("admin.token", "no.token", "no.token"),
        ("[pool]", "[pool", "line"),
    ];
    for (from, to, says) in cases {
        let node = Node::new();
        node.replace(from, to);
        node.refuses(says);
        assert!(!node.dir.path().join("data/bitcoin").exists(), "{to}: something was opened");
        assert!(!node.dir.path().join("data/ledger").exists(), "{to}: something was opened");
    }
}

#[test]
fn port_in_use_is_said_before_anything_is_opened() {
    for key in ["stratum", "cluster", "admin"] {
        let node = Node::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().to_string();
        let text = fs::read_to_string(node.config()).unwrap();
        let mut section = "";
        let text: Vec<String> = text
            .lines()
            .map(|line| {
                if line.starts_with('[') {
                    section = line;
                }
                if section == format!("[{key}]") && line.starts_with("listen") {
                    format!("listen = \"{port}\"")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        fs::write(node.config(), text.join("\n")).unwrap();
        node.refuses(&port);
        assert!(!node.dir.path().join("data/bitcoin").exists(), "{key}: something was opened");
    }
}

#[test]
fn directory_that_cannot_be_written_is_said() {
    let node = Node::new();
    // Not even root can make a directory in a file.
    fs::write(node.dir.path().join("data"), "in the way").unwrap();
    node.refuses("data_dir");
}

#[test]
fn good_configuration_passes_the_check_and_opens_nothing() {
    let node = Node::new();
    let output = node.run(&["--check-config"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!node.dir.path().join("data/bitcoin").exists());
}

/// A node's directory with a configuration that is right.
struct Node {
    dir: TempDir,
}

impl Node {
    fn new() -> Self {
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

    fn config(&self) -> PathBuf {
        self.dir.path().join("node.toml")
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from:?} is not in the configuration");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    fn run(&self, options: &[&str]) -> std::process::Output {
        let config = self.config();
        let words = [Path::new("--config"), &config].map(Path::as_os_str).into_iter();
        run("seam-node", words.chain(options.iter().map(AsRef::as_ref)), PATIENCE)
    }

    fn refuses(&self, says: &str) {
        for options in [&[][..], &["--check-config"]] {
            let output = self.run(options);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{says}: {text}");
            assert!(text.contains(says), "{says:?} is not in: {text}");
            assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        }
    }
}
