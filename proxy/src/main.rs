//! `seam-proxy`: reads the configuration, runs the proxy, stops it well.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use seam_cluster::logging::{self, Filter};
use seam_proxy::Proxy;
use seam_proxy::config::Config;
use seam_proxy::fault::{Code, Fault};
use seam_proxy::metrics::{Metrics, labels};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One endpoint for miners in front of a Seam cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, TOML. SEAM_SECTION_KEY in the environment overrides its keys.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and exit.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    // Sessions are small and come and go: with huge pages a node was 40 MB larger, a proxy nine times
    // as large. A kernel without the call has none to give.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("seam-proxy: {fault}");
            ExitCode::from(fault.code.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fault> {
    let config = Config::load(&arguments.config, std::env::vars())?;
    if arguments.check_config {
        println!("{}: fine", arguments.config.display());
        return Ok(());
    }
    let metrics = Arc::new(Metrics::new());
    let filter = start_log(&config, Arc::clone(&metrics))?;
    let connections = config.limits.connections as u64;
    if let Err(fault) = seam_proxy::raise_file_limit(connections) {
        tracing::warn!(%fault, "fewer miners can connect than limits.connections says");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Panicked, format!("runtime: {error}")))?;
    runtime.block_on(serve(config, metrics, filter))
}

async fn serve(config: Config, metrics: Arc<Metrics>, filter: Filter) -> Result<(), Fault> {
    let handler = |kind| {
        signal(kind).map_err(|error| Fault::new(Code::Panicked, format!("signals: {error}")))
    };
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut hangup = handler(SignalKind::hangup())?;
    let mut proxy = Proxy::start(config, metrics, filter)?;
    tracing::info!(plain = ?proxy.plain(), tls = ?proxy.tls(), admin = ?proxy.admin(), "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => proxy.reload_certificates(),
            fault = proxy.failed() => return Err(fault),
        }
    }
    tokio::select! {
        () = proxy.stop() => {}
        // Once more: at once.
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn start_log(config: &Config, metrics: Arc<Metrics>) -> Result<Filter, Fault> {
    let count = move |level| {
        metrics.log_events.get_or_create(&labels([("level", level)])).inc();
    };
    logging::start(&config.log, count).map_err(|error| Fault::new(Code::OutOfRange, error))
}
