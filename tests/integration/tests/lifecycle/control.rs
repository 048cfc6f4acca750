//! What Kubernetes' controllers do with the pods: Job, StatefulSet, Deployment.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use seam_load::Load;
use serde_json::Value;

use crate::host::Host;
use crate::kubelet::{Pod, Stopped};
use crate::manifest::{Manifests, PodSpec, Workload};
use crate::service::Service;

/// A new node has to be ready by then: debug builds on two busy cores.
const READY: Duration = Duration::from_secs(90);
/// Between two attempts of a Job.
const BACKOFF: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);
/// About so late a Service's forwarders learn that a pod is being stopped.
const PROPAGATION: Duration = Duration::from_secs(1);

/// The deployment as it runs.
pub(crate) struct Deployment {
    /// The machine.
    pub(crate) host: Host,
    /// What was applied.
    pub(crate) manifests: Manifests,
    nodes: Workload,
    node: PodSpec,
    proxies: Workload,
    proxy: PodSpec,
    /// Proxies that were started, whose names are never used again.
    started_proxies: usize,
    service: Service,
    pods: BTreeMap<String, Pod>,
    load: Option<Load>,
    began: Instant,
}

impl Deployment {
    /// Applies the manifests: all pods start at once, none is waited for.
    pub(crate) fn apply(manifests: Manifests) -> Self {
        let nodes = manifests.workload("StatefulSet", "seam-node");
        assert!(nodes.is_parallel(), "members need each other to become ready");
        let proxies = manifests.workload("Deployment", "seam-proxy");
        let (node, proxy) = (nodes.pod(&manifests), proxies.pod(&manifests));
        // Each is replaced once.
        let names: Vec<String> = (0..2 * proxies.replicas()).map(proxy_name).collect();
        let others: Vec<(&str, &PodSpec)> =
            names.iter().map(|name| (name.as_str(), &proxy)).collect();
        let service = Service::open();
        let miners = manifests.workload("Service", "seam");
        let known = format!("{}:{}", miners.host(), miners.port("stratum"));
        let host = Host::new(&node, &others, vec![(known, service.address())]);
        host.make_secrets(nodes.replicas());
        let mut this = Self {
            host,
            manifests,
            nodes,
            node,
            proxies,
            proxy,
            started_proxies: 0,
            service,
            pods: BTreeMap::new(),
            load: None,
            began: Instant::now(),
        };
        for number in 0..this.nodes.replicas() {
            this.start_node(number);
        }
        for _ in 0..this.proxies.replicas() {
            this.start_proxy();
        }
        this
    }

    /// How many nodes the manifests start with.
    pub(crate) fn replicas(&self) -> usize {
        self.nodes.replicas()
    }

    /// Runs the Job that forms the cluster until it succeeds. Returns what it printed last.
    pub(crate) fn run_init_job(&self) -> String {
        let job = self.manifests.workload("Job", "seam-init").pod(&self.manifests);
        self.host.prepare("seam-init", &job);
        let deadline = Instant::now() + READY;
        loop {
            let mut command = self.host.command("seam-init", &job, &job.command);
            let output = command.output().unwrap();
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(Instant::now() < deadline, "the Job fails: {errors}");
            thread::sleep(BACKOFF);
        }
    }

