//! The node's life: what starts after what, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seam_bitcoin_core::{Chain as CoreChain, Core, Error as CoreError, Options, Stop};
use seam_cluster::durable::DurableError;
use seam_cluster::logging::Filter;
use seam_cluster::{Cluster, StartError};
use seam_stratum::job::Payout;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::announce::Announcer;
use crate::auth::Gate;
use crate::clock::Clock;
use crate::config::{Chain, Config};
use crate::direct::{self, Direct};
use crate::drain;
use crate::fault::{Code, Fault};
use crate::feeds;
use crate::host::{self, NodeHost};
use crate::jobmaker::JobMaker;
use crate::jobs::Jobs;
use crate::keeper::Keeper;
use crate::ledger::Ledger;
use crate::limits::Addresses;
use crate::linked;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::pool::{Pool, Settings};
use crate::preflight::{self, Prepared};
use crate::registry::Registry;
use crate::solver::{Solver, Workshop};
use crate::{admin, monitor};

/// Runs a node until it is told to stop. Returns early only if it cannot start or go on.
pub async fn run(
    config: Config,
    prepared: Prepared,
    metrics: Arc<Metrics>,
    filter: Filter,
    mut signals: Signals,
) -> Result<(), Fault> {
    let clock = Clock::system();
    let node = Arc::new(Node::new(config, prepared.token.clone(), clock, metrics, filter));
    let stopping = CancellationToken::new();
    let mut tasks = JoinSet::new();
    serve_admin(&node, &prepared, &mut tasks)?;
    let _watch = tokio::spawn(monitor::watch(Arc::clone(&node)));

    let mut starting = tokio::task::spawn_blocking(core_start(&node.config));
    let mut told_to_stop = false;
    let started = tokio::select! {
        started = &mut starting => started,
        () = signals.stop() => {
            tracing::info!("told to stop while Bitcoin Core starts");
            told_to_stop = true;
            Stop::default().request();
            match tokio::time::timeout(CORE_START_ABORT, starting).await {
                Ok(started) => started,
                Err(_) => return Ok(()),
            }
        }
    };
    let core = match started {
        Ok(Ok(core)) => core,
        // Told to stop, by us or by a signal that reached Core's own handler.
        Ok(Err(CoreError::Stopping)) => return Ok(()),
        Ok(Err(error)) => return Err(core_fault(&error)),
        Err(error) => return Err(Fault::new(Code::Panicked, error.to_string())),
    };
    if told_to_stop {
        // It was up before it heard of that.
        stop_core(core).await;
        return Ok(());
    }
    let _ = node.core.set(core.clone());
    tracing::info!("Bitcoin Core runs");
    let parts = match start_parts(&node, &core, prepared, &stopping, &mut tasks).await {
        Ok(parts) => parts,
        Err(fault) => {
            stop_core(core).await;
            return Err(fault);
        }
    };

    let ended = tokio::select! {
        () = signals.stop() => Ok(()),
        fault = watch_core(core.clone()) => Err(fault),
        () = node.stop.notified() => Err(Fault::new(Code::Panicked, "a part of the node failed")),
        Some(ended) = tasks.join_next() => Err(panicked(ended)),
    };
    if let Err(fault) = &ended {
        tracing::error!(code = %fault.code, "{}", fault.message);
        node.fail();
    }
    tracing::info!("stopping");
    let finish = shut_down(&node, parts, core, &stopping);
    tokio::select! {
        () = finish => {}
        () = signals.stop() => tracing::warn!("told twice: stopping at once"),
    }
    ended
}

/// What has to be ended in order.
struct Parts {
    cluster: Cluster,
    host: Arc<NodeHost>,
    stop_jobs: Arc<AtomicBool>,
}

