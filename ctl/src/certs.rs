//! `seamctl certs`: the cluster's certificate authority and its members' certificates.
//!
//! For clusters that have no certificate machinery of their own. What a certificate must say is in
//! ARCHITECTURE.md ("Certificates"): the member's name as common name, its role as a DNS name.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::cli::{CertsCommand, MemberCertificate};
use crate::failure::Failure;
use crate::{print, private_file};

/// How long a CA is valid: ten years, because replacing it means touching every member.
const CA_DAYS: u64 = 3650;
/// Certificates start an hour early, for members whose clock is behind.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// What a member may do in the cluster; peers check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A pool node.
    Node,
    /// A proxy.
    Proxy,
}

impl Role {
    /// The DNS name by which a certificate grants the role.
    fn dns_name(self) -> &'static str {
        match self {
            Self::Node => "node.seam.internal",
            Self::Proxy => "proxy.seam.internal",
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: &CertsCommand, out: print::Output) -> Result<(), Failure> {
    match command {
        CertsCommand::Ca { dir } => {
            let files = create_ca(dir)?;
            out.show(&json!({"cert": files.cert, "key": files.key}), || {
                format!(
                    "{}\n{}\nKeep the key away from every member: it can make new ones.\n",
                    files.cert.display(),
                    files.key.display()
                )
            })
        }
        CertsCommand::Node(options) => member_command(Role::Node, options, out),
        CertsCommand::Proxy(options) => member_command(Role::Proxy, options, out),
    }
}

/// Paths of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// PEM certificate.
    pub(crate) cert: PathBuf,
    /// PEM key, readable by its owner only.
    pub(crate) key: PathBuf,
}

/// Makes `ca.pem` and `ca.key` in `dir`; refuses to replace a CA, which would lock every member out.
pub(crate) fn create_ca(dir: &Path) -> Result<Files, Failure> {
    let files = Files { cert: dir.join("ca.pem"), key: dir.join("ca.key") };
    for path in [&files.cert, &files.key] {
        if path.exists() {
            return Err(Failure::Refused(format!(
                "{} is there already, and a new CA would lock every member out",
                path.display()
            )));
        }
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Seam cluster CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_DAYS);
    let ca = CertifiedIssuer::self_signed(params, new_key()?).map_err(certificate_failed)?;
    fs::create_dir_all(dir).map_err(|error| cannot_write(dir, error))?;
    write_pair(&files, &ca.pem(), &ca.key().serialize_pem())?;
    Ok(files)
}

/// Makes `NAME.pem` and `NAME.key` for a member in `dir`, signed by the CA in `ca_dir`.
pub(crate) fn create_member(
    role: Role,
    name: &str,
    hosts: &[String],
    days: u64,
    ca_dir: &Path,
    dir: &Path,
) -> Result<Files, Failure> {
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(Failure::Usage(format!("{name:?} cannot be a member's name")));
    }
    let issuer = read_issuer(ca_dir)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.subject_alt_names = subject_names(role, name, hosts)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node both listens and connects.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days);
    let key = new_key()?;
    let certificate = params.signed_by(&key, &issuer).map_err(certificate_failed)?;
    fs::create_dir_all(dir).map_err(|error| cannot_write(dir, error))?;
    let files =
        Files { cert: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
    write_pair(&files, &certificate.pem(), &key.serialize_pem())?;
    Ok(files)
}

fn member_command(
    role: Role,
    options: &MemberCertificate,
    out: print::Output,
) -> Result<(), Failure> {
    let dir = options.out.as_deref().unwrap_or(&options.dir);
    let files =
        create_member(role, &options.name, &options.hosts, options.days, &options.dir, dir)?;
    out.show(&json!({"cert": files.cert, "key": files.key}), || {
        format!("{}\n{}\n", files.cert.display(), files.key.display())
    })
}

fn read_issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, Failure> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| {
            Failure::Usage(format!(
                "cannot read {}: {error} (make a CA first: seamctl certs ca --dir {})",
                path.display(),
                dir.display()
            ))
        })
    };
    let (cert, key) = (read("ca.pem")?, read("ca.key")?);
    let unusable = |error| Failure::Usage(format!("the CA in {}: {error}", dir.display()));
    let key = KeyPair::from_pem(&key).map_err(unusable)?;
    Issuer::from_ca_cert_pem(&cert, key).map_err(unusable)
}

/// The names a member's certificate is good for: its role, its own name where that can be a host
/// name, and what the operator adds (service names, load balancers, addresses).
fn subject_names(role: Role, name: &str, hosts: &[String]) -> Result<Vec<SanType>, Failure> {
    let mut names = vec![dns_name(role.dns_name())?];
    if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')) {
        names.push(dns_name(name)?);
    }
    for host in hosts {
        let host = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => dns_name(host)?,
        };
        if !names.contains(&host) {
            names.push(host);
        }
    }
    Ok(names)
}

fn dns_name(name: &str) -> Result<SanType, Failure> {
    match name.try_into() {
        Ok(dns) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok(SanType::DnsName(dns))
        }
        _ => Err(Failure::Usage(format!("{name:?} is neither a host name nor an IP address"))),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + Duration::from_secs(days.saturating_mul(86_400))).into();
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(certificate_failed)
}

fn write_pair(files: &Files, cert: &str, key: &str) -> Result<(), Failure> {
    private_file::write(&files.key, key.as_bytes())
        .map_err(|error| cannot_write(&files.key, error))?;
    private_file::write_public(&files.cert, cert.as_bytes())
        .map_err(|error| cannot_write(&files.cert, error))
}

fn certificate_failed(error: rcgen::Error) -> Failure {
    Failure::Refused(format!("cannot make the certificate: {error}"))
}

fn cannot_write(path: &Path, error: io::Error) -> Failure {
    Failure::Usage(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn ca_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let files = create_ca(dir.path()).unwrap();
        let before = fs::read(&files.key).unwrap();
        assert!(matches!(create_ca(dir.path()), Err(Failure::Refused(_))));
        assert_eq!(fs::read(&files.key).unwrap(), before);
    }

    #[test]
    fn member_key_is_private_and_can_be_renewed() {
        let dir = tempfile::tempdir().unwrap();
        create_ca(dir.path()).unwrap();
        let make = || {
            let hosts = ["127.0.0.1".to_owned(), "pool.example".to_owned()];
            create_member(Role::Node, "node-0", &hosts, 30, dir.path(), dir.path()).unwrap()
        };
        let files = make();
        let first = fs::read(&files.cert).unwrap();
        let mode = fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(fs::read(make().cert).unwrap(), first, "a second run renews");
    }

    #[test]
    fn name_that_would_leave_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        create_ca(dir.path()).unwrap();
        for name in ["../x", "", ".hidden", "a/b"] {
            let made = create_member(Role::Proxy, name, &[], 30, dir.path(), dir.path());
            assert!(matches!(made, Err(Failure::Usage(_))), "{name}");
        }
    }

    #[test]
    fn missing_ca_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let made = create_member(Role::Node, "n", &[], 30, dir.path(), dir.path());
        assert!(made.unwrap_err().to_string().contains("seamctl certs ca"));
    }
}