    /// A pod.
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        &self.pods[name]
    }

    /// Where miners connect, when all proxies are ready.
    pub(crate) fn service(&self) -> String {
        assert_eq!(self.update_service(), self.proxies.replicas());
        self.service.address()
    }

    /// Names of the proxies.
    pub(crate) fn proxies(&self) -> Vec<String> {
        let names = self.pods.keys().filter(|name| name.starts_with(PROXY));
        names.cloned().collect()
    }

    /// The endpoints of the Service are the proxies that are ready. Returns how many.
    fn update_service(&self) -> usize {
        let ready = self.proxies().into_iter().filter(|name| self.pods[name].is_ready());
        let endpoints: Vec<String> =
            ready.map(|name| self.host.address(&name, self.proxy.ports["stratum"])).collect();
        let count = endpoints.len();
        self.service.goes_to(endpoints);
        count
    }

    /// Miners are at work from now on, and must not notice anything of what happens.
    pub(crate) fn watch_over(&mut self, load: Load) {
        self.load = Some(load);
    }

    /// The miners' run.
    pub(crate) fn take_load(&mut self) -> Load {
        self.load.take().unwrap()
    }

    /// Waits until all pods are ready.
    pub(crate) fn wait_ready(&mut self) {
        self.wait("all pods to be ready", |this| this.pods.values().all(Pod::is_ready));
    }

    /// Waits for a condition; panics as soon as a pod ends, asks for a restart, or a miner notices something.
    pub(crate) fn wait(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + READY;
        while !condition(self) {
            self.check();
            assert!(Instant::now() < deadline, "waited {READY:?} for {what}");
            thread::sleep(LOOK);
        }
    }

    /// Panics if anything is not as it should be.
    pub(crate) fn check(&mut self) {
        for pod in self.pods.values_mut() {
            pod.check();
        }
        self.update_service();
        if let Some(load) = &self.load {
            assert_eq!(load.live().drops(), 0, "connections were closed");
        }
    }

    /// Says what was done and how long after the start.
    pub(crate) fn say(&self, what: &str) {
        let shares = self.load.as_ref().map_or(0, |load| load.live().accepted());
        eprintln!("{:6.1} s, {shares} shares: {what}", self.began.elapsed().as_secs_f64());
    }

    /// Starts the pod of a number, with whatever is on its disk.
    pub(crate) fn start_node(&mut self, number: usize) {
        let name = format!("seam-node-{number}");
        let pod = Pod::start(&self.host, &name, &self.node);
        self.pods.insert(name, pod);
    }

    /// Deletes the pod of a number and waits until it is gone.
    pub(crate) fn delete_node(&mut self, number: usize) -> Stopped {
        let name = format!("seam-node-{number}");
        let pod = self.pods.remove(&name).unwrap();
        let stopped = pod.stop(&self.host);
        self.check();
        let (pre_stop, took) = (stopped.pre_stop.as_secs_f64(), stopped.took.as_secs_f64());
        self.say(&format!("{name} gone in {took:.1} s, {pre_stop:.1} s of them preStop"));
        stopped
    }

    /// Replaces the nodes one at a time, highest number first, each only when the one before has been ready for a while.
    pub(crate) fn roll_nodes(&mut self, changed: PodSpec) {
        self.node = changed;
        let min_ready = self.nodes.min_ready();
        for number in (0..self.nodes.replicas()).rev() {
            let before = self.pods[&format!("seam-node-{number}")].pid();
            self.delete_node(number);
            self.start_node(number);
            let name = format!("seam-node-{number}");
            self.wait("a new pod to be available", |this| this.pods[&name].is_available(min_ready));
            assert_ne!(self.pods[&name].pid(), before);
            self.say(&format!("{name} replaced and available"));
        }
    }

    /// Replaces the proxies as a Deployment does: a new one is available before an old one is told to
    /// stop, and the Service forgets that one a moment later. Waits each time until `is_settled`.
    pub(crate) fn roll_proxies(&mut self, changed: PodSpec, is_settled: impl Fn(&Self) -> bool) {
        assert_eq!(self.proxies.surge(), (1, 0), "one more, and none fewer");
        self.proxy = changed;
        let (old, min_ready) = (self.proxies(), self.proxies.min_ready());
        for name in old {
            let new = self.start_proxy();
            self.wait("a new proxy to be available", |this| {
                this.pods[&new].is_available(min_ready)
            });
            let pod = self.pods.remove(&name).unwrap();
            let stopped = thread::scope(|scope| {
                let stopping = scope.spawn(|| pod.stop(&self.host));
                thread::sleep(PROPAGATION);
                assert_eq!(self.update_service(), self.proxies.replicas(), "as many as before");
                stopping.join()
            });
            let stopped = stopped.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.wait("the miners to be back", &is_settled);
            let took = stopped.took.as_secs_f64();
            self.say(&format!("{name} gone in {took:.1} s, {new} in its place"));
        }
    }

    /// Starts a proxy under a new name.
    fn start_proxy(&mut self) -> String {
        let name = proxy_name(self.started_proxies);
        self.started_proxies += 1;
        let pod = Pod::start(&self.host, &name, &self.proxy);
        self.pods.insert(name.clone(), pod);
        name
    }

    /// The proxies' pod.
    pub(crate) fn proxy_spec(&self) -> PodSpec {
        self.proxy.clone()
    }

    /// Miners that have work.
    pub(crate) fn ready_miners(&self) -> u64 {
        self.load.as_ref().map_or(0, |load| load.live().ready())
    }

    /// The nodes' pod.
    pub(crate) fn node_spec(&self) -> PodSpec {
        self.node.clone()
    }

    /// Deletes a node's disk.
    pub(crate) fn delete_claim(&self, number: usize) {
        std::fs::remove_dir_all(self.host.volume(&format!("seam-node-{number}"))).unwrap();
    }

    /// Runs `seamctl --json …` in a pod.
    pub(crate) fn ctl(&self, pod: &str, words: &[&str]) -> Value {
        let words = [&["seamctl", "--json"], words].concat();
        serde_json::from_str(&self.pods[pod].exec(&self.host, &words)).unwrap()
    }

    /// Stops everything, in no order, all at once: as deleting the namespace does.
    pub(crate) fn delete(mut self) {
        let host = &self.host;
        let pods = std::mem::take(&mut self.pods);
        thread::scope(|scope| {
            for pod in pods.into_values() {
                scope.spawn(|| pod.stop(host));
            }
        });
    }
}

const PROXY: &str = "seam-proxy-";

fn proxy_name(number: usize) -> String {
    format!("{PROXY}{number}")
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("files of the pods: {}", self.host.keep().display());
        }
    }
}