async fn start_parts(
    node: &Arc<Node>,
    core: &Core,
    prepared: Prepared,
    stopping: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<Parts, Fault> {
    let (config, clock, metrics) = (&node.config, &node.clock, &node.metrics);
    let keeper = restore_blocks(config, core, metrics).await?;
    let (host, arrivals) =
        NodeHost::new(core.clone(), clock.clone(), Arc::clone(metrics), Arc::clone(&node.pulses));
    let cluster = Cluster::start(cluster_config(config), Arc::clone(&host) as _)
        .await
        .map_err(|error| cluster_fault(&error))?;
    let _ = node.cluster.set(cluster.clone());
    metrics.add_cluster(cluster.clone());
    let workshop = Workshop {
        core: core.clone(),
        cluster: cluster.clone(),
        node: config.name.clone(),
        address: config.pool.address.trim().to_owned(),
        network: bcoin_network(config.bitcoin.chain),
        keeper,
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
    };
    let (solver, work) = Solver::new(workshop);
    thread("solver", node, stopping, work)?;
    host.connect(Arc::clone(&solver));

    let jobs = Arc::new(Jobs::new());
    let ledger: Arc<dyn Ledger> = Arc::new(cluster.clone());
    let limits = &config.limits;
    let pool = Arc::new(Pool {
        settings: Settings::new(config),
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
        jobs: Arc::clone(&jobs),
        gate: Gate::new(
            Arc::clone(&ledger),
            config.pool.authorization,
            config.bitcoin.chain.network(),
            prepared.admin_password,
            Duration::from_millis(limits.refused_login_delay_ms),
        ),
        ledger,
        solver,
        registry: Registry::new(limits.parked_sessions, limits.parked_seconds, clock.clone()),
        addresses: Arc::new(Addresses::new(limits.clone(), clock.clone(), Arc::clone(metrics))),
        links: Links::default(),
    });
    let _ = node.pool.set(Arc::clone(&pool));
    let direct = Direct::new(Arc::clone(&pool), limits.clone(), &config.stratum.public);
    let _ = node.direct.set(Arc::clone(&direct));

    let announcer = Announcer::new(cluster.clone(), clock.clone());
    tasks.spawn(Arc::clone(&announcer).repeat());
    let stop_jobs = Arc::new(AtomicBool::new(false));
    let job_maker = JobMaker {
        core: core.clone(),
        jobs: Arc::clone(&jobs),
        publish: Box::new(move |package| announcer.publish(package)),
        lease: feeds::job_lease(cluster.clone(), stopping.clone()),
        settings: config.jobs.clone(),
        is_private_chain: config.bitcoin.chain.is_private(),
        payout: Payout::to_script(config.payout_script()?.into_bytes()),
        tag: config.pool.tag.clone().into_bytes(),
        nonce2_len: config.stratum.extranonce2_size,
        version_mask: pool.settings.version_mask,
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
        stop: Arc::clone(&stop_jobs),
    };
    thread("jobs", node, stopping, move || job_maker.run())?;

    let peers_jobs = host::take_jobs(
        arrivals.jobs,
        jobs,
        core.clone(),
        cluster.clone(),
        clock.clone(),
        Arc::clone(metrics),
    );
    tasks.spawn(peers_jobs);
    tasks.spawn(feeds::numbers(cluster.clone(), Arc::clone(&pool), config.name.clone()));
    tokio::spawn(feeds::import_users(cluster.clone(), prepared.users));
    tasks.spawn(linked::accept(arrivals.links, Arc::clone(node), Arc::clone(&pool)));
    tasks.spawn(Arc::clone(&direct).fan_out());
    tasks.spawn(open_stratum(Arc::clone(node), direct));
    Ok(Parts { cluster, host, stop_jobs })
}

/// Gives Core back those blocks of ours that it had not on disk when the node was killed.
async fn restore_blocks(
    config: &Config,
    core: &Core,
    metrics: &Arc<Metrics>,
) -> Result<Keeper, Fault> {
    let (dir, core, metrics) = (config.data_dir.join("solved"), core.clone(), Arc::clone(metrics));
    let restored = tokio::task::spawn_blocking(move || {
        let mut keeper = Keeper::open(dir, core, metrics)?;
        keeper.restore();
        Ok(keeper)
    });
    restored
        .await
        .map_err(|error| Fault::new(Code::Panicked, error.to_string()))?
        .map_err(|error: DurableError| Fault::new(Code::Directory, error.to_string()))
}

/// A thread whose panic ends the node.
fn thread(
    name: &str,
    node: &Arc<Node>,
    stopping: &CancellationToken,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), Fault> {
    let (node, stopping) = (Arc::clone(node), stopping.clone());
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        // The cluster's calls leave what they begin to tasks.
        let _inside = runtime.enter();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        if ended.is_err() && !stopping.is_cancelled() {
            node.fail();
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| Fault::new(Code::Panicked, format!("no thread for {name}: {error}")))
}

/// Opens the stratum port as soon as there is something to mine.
async fn open_stratum(node: Arc<Node>, direct: Arc<Direct>) {
    while !node.may_open() {
        tokio::time::sleep(READY_POLL).await;
    }
    let address = &node.config.stratum.listen;
    let listener = direct::listen("stratum.listen", address).and_then(|listener| {
        TcpListener::from_std(listener).map_err(|error| Fault::new(Code::Listen, error.to_string()))
    });
    match listener {
        Ok(listener) => {
            node.opened();
            tracing::info!(%address, "ready: miners may come");
            let error = direct.accept(listener).await;
            tracing::error!(code = %Code::Listen, %error, "the stratum port failed");
        }
        Err(fault) => tracing::error!(code = %fault.code, "{}", fault.message),
    }
}

fn serve_admin(
    node: &Arc<Node>,
    prepared: &Prepared,
    tasks: &mut JoinSet<()>,
) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::new(Code::Listen, format!("admin.listen: {error}"));
    let listener = prepared.admin.try_clone().map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let router = admin::router(Arc::clone(node));
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(code = %Code::Listen, %error, "the admin port failed");
        }
    });
    Ok(())
}

