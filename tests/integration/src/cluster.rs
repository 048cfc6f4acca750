//! A local cluster, started as a developer starts it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;
use std::{env, fs, thread};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::bitcoind::{Chain, Rpc};
use crate::process::{self, Program};
use crate::{until, until_within};

/// Debug builds of three nodes on two busy cores.
const READY: Duration = Duration::from_secs(180);
const COMMAND: Duration = Duration::from_secs(120);
/// The admin port answers from memory.
const ANSWER: Duration = Duration::from_secs(5);

/// A cluster that `seamctl dev up` runs. It ends with this value; its directory stays if the test fails.
pub struct Cluster {
    up: Program,
    file: ClusterFile,
    dir: Option<TempDir>,
    /// Members that this value started again, by name.
    restarted: BTreeMap<String, Program>,
}

#[derive(Deserialize)]
struct ClusterFile {
    chain: String,
    ca: PathBuf,
    admin_token: String,
    admin_password: String,
    nodes: Vec<Member>,
    proxies: Vec<Member>,
}

/// A node or proxy. Addresses are `host:port`.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Process id at the start.
    pub pid: u32,
    /// Where miners connect.
    pub stratum: String,
    /// Where miners connect over TLS (proxies).
    #[serde(default)]
    pub stratum_tls: String,
    /// Admin HTTP.
    pub admin: String,
    /// Bitcoin P2P (nodes).
    #[serde(default)]
    pub p2p: String,
    /// The node's `data_dir`.
    #[serde(default)]
    pub data_dir: PathBuf,
}

impl Cluster {
    /// Starts `nodes` nodes and `proxies` proxies on `chain`, and waits until all are ready.
    pub fn start(chain: Chain, nodes: u16, proxies: u16, options: &[&str]) -> Self {
        Self::start_on(chain, nodes, proxies, options, |_| {})
    }

