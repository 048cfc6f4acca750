//! What can be found wrong before anything is opened.

use std::io;
use std::net::TcpListener;
use std::path::Path;

use seam_cluster::ledger::NewUser;
use seam_cluster::tls::{Files, Tls};
use seam_cluster::users_file;

use crate::config::Config;
use crate::direct::listen;
use crate::fault::{Code, Fault};
use crate::secret::Secret;

/// What was read on the way.
pub struct Prepared {
    /// The admin port, listening.
    pub admin: TcpListener,
    /// The bearer token.
    pub token: Option<Secret>,
    /// The password of `mining.authorize_admin`.
    pub admin_password: Option<Secret>,
    /// Users to import.
    pub users: Vec<NewUser>,
}

/// Checks everything that the configuration points to.
pub fn check(config: &Config) -> Result<Prepared, Fault> {
    let token = Secret::load(&config.admin.token_file, "SEAM_ADMIN_TOKEN")?;
    let admin_password =
        Secret::load(&config.pool.admin_password_file, "SEAM_POOL_ADMIN_PASSWORD")?;
    let users = read_users(&config.pool.users_file)?;
    check_certificates(config)?;
    check_directory(&config.data_dir)?;
    // Taken and given back: whoever has them now keeps us from starting.
    drop(listen("stratum.listen", &config.stratum.listen)?);
    drop(listen("cluster.listen", &config.cluster.listen)?);
    let admin = listen("admin.listen", &config.admin.listen)?;
    Ok(Prepared { admin, token, admin_password, users })
}

/// The certificates' files.
#[must_use]
pub fn tls_files(config: &Config) -> Files {
    let cluster = &config.cluster;
    Files { ca: cluster.ca.clone(), cert: cluster.cert.clone(), key: cluster.key.clone() }
}

fn check_certificates(config: &Config) -> Result<(), Fault> {
    let tls = Tls::load(tls_files(config))
        .map_err(|error| Fault::new(Code::Certificate, error.to_string()))?;
    let name = tls.identity().name;
    if name != config.name {
        return Err(Fault::new(
            Code::Certificate,
            format!(
                "{}: the certificate is {name:?}'s, and name is {:?}",
                config.cluster.cert.display(),
                config.name
            ),
        ));
    }
    Ok(())
}

fn check_directory(path: &Path) -> Result<(), Fault> {
    let failed = |error: io::Error| {
        Fault::new(Code::Directory, format!("data_dir {}: {error}", path.display()))
    };
    std::fs::create_dir_all(path).map_err(failed)?;
    let probe = path.join(".seam-write-test");
    std::fs::write(&probe, b"").map_err(failed)?;
    std::fs::remove_file(&probe).map_err(failed)
}

fn read_users(file: &Path) -> Result<Vec<NewUser>, Fault> {
    if file.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let failed = |why: String| Fault::new(Code::UsersFile, format!("{}: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    users_file::parse(&bytes).map_err(|error| failed(error.to_string()))
}
