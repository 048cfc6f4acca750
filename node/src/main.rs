//! `seam-node`: a full Bitcoin node and a stratum server in one process.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use seam_node::config::Config;
use seam_node::fault::{Code, Fault};
use seam_node::metrics::Metrics;
use seam_node::run::{self, Signals};
use seam_node::{logging, preflight};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A full Bitcoin node and a stratum server in one process.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file. Every key can be overridden by SEAM_SECTION_KEY in the environment.
    #[arg(long, env = "SEAM_CONFIG")]
    config: PathBuf,
    /// Check the configuration and what it points to, then exit.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    // Sessions are small and come and go: with huge pages a node was 40 MB larger, a proxy nine times
    // as large. A kernel without the call has none to give.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("seam-node: {fault}");
            ExitCode::from(fault.code.exit_code())
        }
    }
}

fn start() -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Panicked, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(start_in());
    runtime.shutdown_timeout(STOP_PATIENCE);
    ended
}

async fn start_in() -> Result<(), Fault> {
    // First of all: whoever starts us may change its mind at once.
    let signals = Signals::install()?;
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.config, std::env::vars())?;
    let prepared = preflight::check(&config)?;
    if arguments.check_config {
        println!("{}: ok", arguments.config.display());
        return Ok(());
    }
    let metrics = Arc::new(Metrics::new());
    let filter = logging::start(&config.log, Arc::clone(&metrics))?;
    report_panics();
    run::run(config, prepared, metrics, filter, signals).await
}

/// A panic says so in the log, whichever thread it ends.
fn report_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(code = %Code::Panicked, "{panic}");
        before(panic);
    }));
}

/// For tasks that have nothing left to do.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
