//! Log lines, and how many of them were bad news.

use std::sync::Arc;

use seam_cluster::logging::{self, Filter, Log};

use crate::fault::{Code, Fault};
use crate::metrics::Metrics;

/// Sends log lines to standard error from now on.
pub fn start(log: &Log, metrics: Arc<Metrics>) -> Result<Filter, Fault> {
    let count = move |level| {
        metrics.log_events.get_or_create(&[("level", level)]).inc();
    };
    logging::start(log, count).map_err(|error| Fault::new(Code::ConfigInvalid, error))
}
