//! `seamctl dev up`: a whole cluster on loopback, for development, tests and demonstrations.
//!
//! [`layout`] decides names, ports and secrets and remembers them; [`config`] writes configuration files;
//! [`process`] runs the programs; this file brings them up in order and stays until interrupted.

mod config;
mod layout;
mod process;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::{runtime, time};
use ureq::http::Method;

use self::layout::Layout;
use self::process::{Exit, Processes};
use crate::admin::{Admin, Endpoint, Kind, Payload};
use crate::cli::DevUpOptions;
use crate::cluster_file::{ClusterFile, NodeEntry, ProxyEntry};
use crate::failure::Failure;

/// How often a condition is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) fn up(options: &DevUpOptions) -> Result<(), Failure> {
    // One thread: children are bound to the life of the thread that started them.
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("cannot start", error))?
        .block_on(run(options))
}

async fn run(options: &DevUpOptions) -> Result<(), Failure> {
    fs::create_dir_all(&options.dir)
        .map_err(|error| Failure::Usage(format!("{}: {error}", options.dir.display())))?;
    let dir = options.dir.canonicalize().map_err(|error| failed("cannot start", error))?;
    let programs = Programs::find(options)?;
    let file = dir.join("cluster.json");
    // Its presence says that all are ready.
    remove_if_there(&file)?;
    let mut layout = Layout::prepare(&dir, options)?;
    config::write_all(&layout, options)?;

    let mut stop = Stop::watch()?;
    let mut processes = Processes::default();
    for node in &layout.nodes {
        processes.start(&node.name, &programs.node, &layout.config_of(&node.name))?;
    }
    for proxy in &layout.proxies {
        processes.start(&proxy.name, &programs.proxy, &layout.config_of(&proxy.name))?;
    }
    let outcome = tokio::select! {
        outcome = bring_up(&mut layout, &mut processes, options) => outcome.map(Some),
        () = stop.wanted() => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some(())) => {
            describe(&layout, &processes)?.write(&file)?;
            announce(&layout, &file);
            stay(&layout, &mut processes, &mut stop, &file, options.respawn).await
        }
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    let stopped = processes.stop(&layout.proxy_names(), &layout.node_names()).await;
    remove_if_there(&file)?;
    outcome.and(stopped)
}

/// Forms the cluster and waits until every member is ready.
async fn bring_up(
    layout: &mut Layout,
    processes: &mut Processes,
    options: &DevUpOptions,
) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(options.deadline);
    let admin = Arc::new(Admin::of_addresses(
        &layout.nodes.iter().map(|node| node.admin()).collect::<Vec<_>>(),
        Some(layout.admin_token.clone()),
    ));
    let endpoint =
        |name: &str, address: String, kind| Endpoint { name: Some(name.to_owned()), address, kind };
    let nodes: Vec<Endpoint> =
        layout.nodes.iter().map(|node| endpoint(&node.name, node.admin(), Kind::Node)).collect();
    let proxies: Vec<Endpoint> = layout
        .proxies
        .iter()
        .map(|proxy| endpoint(&proxy.name, proxy.admin(), Kind::Proxy))
        .collect();

    if !layout.formed {
        let first = &nodes[0];
        wait_for(&admin, first, "/healthz", processes, deadline).await?;
        init(&admin, first, deadline).await?;
        layout.formed = true;
        layout.save()?;
    }
    for member in nodes.iter().chain(&proxies) {
        wait_for(&admin, member, "/readyz", processes, deadline).await?;
        println!("{} is ready", member.name.as_deref().unwrap_or_default());
    }
    wait_for_votes(&admin, &nodes, deadline).await
}

