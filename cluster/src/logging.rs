//! Log lines of a program, for people or machines: which are written can change while it runs.

use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// `[log]` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// As `tracing`'s `EnvFilter` reads it: `info,seam_node::session=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Changes the filter while the process runs.
#[derive(Clone, Debug)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Sets it: levels, and levels of modules, such as `info,seam_node::session=debug`. What else
    /// an `EnvFilter` can do (spans, fields, patterns) is for the configuration only.
    ///
    /// # Errors
    /// What is wrong with it, for people; the filter stays as it was.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        if filter.len() > MAX_FILTER || !filter.split(',').all(is_directive) {
            return Err("expected as \"info,seam_node::session=debug\"".into());
        }
        let parsed = parse(filter)?;
        self.0.reload(parsed).map_err(|error| error.to_string())?;
        tracing::info!(filter, "log filter changed");
        Ok(())
    }
}

/// Sends log lines to standard error from now on, and tells `count` of each that is bad news:
/// `error` or `warn`.
///
/// # Errors
/// What is wrong with the filter, naming the setting.
pub fn start(
    log: &Log,
    count: impl Fn(&'static str) + Send + Sync + 'static,
) -> Result<Filter, String> {
    let filter =
        parse(&log.filter).map_err(|error| format!("log.filter {:?}: {error}", log.filter))?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match log.format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    // A second start, as tests have it, keeps the first one's output.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(Count(count)).try_init();
    Ok(Filter(handle))
}

/// A filter as it is written, on top of [`QUIET`].
fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(|error| error.to_string())
}

/// `LEVEL`, or `module::path=LEVEL`.
fn is_directive(text: &str) -> bool {
    let (path, level) = text.split_once('=').unwrap_or(("seam", text));
    let is_level = ["off", "error", "warn", "info", "debug", "trace"].contains(&level);
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    };
    is_level && path.split("::").all(is_name)
}

struct Count<F>(F);

impl<S: Subscriber, F: Fn(&'static str) + 'static> Layer<S> for Count<F> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => (self.0)("error"),
            Level::WARN => (self.0)("warn"),
            _ => {}
        }
    }
}

/// Raft tells at `info` what we tell in our own words, and without a quorum 25 times a second that it
/// wants an election. Who names these targets in the filter hears them.
const QUIET: &str = "openraft=warn,chunked_wal=warn";

/// Bytes of a filter that is set while the process runs.
const MAX_FILTER: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_takes_levels_of_modules_and_nothing_else() {
        for good in ["info", "off", "warn,seam_proxy::hub=trace", "a::b_c=debug,error"] {
            assert!(good.split(',').all(is_directive), "{good}");
        }
        let bad =
            ["", "loud", "seam=", "=info", "a::=info", "a[b]=info", "info,", "A=info", "a=b=c"];
        for bad in bad {
            assert!(!bad.split(',').all(is_directive), "{bad}");
        }
    }
}
