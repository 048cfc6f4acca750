//! Planted secrets are looked for in everything that a process says, shows or leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seam_cluster::ledger::State;
use seam_integration::{Chain, Client, Cluster, run, until};
use serde_json::{Value, json};

use crate::http::{get, send};

const COMMAND: Duration = Duration::from_secs(60);

/// Passwords of users, right ones and wrong ones, and tokens that somebody tries: all of them come in from outside.
const RIGHT: &str = "planted-right-Zq7vK2mXw9";
const WRONG: &str = "planted-wrong-Hb4nT8cRy3";
const ADDED: &str = "planted-added-Jd6pW1sLf5";
const IMPORTED: &str = "planted-imported-Gk9xQ3vNe7";
const GUESSED_ADMIN: &str = "planted-guess-Ua5zM7bDo2";
const GUESSED_TOKEN: &str = "planted-token-Ic8yF4hPj6";
const IN_CONFIG: &str = "planted-config-Ex2rS6kVt1";

/// Names, each with every form that it might be written in.
#[derive(Default)]
struct Planted(BTreeMap<String, Vec<Vec<u8>>>);

impl Planted {
    fn text(&mut self, name: &str, text: &str) {
        self.bytes(name, text.as_bytes());
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
        let forms = [
            bytes.to_vec(),
            hex::encode(bytes).into_bytes(),
            hex::encode_upper(bytes).into_bytes(),
            decimal.join(",").into_bytes(),
            decimal.join(", ").into_bytes(),
            base64(bytes).into_bytes(),
        ];
        self.0.insert(name.to_owned(), forms.to_vec());
    }

