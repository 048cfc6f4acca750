//! A pod's life: its process, its probes, and how it is stopped.

use std::fs::{self, OpenOptions};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use seam_integration::{Program, until_within};

use crate::host::Host;
use crate::manifest::{PodSpec, Probe};

/// How often the probes' schedule is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A running pod.
pub(crate) struct Pod {
    /// Its name.
    pub(crate) name: String,
    spec: PodSpec,
    process: Program,
    prober: Prober,
}

/// How a pod ended.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// How long `preStop` took.
    pub(crate) pre_stop: Duration,
    /// From the request to stop to the end of the process.
    pub(crate) took: Duration,
}

impl Pod {
    /// Starts a pod's container.
    pub(crate) fn start(host: &Host, name: &str, spec: &PodSpec) -> Self {
        host.prepare(name, spec);
        let mut words =
            if spec.command.is_empty() { vec![spec.image.clone()] } else { spec.command.clone() };
        words.extend(spec.args.iter().cloned());
        let mut command = host.command(name, spec, &words);
        let log = host.log(name);
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let process = Program::spawn(name, &mut command);
        let prober = Prober::start(host, name, spec);
        Self { name: name.to_owned(), spec: spec.clone(), process, prober }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Panics if the container ended, or if its probes would have had it restarted.
    pub(crate) fn check(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("{} ended by itself: {status}", self.name);
        }
        let state = self.prober.state();
        assert!(!state.must_restart, "{}: its probes ask for a restart", self.name);
    }

    /// Whether Services send traffic to it.
    pub(crate) fn is_ready(&self) -> bool {
        self.prober.state().ready_since.is_some()
    }

    /// Whether it has been ready for so long.
    pub(crate) fn is_available(&self, min_ready: Duration) -> bool {
        self.prober.state().ready_since.is_some_and(|since| since.elapsed() >= min_ready)
    }

    /// Times that it was ready and then was not.
    pub(crate) fn lapses(&self) -> u32 {
        self.prober.state().lapses
    }

    /// Runs a command in it, as `kubectl exec`; panics if it fails. Returns what it printed.
    pub(crate) fn exec(&self, host: &Host, words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let output = host.command(&self.name, &self.spec, &words).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {words:?}: {} {errors}", self.name, output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stops it as kubelet does: `preStop`, SIGTERM, and SIGKILL when the grace period is over,
    /// which no pod of ours may need.
    pub(crate) fn stop(mut self, host: &Host) -> Stopped {
        let began = Instant::now();
        if let Some(words) = &self.spec.pre_stop {
            let mut command = host.command(&self.name, &self.spec, words);
            let mut hook = Program::spawn("preStop", &mut command);
            let status = until_within(self.spec.grace, "preStop", || hook.ended());
            assert!(status.success(), "preStop of {}: {status}", self.name);
        }
        let pre_stop = began.elapsed();
        self.process.terminate();
        let status = self.end_or_kill(self.spec.grace.saturating_sub(pre_stop));
        assert!(status.success(), "{} ended with {status}", self.name);
        Stopped { pre_stop, took: began.elapsed() }
    }

    fn end_or_kill(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.process.ended() {
                return status;
            }
            if Instant::now() >= deadline {
                self.process.kill();
                panic!("{} was killed after its grace period", self.name);
            }
            thread::sleep(LOOK);
        }
    }
}

/// Asks a pod's probes until it is dropped.
struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct State {
    is_started: bool,
    ready_since: Option<Instant>,
    lapses: u32,
    must_restart: bool,
}

impl Prober {
    fn start(host: &Host, pod: &str, spec: &PodSpec) -> Self {
        let asked = |probe: &Option<Probe>| {
            probe.clone().map(|probe| {
                let address = host.address(pod, spec.ports[&probe.port]);
                Asked::new(format!("http://{address}{}", probe.path), probe)
            })
        };
        let probes = [asked(&spec.startup), asked(&spec.readiness), asked(&spec.liveness)];
        let shared = Arc::new(Shared { state: Mutex::default(), stop: AtomicBool::new(false) });
        let seen = Arc::clone(&shared);
        let thread = thread::spawn(move || probe_until_stopped(&seen, probes));
        Self { shared, thread: Some(thread) }
    }

    fn state(&self) -> State {
        *self.shared.state.lock().unwrap()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn probe_until_stopped(
    shared: &Shared,
    [mut startup, mut readiness, mut liveness]: [Option<Asked>; 3],
) {
    while !shared.stop.load(Ordering::Relaxed) {
        let mut state = *shared.state.lock().unwrap();
        if state.is_started {
            match readiness.as_mut().and_then(Asked::look) {
                Some(Verdict::Works) => {
                    state.ready_since.get_or_insert_with(Instant::now);
                }
                Some(Verdict::Fails) => {
                    state.lapses += u32::from(state.ready_since.take().is_some());
                }
                None => {}
            }
            state.must_restart |= liveness.as_mut().and_then(Asked::look) == Some(Verdict::Fails);
        } else {
            match startup.as_mut().map(Asked::look) {
                None | Some(Some(Verdict::Works)) => state.is_started = true,
                Some(Some(Verdict::Fails)) => state.must_restart = true,
                Some(None) => {}
            }
        }
        *shared.state.lock().unwrap() = state;
        thread::sleep(LOOK);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    /// As often in a row as it takes.
    Fails,
}

/// A probe with its schedule.
struct Asked {
    url: String,
    probe: Probe,
    agent: ureq::Agent,
    next: Instant,
    failed: u32,
}

impl Asked {
    fn new(url: String, probe: Probe) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(probe.timeout))
            // Each probe is a connection of its own, as kubelet's are.
            .max_idle_connections(0)
            .build()
            .new_agent();
        Self { url, probe, agent, next: Instant::now(), failed: 0 }
    }

    /// Asks if it is time.
    fn look(&mut self) -> Option<Verdict> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + self.probe.period;
        if self.agent.get(&self.url).call().is_ok() {
            self.failed = 0;
            return Some(Verdict::Works);
        }
        self.failed += 1;
        (self.failed >= self.probe.failures).then_some(Verdict::Fails)
    }
}
