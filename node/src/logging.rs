//! Log lines, for people or machines, and how many of them were bad news.

use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{Log, LogFormat};
use crate::fault::{Code, Fault};
use crate::metrics::Metrics;

/// Changes the filter while the process runs.
#[derive(Clone)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Sets it, as `log.filter` is written.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let filter = parse(filter)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Sends log lines to standard error from now on.
pub fn start(log: &Log, metrics: Arc<Metrics>) -> Result<Filter, Fault> {
    let filter = parse(&log.filter).map_err(|error| {
        Fault::new(Code::ConfigInvalid, format!("log.filter {:?}: {error}", log.filter))
    })?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match log.format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    // A second start, as tests have it, keeps the first one's output.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(Count(metrics)).try_init();
    Ok(Filter(handle))
}

/// A filter as it is written, on top of [`QUIET`].
fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| error.to_string())
}

/// Raft tells at `info` what we tell in our own words, and without a quorum 25 times a second that it
/// wants an election. Who names these targets in the filter hears them.
const QUIET: &str = "openraft=warn,chunked_wal=warn";

struct Count(Arc<Metrics>);

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        self.0.log_events.get_or_create(&[("level", level)]).inc();
    }
}