/// Starts Core; takes as long as that takes.
fn core_start(config: &Config) -> impl FnOnce() -> Result<Core, CoreError> + Send + 'static {
    let options = Options {
        data_dir: config.data_dir.join("bitcoin"),
        chain: core_chain(config.bitcoin.chain),
        extra: config.bitcoin.options.clone(),
    };
    tracing::info!(chain = %config.bitcoin.chain, "starting Bitcoin Core");
    move || Core::start(&options)
}

/// Returns when Core wants to stop by itself.
async fn watch_core(core: Core) -> Fault {
    loop {
        let waiting = core.clone();
        let waited = tokio::task::spawn_blocking(move || {
            waiting.wait_for_shutdown_request(CORE_WATCH_SLICE)
        });
        match waited.await {
            Ok(None) => {}
            Ok(Some(shutdown)) => {
                let why = shutdown.error.unwrap_or_else(|| "it was asked to".into());
                return Fault::new(Code::CoreStopped, format!("Bitcoin Core stops: {why}"));
            }
            Err(error) => return Fault::new(Code::Panicked, error.to_string()),
        }
    }
}

/// Sessions first, then what they stand on.
async fn shut_down(node: &Arc<Node>, parts: Parts, core: Core, stopping: &CancellationToken) {
    let began = node.clock.monotonic_millis();
    node.begin_drain();
    let patience = Duration::from_secs(node.config.limits.drain_seconds).min(MAX_DRAIN);
    let drained = async {
        while !node.drain.update(&node.clock, &node.metrics) {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    if tokio::time::timeout(patience, drained).await.is_err() {
        let left = node.metrics.live_sessions();
        tracing::warn!(code = %Code::StopTooSlow, left, "sessions were left when time was up");
        node.metrics.drains.get_or_create(&[("result", "timeout")]).inc();
    }
    stopping.cancel();
    parts.stop_jobs.store(true, Ordering::Release);
    parts.host.disconnect();
    drain::give_up_leadership_now(node).await;
    if tokio::time::timeout(LEDGER_PATIENCE, parts.cluster.shutdown()).await.is_err() {
        tracing::warn!(code = %Code::StopTooSlow, "the ledger did not stop in time");
    }
    stop_core(core).await;
    let took = node.clock.monotonic_millis().saturating_sub(began);
    tracing::info!(millis = took, "stopped");
}

async fn stop_core(core: Core) {
    match tokio::task::spawn_blocking(move || core.stop()).await {
        Ok(Ok(())) => tracing::info!("Bitcoin Core stopped"),
        Ok(Err(error)) => tracing::error!(%error, "Bitcoin Core stopped"),
        Err(error) => tracing::error!(%error, "stopping Bitcoin Core"),
    }
}

/// SIGTERM and SIGINT stop; SIGHUP has certificates looked at, which the cluster does anyway.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes them from now on; one that came before it is asked for is not lost.
    pub fn install() -> Result<Self, Fault> {
        let install = |kind| {
            signal(kind).map_err(|error| Fault::new(Code::Panicked, format!("signals: {error}")))
        };
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
            hang_up: install(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => tracing::info!("certificates are read when they change"),
            }
        }
    }
}

