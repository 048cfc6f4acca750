//! Conversations of each miner family, said to a node and through a proxy: the same answers.
//!
//! A file of `data/conversations/` is one conversation, in the order of messages of the miner's
//! sources. `> LINE` is said by the miner, `>> LINE` in one packet with the line before, `< LINE` comes
//! back, `= BITS` finds a share with these version bits for the lines that follow. What differs from
//! session to session has a name: `$sid`, `$extranonce1`, and `$job`, `$nonce2`, `$ntime`, `$nonce` of the
//! share; a `mining.notify` is told by its `clean_jobs` alone. `< ?` is anything: with
//! `SEAM_RECORD_CONVERSATIONS` set, what the node says takes its place.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

use std::path::{Path, PathBuf};
use std::{env, fs};

use seam_integration::{Chain, Client, Cluster, Share};
use serde_json::Value;

#[test]
fn every_miner_family_is_answered_alike_by_node_and_proxy() {
    // Work comes when a conversation asks for it, and not in between.
    let options = ["--set", "jobs.refresh_seconds=55", "--set", "jobs.fee_check_seconds=55"];
    let cluster = Cluster::start(Chain::Devnet, 1, 1, &options);
    cluster.add_user("al", "secret");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversations");
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let recorded = fs::read_to_string(file).unwrap();
        let [direct, proxied] = [&cluster.nodes()[0], &cluster.proxies()[0]]
            .map(|member| replay(&member.stratum, &recorded));
        for (through, heard) in [("node", &direct), ("proxy", &proxied)] {
            if let Some(difference) = difference(&recorded, heard) {
                wrong.push(format!("{name}, {through}: {difference}"));
            }
        }
        if let Some(difference) = difference(&direct, &proxied) {
            wrong.push(format!("{name}, node and proxy: {difference}"));
        }
        if env::var_os("SEAM_RECORD_CONVERSATIONS").is_some() {
            fs::write(file, direct).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cluster.stop();
}

/// Says what the miner says, and writes down what comes back in place of what came back once.
fn replay(url: &str, recorded: &str) -> String {
    let mut client = Client::connect(url);
    let mut share: Option<(Share, u32)> = None;
    let mut heard = String::new();
    let lines: Vec<&str> = recorded.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        match line.split_once(' ') {
            Some((">" | ">>", _))
                if lines.get(at + 1).is_some_and(|next| next.starts_with(">>")) => {}
            Some((">", text)) => client.send(fill(text, share.as_ref()).as_bytes()),
            Some((">>", _)) => {
                let first = lines[..at].iter().rposition(|line| line.starts_with("> ")).unwrap();
                let packet: String = lines[first..=at]
                    .iter()
                    .map(|line| fill(line.split_once(' ').unwrap().1, share.as_ref()))
                    .collect();
                client.send(packet.as_bytes());
            }
            Some(("<", _)) => {
                let came = client.listen();
                heard.push_str(&format!("< {}\n", plain(came, &client)));
                continue;
            }
            Some(("=", bits)) => {
                let bits = u32::from_str_radix(bits, 16).unwrap();
                share = Some((client.find_rolled(true, bits), bits));
            }
            _ => assert!(line.starts_with('#') || line.is_empty(), "{line}"),
        }
        heard.push_str(line);
        heard.push('\n');
    }
    // Nothing more was said than what was recorded.
    client.send(b"{\"id\":\"last\",\"method\":\"mining.ping\",\"params\":[]}\n");
    loop {
        let line = client.listen();
        if line["id"] == "last" {
            return heard;
        }
        heard.push_str(&format!("< {}\n", plain(line, &client)));
    }
}

/// A line of the miner with the share's values in it.
fn fill(text: &str, share: Option<&(Share, u32)>) -> String {
    let mut text = text.replace("$user", "al.rig");
    if let Some((share, bits)) = share {
        let [job, nonce2, ntime, nonce] = &share.parameters;
        for (name, value) in
            [("$job", job), ("$nonce2", nonce2), ("$ntime", ntime), ("$nonce", nonce)]
        {
            text = text.replace(name, value);
        }
        text = text.replace("$bits", &format!("{bits:08x}"));
    }
    text.push('\n');
    text
}

/// A line of the pool without what is another session's.
fn plain(line: Value, client: &Client) -> String {
    if line["method"] == "mining.notify" {
        return format!("mining.notify clean={}", line["params"][8]);
    }
    let mut text = line.to_string();
    if let Some(sid) = &client.sid {
        text = text.replace(sid, "$sid");
        text = text.replace(&hex::encode(client.extranonce1()), "$extranonce1");
    }
    text
}

/// Where the two differ; what was not recorded yet may be anything.
fn difference(recorded: &str, heard: &str) -> Option<String> {
    let mut came = heard.lines();
    for (number, wanted) in recorded.lines().enumerate() {
        match came.next() {
            Some(line) if line == wanted || (wanted == "< ?" && line.starts_with("< ")) => {}
            other => return Some(format!("line {}:\n  {wanted}\n  {other:?}", number + 1)),
        }
    }
    came.next().map(|more| format!("more than was recorded:\n  {more}"))
}
