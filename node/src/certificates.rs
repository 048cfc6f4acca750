//! When our certificates end, and whether a new one was any good.

use std::path::Path;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use seam_cluster::tls::{Files, Tls};
use x509_parser::prelude::{FromDer, X509Certificate};

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

/// When the first certificate of a file that ends first does, in Unix seconds.
fn ends(file: &Path) -> Option<i64> {
    CertificateDer::pem_file_iter(file)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(&der).ok()?;
            Some(certificate.validity().not_after.timestamp())
        })
        .min()
}