fn cluster_config(config: &Config) -> seam_cluster::Config {
    let cluster = &config.cluster;
    let advertise = if cluster.advertise.is_empty() { &cluster.listen } else { &cluster.advertise };
    let mut wanted = seam_cluster::Config::new(
        config.name.clone(),
        config.data_dir.clone(),
        cluster.listen.clone(),
        advertise.clone(),
        cluster.seeds.clone(),
        preflight::tls_files(config),
    );
    wanted.timing.share_deadline = Duration::from_millis(config.limits.commit_wait_ms);
    wanted
}

fn core_chain(chain: Chain) -> CoreChain {
    match chain {
        Chain::Mainnet => CoreChain::Main,
        Chain::Testnet4 => CoreChain::Test4,
        Chain::Signet => CoreChain::Signet { challenge: None },
        Chain::Devnet => CoreChain::devnet(),
        Chain::Regtest => CoreChain::Regtest,
    }
}

fn bcoin_network(chain: Chain) -> &'static str {
    match chain {
        Chain::Mainnet => "main",
        Chain::Testnet4 => "testnet4",
        Chain::Signet | Chain::Devnet => "signet",
        Chain::Regtest => "regtest",
    }
}

fn core_fault(error: &CoreError) -> Fault {
    let code = match error {
        CoreError::BadOption(_) => Code::ConfigInvalid,
        CoreError::DataDirectory(_) => Code::Directory,
        _ => Code::CoreStart,
    };
    Fault::new(code, error.to_string())
}

fn cluster_fault(error: &StartError) -> Fault {
    let code = match error {
        StartError::Tls(_) | StartError::Name { .. } | StartError::Role { .. } => Code::Certificate,
        StartError::Listen { .. } => Code::Listen,
        _ => Code::LedgerStart,
    };
    Fault::new(code, error.to_string())
}

fn panicked(ended: Result<(), tokio::task::JoinError>) -> Fault {
    match ended {
        Ok(()) => Fault::new(Code::Panicked, "a part of the node ended by itself"),
        Err(error) => Fault::new(Code::Panicked, error.to_string()),
    }
}

/// How often it is looked whether the node became ready.
const READY_POLL: Duration = Duration::from_millis(50);

/// How often it is looked whether everyone left.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// The whole stop has 20 s; the rest is for ledger and chain.
const MAX_DRAIN: Duration = Duration::from_secs(10);

/// For the ledger's files to be closed.
const LEDGER_PATIENCE: Duration = Duration::from_secs(3);

/// For Core to notice that it shall not start after all.
const CORE_START_ABORT: Duration = Duration::from_secs(15);

/// How long a thread waits for Core's own wish to stop before it looks whether it is still needed.
const CORE_WATCH_SLICE: Duration = Duration::from_millis(500);
