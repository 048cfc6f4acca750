//! The certificate of the miners' TLS port, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::fault::{Code, Fault};

/// A certificate chain with its key, in use until a newer one has been read.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    loaded: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    server: Arc<ServerConfig>,
    stamp: Stamp,
}

type Stamp = [Option<SystemTime>; 2];

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// [`Fault`] if they cannot be used.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, Fault> {
        let loaded = read(chain, key)?;
        Ok(Self { chain: chain.into(), key: key.into(), loaded: ArcSwap::from_pointee(loaded) })
    }

    /// Reads the files again if one has changed. `Ok(true)`: new connections use the new ones.
    ///
    /// # Errors
    /// [`Fault`]; then the old ones stay in use.
    pub fn reload_if_changed(&self) -> Result<bool, Fault> {
        if stamp(&self.chain, &self.key) == self.loaded.load().stamp {
            return Ok(false);
        }
        self.loaded.store(Arc::new(read(&self.chain, &self.key)?));
        Ok(true)
    }

    /// For a new connection.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().server)
    }
}

fn read(chain: &Path, key: &Path) -> Result<Loaded, Fault> {
    // Taken first: a file that changes while it is read is then read again.
    let stamp = stamp(chain, key);
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        Fault::new(Code::Certificate, format!("{}: {error}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|error| unusable(chain, &error))?;
    if certificates.is_empty() {
        return Err(unusable(chain, &"no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(chain, &error))?
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|error| unusable(chain, &error))?;
    // Miners keep their connection for days: tickets would be memory without use.
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    Ok(Loaded { server: Arc::new(server), stamp })
}

fn stamp(chain: &Path, key: &Path) -> Stamp {
    let changed = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    [changed(chain), changed(key)]
}
