//! What is wrong with a configuration is said in one line, with exit code 2, before anything is opened.

use std::fs;
use std::net::TcpListener;

use crate::fresh::FreshNode;

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
        let node = FreshNode::new();
        node.replace(from, to);
        node.refuses(says);
        assert!(!node.has_opened(), "{to}: something was opened");
    }
}

#[test]
fn port_in_use_is_said_before_anything_is_opened() {
    for key in ["stratum", "cluster", "admin"] {
        let node = FreshNode::new();
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
        assert!(!node.has_opened(), "{key}: something was opened");
    }
}

#[test]
fn directory_that_cannot_be_written_is_said() {
    let node = FreshNode::new();
    // Not even root can make a directory in a file.
    fs::write(node.dir().join("data"), "in the way").unwrap();
    node.refuses("data_dir");
}

#[test]
fn good_configuration_passes_the_check_and_opens_nothing() {
    let node = FreshNode::new();
    let output = node.run(&["--check-config"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!node.has_opened());
}
