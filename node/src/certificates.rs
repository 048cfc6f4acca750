//! When our certificates end, and whether a new one was any good.

use std::time::SystemTime;

use seam_cluster::tls::{Files, Tls, ends};

use crate::metrics::Metrics;

/// Looks after the files; the cluster reads them by itself.
pub struct Certificates {
    files: Files,
    seen: Option<[Option<SystemTime>; 3]>,
}

impl Certificates {
    /// Nothing was looked at yet.
    #[must_use]
    pub fn new(files: Files) -> Self {
        Self { files, seen: None }
    }

    /// Tells the metrics what changed since the last look.
    pub fn look(&mut self, metrics: &Metrics) {
        let stamps = [&self.files.ca, &self.files.cert, &self.files.key]
            .map(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok());
        let before = self.seen.replace(stamps);
        if before == Some(stamps) {
            return;
        }
        for (name, file) in [("ca", &self.files.ca), ("cluster", &self.files.cert)] {
            if let Some(end) = ends(file) {
                let gauge = &metrics.certificate_expiry;
                gauge.get_or_create(&[("certificate", name)]).set(end);
            }
        }
        if before.is_none() {
            return;
        }
        let result = match Tls::load(self.files.clone()) {
            Ok(_) => "loaded",
            Err(error) => {
                tracing::warn!(%error, "the new certificate cannot be used: the old one stays");
                "failed"
            }
        };
        let reloads = &metrics.certificate_reloads;
        reloads.get_or_create(&[("certificate", "cluster"), ("result", result)]).inc();
    }
}