    /// As [`Cluster::start`], once `prepare` has seen to the directory that it will live in.
    pub fn start_on(
        chain: Chain,
        nodes: u16,
        proxies: u16,
        options: &[&str],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("seam-test-").tempdir().unwrap();
        prepare(dir.path());
        let chain_name = chain.to_string();
        let (nodes, proxies) = (nodes.to_string(), proxies.to_string());
        let mut arguments = vec!["dev", "up", "--chain", &chain_name, "--nodes", &nodes];
        arguments.extend(["--proxies", &proxies, "--deadline", "170"]);
        arguments.extend(["--dir", dir.path().to_str().unwrap()]);
        arguments.extend(options);
        let mut up = Program::start("seamctl", arguments);
        let path = dir.path().join("cluster.json");
        until_within(READY, "a ready cluster", || {
            if let Some(status) = up.ended() {
                panic!("seamctl dev up ended: {status}");
            }
            path.exists().then_some(())
        });
        let file = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        Self { up, file, dir: Some(dir), restarted: BTreeMap::new() }
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// The chain's name as `cluster.json` has it.
    pub fn chain(&self) -> &str {
        &self.file.chain
    }

    /// The CA's certificate.
    pub fn ca(&self) -> &Path {
        &self.file.ca
    }

    /// The admin token.
    pub fn token(&self) -> &str {
        &self.file.admin_token
    }

    /// The password for `mining.authorize_admin`.
    pub fn admin_password(&self) -> &str {
        &self.file.admin_password
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Member] {
        &self.file.nodes
    }

    /// The proxies.
    pub fn proxies(&self) -> &[Member] {
        &self.file.proxies
    }

    /// A member by name.
    pub fn member(&self, name: &str) -> &Member {
        let mut all = self.file.nodes.iter().chain(&self.file.proxies);
        all.find(|member| member.name == name).unwrap_or_else(|| panic!("no member {name}"))
    }

    /// The member's process id, of its newest start.
    pub fn pid(&self, name: &str) -> u32 {
        self.restarted.get(name).map_or(self.member(name).pid, Program::pid)
    }

    /// Bitcoin Core's RPC of a node; the cluster has to be started with `--rpc`.
    pub fn rpc(&self, name: &str) -> Rpc {
        let dev: Value =
            serde_json::from_slice(&fs::read(self.dir().join("dev.json")).unwrap()).unwrap();
        let node = dev["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name);
        let port = u16::try_from(node.unwrap()["rpc"].as_u64().unwrap()).unwrap();
        let chain = self.file.chain.parse().unwrap();
        Rpc::new(chain, &self.member(name).data_dir.join("bitcoin"), port)
    }

    /// Kills a member (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self, name: &str) {
        match self.restarted.get_mut(name) {
            Some(program) => program.kill(),
            None => {
                let pid = self.member(name).pid;
                process::signal(pid, Signal::KILL);
                until("a killed member to be gone", || is_gone(pid).then_some(()));
            }
        }
    }

    /// Stops a member (SIGTERM) and waits until it has ended; how long that may take is the promise.
    pub fn terminate(&mut self, name: &str, within: Duration) {
        match self.restarted.get_mut(name) {
            Some(program) => {
                program.terminate();
                let status = program.wait_within(within);
                assert!(status.success(), "{name} ended with {status}");
            }
            None => {
                let pid = self.member(name).pid;
                process::signal(pid, Signal::TERM);
                until_within(within, "a stopped member to be gone", || is_gone(pid).then_some(()));
            }
        }
    }

    /// How a restarted member ended, if it has.
    pub fn ended(&mut self, name: &str) -> Option<ExitStatus> {
        self.restarted.get_mut(name).and_then(Program::ended)
    }

    /// Stops a member without its knowledge (SIGSTOP): it holds its connections and says nothing.
    pub fn freeze(&self, name: &str) {
        process::signal(self.pid(name), Signal::STOP);
    }

    /// Lets a frozen member go on (SIGCONT).
    pub fn thaw(&self, name: &str) {
        process::signal(self.pid(name), Signal::CONT);
    }

    /// A node that does not lead.
    pub fn follower(&self) -> String {
        let leader = self.leader();
        let mut others = self.nodes().iter().filter(|node| node.name != leader);
        others.next().expect("more than one node").name.clone()
    }

    /// Starts a member that has ended once more, with the same configuration. Does not wait.
    pub fn restart(&mut self, name: &str) {
        self.restart_as(name, None, &[]);
    }

    /// As [`Cluster::restart`], with more in its environment.
    pub fn restart_with(&mut self, name: &str, environment: &[(&str, String)]) {
        self.restart_as(name, None, environment);
    }

    /// As [`Cluster::restart`], in a control group and with more in its environment.
    pub fn restart_as(&mut self, name: &str, group: Option<&Path>, environment: &[(&str, String)]) {
        let program = if name.starts_with("proxy") { "seam-proxy" } else { "seam-node" };
        let program = process::path(program);
        let config = self.dir().join(name).join("config.toml");
        let log = fs::OpenOptions::new().append(true).open(config.with_file_name("log")).unwrap();
        let mut command = match group {
            None => Command::new(program),
            // It has to be in the group before it makes its first socket.
            Some(group) => {
                let mut command = Command::new("sh");
                command.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]);
                command.arg(group.join("cgroup.procs")).arg(program);
                command
            }
        };
        command.arg("--config").arg(&config).envs(environment.iter().cloned());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.restarted.insert(name.to_owned(), Program::spawn(name, &mut command));
    }

    /// Whether a member says that it is ready.
    pub fn is_ready(&self, name: &str) -> bool {
        let url = format!("http://{}/readyz", self.member(name).admin);
        let request = ureq::get(url).config().timeout_global(Some(ANSWER)).build();
        request.call().is_ok_and(|answer| answer.status() == 200)
    }

    /// The value of a member's metric, all its labels included in `series`; panics if there is none.
    pub fn metric(&self, name: &str, series: &str) -> f64 {
        let url = format!("http://{}/metrics", self.member(name).admin);
        let text = ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    /// Waits until a member is ready; panics if it ends instead.
    pub fn wait_ready(&mut self, name: &str) {
        let what = format!("{name} to be ready");
        until_within(READY, &what, || {
            if let Some(status) = self.restarted.get_mut(name).and_then(Program::ended) {
                panic!("{name} ended with {status}");
            }
            self.is_ready(name).then_some(())
        });
    }

    /// What a member's admin port says at `path`; none while it says nothing.
    pub fn get(&self, name: &str, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.member(name).admin);
        let request = ureq::get(url).config().timeout_global(Some(ANSWER)).build();
        request.call().ok()?.body_mut().read_json().ok()
    }

    /// Who leads, as soon as someone does.
    pub fn leader(&self) -> String {
        until("a leader", || {
            self.nodes().iter().find_map(|node| {
                let status = self.get(&node.name, "/v1/status")?;
                let leads = status["leader"] == *node.name && status["quorum"] == true;
                leads.then(|| node.name.clone())
            })
        })
    }

    /// The log of a member, all its starts.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(name).join("log")).unwrap()
    }

    /// Runs `seamctl --json --cluster FILE …` and reads what it prints; panics if it fails.
    pub fn ctl(&self, words: &[&str]) -> Value {
        let output = self.try_ctl(words);
        assert!(
            output.status.success(),
            "seamctl {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// As [`Cluster::ctl`], whatever comes of it.
    pub fn try_ctl(&self, words: &[&str]) -> Output {
        let file = self.dir().join("cluster.json");
        let mut arguments = vec!["--json", "--cluster", file.to_str().unwrap()];
        arguments.extend(words);
        process::run("seamctl", arguments, COMMAND)
    }

    /// Gives a member a new certificate and key from the cluster's CA, which it has to notice by itself.
    pub fn renew_certificate(&self, name: &str) {
        let role = if name.starts_with("proxy") { "proxy" } else { "node" };
        let dir = self.ca().parent().unwrap().to_str().unwrap();
        self.ctl(&[
            "certs",
            role,
            name,
            "--dir",
            dir,
            "--host",
            "localhost",
            "--host",
            "127.0.0.1",
        ]);
    }

    /// Adds a user.
    pub fn add_user(&self, name: &str, password: &str) {
        self.ctl(&["user", "add", name, "--password", password]);
    }

    /// Mines with `seamctl mine` until its limit is reached, and returns its counts.
    pub fn mine(&self, url: &str, user: &str, password: &str, options: &[&str]) -> Value {
        let mut arguments = vec!["--json", "mine", "--url", url, "--user", user];
        arguments.extend(["--password", password]);
        arguments.extend(options);
        let output = process::run("seamctl", arguments, COMMAND);
        assert!(
            output.status.success(),
            "seamctl mine: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ends the cluster where members are dead that nobody started again: the others have to end well.
    pub fn stop_with_dead(mut self) {
        self.restarted.clear();
        self.up.terminate();
        self.up.wait_within(Duration::from_secs(90));
    }

    /// Ends the cluster, which has to end well.
    pub fn stop(mut self) {
        self.restarted.clear();
        self.up.terminate();
        let status = self.up.wait_within(Duration::from_secs(90));
        assert!(status.success(), "seamctl dev up ended with {status}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if (thread::panicking() || env::var_os("SEAM_TEST_KEEP").is_some())
            && let Some(dir) = self.dir.take()
        {
            eprintln!("files of the cluster: {}", dir.keep().display());
        }
    }
}

/// Whether a child of `seamctl dev up` has ended and was reaped. Before that, threads may still hold its ports.
fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