/// Waits until every node votes: before that, a cluster of three may not survive the loss of one.
async fn wait_for_votes(
    admin: &Arc<Admin>,
    nodes: &[Endpoint],
    deadline: Instant,
) -> Result<(), Failure> {
    loop {
        let (asked, first) = (Arc::clone(admin), nodes[0].clone());
        let answer = spawn_blocking(move || asked.get_at(&first, "/v1/status"));
        let answer = answer.await.map_err(|error| failed("waiting", error))?;
        let votes = answer.ok().and_then(|status| status["voters"].as_u64());
        if votes == Some(nodes.len() as u64) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let votes = votes.unwrap_or(0);
            let all = nodes.len();
            return Err(Failure::Refused(format!("only {votes} of {all} nodes vote in time")));
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// Forms the cluster on one node; a node that is still starting says so, and is asked again. A run that was
/// stopped right after this step has formed it already.
async fn init(admin: &Arc<Admin>, first: &Endpoint, deadline: Instant) -> Result<(), Failure> {
    loop {
        let (admin, first) = (Arc::clone(admin), first.clone());
        let asked = spawn_blocking(move || {
            if admin.get_at(&first, "/v1/status")?["cluster_id"].is_string() {
                return Ok(());
            }
            let nothing = json!({});
            let init = Payload::Json(&nothing);
            admin.change_at(&first, Method::POST, "/v1/cluster/init", init).map(|_| ())
        });
        match asked.await.map_err(|error| failed("cluster init", error))? {
            Ok(()) => return Ok(()),
            Err(failure) if Instant::now() >= deadline => return Err(failure),
            Err(_) => time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Waits until `path` answers 200 at `member`, and fails early when a process ends.
async fn wait_for(
    admin: &Arc<Admin>,
    member: &Endpoint,
    path: &'static str,
    processes: &mut Processes,
    deadline: Instant,
) -> Result<(), Failure> {
    let name = member.name.clone().unwrap_or_default();
    loop {
        if let Some(exit) = processes.ended()? {
            return Err(Failure::Refused(exit.to_string()));
        }
        let (asked_admin, asked_member) = (Arc::clone(admin), member.clone());
        let asked = spawn_blocking(move || asked_admin.status_at(&asked_member, path));
        let answer = asked.await.map_err(|error| failed("waiting", error))?;
        if matches!(answer, Ok(200)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let seen = match answer {
                Ok(status) => format!("{path} answers {status}"),
                Err(failure) => failure.to_string(),
            };
            return Err(Failure::Refused(format!(
                "{name} was not ready in time: {seen}\n{}",
                processes.tail(&name)
            )));
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// Runs until interrupted; tells who ends, and starts it again where that is wanted.
async fn stay(
    layout: &Layout,
    processes: &mut Processes,
    stop: &mut Stop,
    file: &Path,
    respawn: bool,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            () = stop.wanted() => return Ok(()),
            exit = processes.next_exit() => {
                let exit: Exit = exit?;
                eprintln!("{exit}");
                if respawn {
                    // A program that cannot start at all should not spin.
                    time::sleep(Duration::from_millis(500)).await;
                    processes.restart(&exit.name)?;
                    describe(layout, processes)?.write(file)?;
                    eprintln!("{} is started again", exit.name);
                }
            }
        }
    }
}

fn describe(layout: &Layout, processes: &Processes) -> Result<ClusterFile, Failure> {
    let pid = |name: &str| processes.pid(name).unwrap_or_default();
    Ok(ClusterFile {
        chain: layout.chain.clone(),
        ca: layout.ca(),
        admin_token: layout.admin_token.clone(),
        admin_password: layout.admin_password.clone(),
        nodes: layout
            .nodes
            .iter()
            .map(|node| NodeEntry {
                name: node.name.clone(),
                pid: pid(&node.name),
                stratum: node.stratum(),
                cluster: node.cluster(),
                admin: node.admin(),
                p2p: node.p2p(),
                data_dir: layout.data_dir(&node.name),
            })
            .collect(),
        proxies: layout
            .proxies
            .iter()
            .map(|proxy| ProxyEntry {
                name: proxy.name.clone(),
                pid: pid(&proxy.name),
                stratum: proxy.stratum(),
                stratum_tls: proxy.stratum_tls(),
                admin: proxy.admin(),
            })
            .collect(),
    })
}

fn announce(layout: &Layout, file: &Path) {
    for node in &layout.nodes {
        println!("{}: stratum {}, admin http://{}/", node.name, node.stratum(), node.admin());
    }
    for proxy in &layout.proxies {
        println!(
            "{}: stratum {}, TLS {}, admin http://{}/",
            proxy.name,
            proxy.stratum(),
            proxy.stratum_tls(),
            proxy.admin()
        );
    }
    println!("all ready: {}", file.display());
}

/// The programs that a cluster consists of, beside this one.
struct Programs {
    node: PathBuf,
    proxy: PathBuf,
}

impl Programs {
    fn find(options: &DevUpOptions) -> Result<Self, Failure> {
        let own = env::current_exe().map_err(|error| failed("where am I", error))?;
        let dir = own.parent().unwrap_or(Path::new("."));
        let programs = Self { node: dir.join("seam-node"), proxy: dir.join("seam-proxy") };
        let needed = [(true, &programs.node), (options.proxies > 0, &programs.proxy)];
        for (needed, program) in needed {
            if needed && !program.is_file() {
                return Err(Failure::Usage(format!(
                    "{} is not there: build it first (make build)",
                    program.display()
                )));
            }
        }
        Ok(programs)
    }
}

/// The wish to stop: Ctrl-C or SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn watch() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(|error| failed("cannot watch signals", error));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn remove_if_there(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::Usage(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Refused(format!("{what}: {error}"))
}