    /// Names of the secrets in there.
    fn found_in(&self, haystack: &[u8]) -> Vec<&str> {
        let holds = |form: &Vec<u8>| memchr::memmem::find(haystack, form).is_some();
        self.0
            .iter()
            .filter(|(_, forms)| forms.iter().any(holds))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// What was looked through, and what was found where.
#[derive(Default)]
struct Search {
    places: usize,
    bytes: usize,
    hits: Vec<String>,
}

impl Search {
    fn look(&mut self, planted: &Planted, place: &str, content: &[u8]) {
        self.places += 1;
        self.bytes += content.len();
        for name in planted.found_in(content) {
            self.hits.push(format!("{name} in {place}"));
        }
    }
}

#[test]
fn secrets_appear_in_no_log_metric_answer_or_process_list() {
    let nodes = ["--set", "log.format=\"json\"", "--set", "log.filter=\"debug\""];
    let proxies = ["--set-proxy", "log.format=\"text\"", "--set-proxy", "log.filter=\"debug\""];
    let mut cluster = Cluster::start(Chain::Regtest, 3, 1, &[nodes, proxies].concat());
    let text_node = rewrite_as_text(&mut cluster, "node-1");
    provoke(&cluster);
    let planted = plant(&cluster);
    // One that was sealed with the ticket key, drained and taken back.
    cluster.ctl(&["drain", &text_node]);
    cluster.ctl(&["undrain", &text_node]);
    cluster.wait_ready(&text_node);

    let mut search = Search::default();
    answers(&cluster, &planted, &mut search);
    processes(&cluster, &planted, &mut search);
    commands(&cluster, &planted, &mut search);
    // Logs last: they hold what all of the above provoked.
    for file in files_named(cluster.dir(), &["log", "debug.log"]) {
        search.look(&planted, &file.display().to_string(), &fs::read(&file).unwrap());
        search.look(&planted, "a file's name", file.as_os_str().as_encoded_bytes());
    }
    for dump in files_ending(cluster.dir(), "json") {
        // What `dev up` writes for whoever started it; nobody else may read it.
        if dump.ends_with("cluster.json") {
            assert_eq!(mode(&dump), 0o600);
            continue;
        }
        search.look(&planted, &dump.display().to_string(), &fs::read(&dump).unwrap());
    }
    eprintln!("{} secrets, {} places, {} bytes", planted.0.len(), search.places, search.bytes);
    assert_eq!(search.hits, Vec::<String>::new());
    assert_logs_are_real(&cluster);
    assert_files_are_private(&cluster);
    cluster.stop();
}

#[test]
fn search_finds_what_is_there() {
    let mut planted = Planted::default();
    planted.text("a", "secret-a");
    planted.bytes("b", &[1, 2, 250]);
    assert_eq!(planted.found_in(b"x secret-a y"), ["a"]);
    assert_eq!(planted.found_in(b"7365637265742d61"), ["a"]);
    assert_eq!(planted.found_in(b"key: [1, 2, 250]"), ["b"]);
    assert_eq!(planted.found_in(b"0102fa c2VjcmV0LWE="), ["a", "b"]);
    assert!(planted.found_in(b"secret-b").is_empty());
}

/// Starts a node again with its log as text.
fn rewrite_as_text(cluster: &mut Cluster, name: &str) -> String {
    let config = cluster.dir().join(name).join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("format = \"json\""), "{text}");
    fs::write(&config, text.replace("format = \"json\"", "format = \"text\"")).unwrap();
    cluster.terminate(name, Duration::from_secs(60));
    cluster.restart(name);
    cluster.wait_ready(name);
    name.to_owned()
}

/// Everything that takes a secret in, used rightly and wrongly.
fn provoke(cluster: &Cluster) {
    let token = cluster.dir().join("admin.token");
    let admin = &cluster.nodes()[0].admin;
    // By standard input, as the manual says, so that it is in no process list.
    let mut add = std::process::Command::new(seam_integration::program("seamctl"))
        .args(["--admin", admin, "--token-file", token.to_str().unwrap()])
        .args(["user", "add", "al", "--password-stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    add.stdin.take().unwrap().write_all(RIGHT.as_bytes()).unwrap();
    assert!(add.wait().unwrap().success());

    let direct = cluster.nodes().iter().map(|node| node.stratum.clone());
    for url in direct.chain([cluster.proxies()[0].stratum.clone()]) {
        let mut client = Client::log_in(&url, "al", &format!("{RIGHT},d=1e-9"));
        client.wait_work();
        for _ in 0..3 {
            let share = client.find(true);
            client.submit("al", &share);
        }
        let mut stranger = Client::connect(&url);
        stranger.subscribe(None);
        assert!(!stranger.call("mining.authorize", json!(["al", WRONG])).is_true());
        stranger.call("mining.authorize", json!(["al", [WRONG]]));
        let mut operator = Client::connect(&url);
        operator.subscribe(None);
        assert!(
            operator.call("mining.authorize_admin", json!([cluster.admin_password()])).is_true()
        );
        let name = format!("added{}", url.rsplit(':').next().unwrap());
        operator.call("mining.add_user", json!([name, ADDED]));
        let mut guesser = Client::connect(&url);
        guesser.subscribe(None);
        assert!(!guesser.call("mining.authorize_admin", json!([GUESSED_ADMIN])).is_true());
        guesser.call("mining.add_user", json!(["eve", ADDED]));
        // Lines that are no requests, with a password in them.
        let mut broken = Client::connect(&url);
        let _ = broken.try_send(
            format!("{{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"al\",\"{WRONG}\"\n")
                .as_bytes(),
        );
        let _ = broken.try_send(format!("GET /{WRONG} HTTP/1.1\r\n\r\n").as_bytes());
    }

    for node in cluster.nodes().iter().chain(cluster.proxies()) {
        let url = |path: &str| format!("http://{}{path}", node.admin);
        for path in ["/v1/drain", "/v1/users", "/v1/log", "/v1/undrain"] {
            for token in [None, Some(GUESSED_TOKEN)] {
                let body = format!("{{\"name\":\"x\",\"password\":\"{WRONG}\"}}");
                send("POST", &url(path), token, Some(("application/json", body.as_bytes())));
            }
        }
    }
    let url = |path: &str| format!("http://{}{path}", cluster.nodes()[0].admin);
    let token = Some(cluster.token());
    for body in [
        format!("{{\"name\":\"al\",\"password\":\"{WRONG}\"}}"),
        format!("{{\"name\":7,\"password\":\"{WRONG}\"}}"),
        format!("{{\"name\":\"bo\",\"pass\":\"{WRONG}\"}}"),
        format!("{{\"password\":\"{WRONG}\""),
    ] {
        let reply =
            send("POST", &url("/v1/users"), token, Some(("application/json", body.as_bytes())));
        assert!((400..500).contains(&reply.status), "{}", reply.status);
        assert!(!reply.text.contains(WRONG), "an answer repeats what came in: {}", reply.text);
    }
    let lines = format!("{{\"username\":\"im\",\"password\":\"{IMPORTED}\"}}\n{IMPORTED}\n");
    let reply =
        send("POST", &url("/v1/users/import"), token, Some(("text/plain", lines.as_bytes())));
    assert!((400..500).contains(&reply.status), "{}", reply.status);
    assert!(!reply.text.contains(IMPORTED), "{}", reply.text);
    let filter = format!("{{\"filter\":\"{WRONG}\"}}");
    send("POST", &url("/v1/log"), token, Some(("application/json", filter.as_bytes())));
}

/// What must not be found. The keys come from where they are kept.
fn plant(cluster: &Cluster) -> Planted {
    let mut planted = Planted::default();
    for (name, text) in [
        ("password", RIGHT),
        ("wrong password", WRONG),
        ("added user's password", ADDED),
        ("imported password", IMPORTED),
        ("guessed admin password", GUESSED_ADMIN),
        ("guessed token", GUESSED_TOKEN),
        ("password in a configuration", IN_CONFIG),
        ("admin token", cluster.token()),
        ("admin password", cluster.admin_password()),
    ] {
        planted.text(name, text);
    }
    for file in files_ending(&cluster.dir().join("certs"), "key") {
        let pem = fs::read_to_string(&file).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        planted.text(&format!("{name}, PEM"), &body);
        // The middle of a PKCS #8 P-256 key is the key itself, whatever it is wrapped in.
        planted.text(&format!("{name}, a line of it"), pem.lines().nth(1).unwrap());
    }
    let backup = cluster.dir().join("ledger.backup");
    cluster.ctl(&["backup", backup.to_str().unwrap()]);
    let state = State::read_from(&mut &fs::read(&backup).unwrap()[..]).unwrap();
    let identity = state.identity();
    planted.bytes("sid key", &identity.sid_key().unwrap().0);
    assert!(!identity.ticket_keys().is_empty());
    for key in identity.ticket_keys() {
        planted.bytes(&format!("ticket key {}", key.id), &key.key.0);
    }
    planted.0.insert("password hash".to_owned(), vec![b"$argon2".to_vec()]);
    planted
}

/// Every path of node and proxy that answers without a token, and with one where it is no secret that is asked for.
fn answers(cluster: &Cluster, planted: &Planted, search: &mut Search) {
    // They are what they are for: password hashes and keys, for whoever has the token.
    const SECRET: [&str; 2] = ["/v1/users/export", "/v1/backup"];
    for member in cluster.nodes().iter().chain(cluster.proxies()) {
        let openapi = get(&format!("http://{}/openapi.json", member.admin));
        let paths = openapi["paths"].as_object().unwrap().iter();
        let mut paths: Vec<String> = paths
            .filter(|(_, methods)| methods.get("get").is_some())
            .map(|(path, _)| path.replace("{height}", "1").replace("{name}", "al"))
            .collect();
        paths.extend(
            ["/", "/status", "/status.js", "/status.css", "/v1/payouts?height=1", "/nothing"]
                .map(str::to_owned),
        );
        assert!(paths.len() > 8, "{paths:?}");
        for path in paths {
            let url = format!("http://{}{path}", member.admin);
            for token in [None, Some(GUESSED_TOKEN), Some(cluster.token())] {
                let right = token == Some(cluster.token());
                if right && SECRET.contains(&path.as_str()) {
                    continue;
                }
                let reply = send("GET", &url, token, None);
                assert!(
                    right || !SECRET.contains(&path.as_str()) || reply.status == 401,
                    "{url}: {}",
                    reply.status
                );
                search.look(planted, &url, reply.text.as_bytes());
            }
        }
    }
}

/// What anyone on the machine can see of a process, and what a core file of it would be called.
fn processes(cluster: &Cluster, planted: &Planted, search: &mut Search) {
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    search.look(planted, "core_pattern", &pattern);
    for member in cluster.nodes().iter().chain(cluster.proxies()) {
        let proc = PathBuf::from(format!("/proc/{}", cluster.pid(&member.name)));
        for file in ["cmdline", "environ", "comm", "status", "maps"] {
            let content = fs::read(proc.join(file)).unwrap();
            assert!(file != "cmdline" || !content.is_empty());
            search.look(planted, &format!("{} of {}", file, member.name), &content);
        }
        for thread in fs::read_dir(proc.join("task")).unwrap() {
            // A thread may have ended by now.
            let Ok(name) = fs::read(thread.unwrap().path().join("comm")) else { continue };
            search.look(planted, "a thread's name", &name);
        }
        // A core file is called after these, by whatever pattern.
        let link = fs::read_link(proc.join("exe")).unwrap();
        search.look(planted, "the program's path", link.as_os_str().as_encoded_bytes());
        let cwd = fs::read_link(proc.join("cwd")).unwrap();
        search.look(planted, "the working directory", cwd.as_os_str().as_encoded_bytes());
    }
}

/// What `seamctl` prints, also when it fails, and what a program says about a configuration with a secret in it.
fn commands(cluster: &Cluster, planted: &Planted, search: &mut Search) {
    for words in [&["status"][..], &["member", "list"], &["user", "list"], &["rounds"], &["blocks"]]
    {
        let output = cluster.try_ctl(words);
        search.look(planted, &format!("{words:?}"), &[output.stdout, output.stderr].concat());
    }
    let file = cluster.dir().join("guessed.token");
    fs::write(&file, GUESSED_TOKEN).unwrap();
    let admin = &cluster.nodes()[0].admin;
    let guess = ["--admin", admin, "--token-file", file.to_str().unwrap(), "undrain"];
    let output = run("seamctl", guess, COMMAND);
    assert_eq!(output.status.code(), Some(1));
    search.look(planted, "a refused command", &[output.stdout, output.stderr].concat());

    let config = cluster.dir().join("broken.toml");
    for text in [
        format!("admin_token = \"{IN_CONFIG}\"\n"),
        format!("[admin]\ntoken = \"{IN_CONFIG}\"\n"),
        format!("[admin]\ntoken_file = [\"{IN_CONFIG}\"]\n"),
        format!("[admin]\ntoken_file = \"{IN_CONFIG}\n"),
    ] {
        fs::write(&config, text).unwrap();
        for program in ["seam-node", "seam-proxy"] {
            let words = ["--config", config.to_str().unwrap(), "--check-config"];
            let output = run(program, words, COMMAND);
            assert_eq!(output.status.code(), Some(2));
            search.look(planted, program, &[output.stdout, output.stderr].concat());
        }
    }
}

/// A search through empty logs, or logs of the wrong kind, would find nothing either.
fn assert_logs_are_real(cluster: &Cluster) {
    let log = |name: &str| fs::read_to_string(cluster.dir().join(name).join("log")).unwrap();
    let lines = log("node-0");
    let debug = lines.lines().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["level"] == "DEBUG"
    });
    assert!(debug.count() > 10, "node-0 logs JSON at debug");
    for name in ["node-1", "proxy-0"] {
        let text = log(name);
        assert!(
            text.lines().filter(|line| line.contains(" DEBUG ")).count() > 10,
            "{name} logs text at debug"
        );
    }
    until("the refused logins to be logged", || {
        log("node-1").contains("login refused").then_some(())
    });
}

/// Who else is on the machine cannot read keys where they are kept.
fn assert_files_are_private(cluster: &Cluster) {
    for file in files_ending(&cluster.dir().join("certs"), "key") {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for name in ["admin.token", "admin.password", "ledger.backup"] {
        assert_eq!(mode(&cluster.dir().join(name)), 0o600, "{name}");
    }
    for node in cluster.nodes() {
        let ledger = node.data_dir.join("ledger");
        let open = files_below(&ledger).into_iter().find(|file| mode(file) & 0o077 != 0);
        let closed = mode(&ledger) & 0o077 == 0;
        assert!(closed || open.is_none(), "{open:?} holds keys and can be read by others");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn files_named(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let named = |path: &PathBuf| names.iter().any(|name| path.file_name().unwrap() == *name);
    files_below(dir).into_iter().filter(named).collect()
}

fn files_ending(dir: &Path, end: &str) -> Vec<PathBuf> {
    let ends = |path: &PathBuf| path.extension().is_some_and(|extension| extension == end);
    files_below(dir).into_iter().filter(ends).collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        // A running node makes and removes files.
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = [part[0], part.get(1).copied().unwrap_or(0), part.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for digit in 0..=part.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}
