//! Who is who: identities from one cluster CA, roles from the certificate, reload without restart.
//!
//! The subject's common name is the member's name. A DNS name among the certificate's alternative
//! names says which role it may play: [`NODE_ROLE`] or [`PROXY_ROLE`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// DNS name in the certificate of a cluster node.
pub const NODE_ROLE: &str = "node.seam.internal";
/// DNS name in the certificate of a proxy.
pub const PROXY_ROLE: &str = "proxy.seam.internal";

/// Which application protocol a connection speaks, settled by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Small, urgent requests between nodes.
    Raft,
    /// Snapshots, jobs, blocks and transactions between nodes.
    Bulk,
    /// The session link of a proxy.
    Link,
}

impl Protocol {
    /// Every protocol the cluster port answers.
    pub const ALL: [Protocol; 3] = [Protocol::Raft, Protocol::Bulk, Protocol::Link];

    /// The name on the wire.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Raft => b"seam-raft/1",
            Protocol::Bulk => b"seam-bulk/1",
            Protocol::Link => b"seam-link/1",
        }
    }

    /// The protocol of an ALPN name.
    pub fn from_alpn(name: &[u8]) -> Option<Protocol> {
        Self::ALL.into_iter().find(|protocol| protocol.alpn() == name)
    }
}

/// When the first of a PEM file's certificates to end does, in Unix seconds; `None` without one.
pub fn ends(file: &Path) -> Option<i64> {
    CertificateDer::pem_file_iter(file)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(&der).ok()?;
            Some(certificate.validity().not_after.timestamp())
        })
        .min()
}

/// What a certificate allows its holder to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A cluster node.
    Node,
    /// A proxy.
    Proxy,
}

/// The other end of a connection, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subject's common name.
    pub name: String,
    /// What it may do here.
    pub role: Role,
}

/// Where the certificates are.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM file with the cluster CA's certificate, or several during a rotation.
    pub ca: PathBuf,
    /// PEM file with our certificate and what chains it to the CA.
    pub cert: PathBuf,
    /// PEM file with our private key.
    pub key: PathBuf,
}

/// Why certificates could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or holds no PEM of the expected kind.
    #[error("{what} {path}: {source}", path = path.display())]
    Read {
        /// "CA certificate", "certificate" or "private key".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path}: no certificate in it", path = .0.display())]
    Empty(PathBuf),
    /// rustls refuses them.
    #[error("certificates refused: {0}")]
    Refused(String),
    /// A certificate has no common name or no role.
    #[error("certificate: {0}")]
    Certificate(String),
}

/// Our identity and the configurations made from it, replaced whole on reload.
pub struct Tls {
    files: Files,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    identity: Identity,
    server: Arc<ServerConfig>,
    raft: Arc<ClientConfig>,
    bulk: Arc<ClientConfig>,
    link: Arc<ClientConfig>,
    stamp: [Option<SystemTime>; 3],
}

impl Tls {
    /// Reads and checks the certificates.
    pub fn load(files: Files) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&files)?;
        Ok(Self { files, loaded: ArcSwap::from_pointee(loaded) })
    }

    /// Reads the files again when one has changed. `Ok(true)`: new connections use the new ones.
    /// On an error the old ones stay in use.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if self.files.stamp() == self.loaded.load().stamp {
            return Ok(false);
        }
        self.loaded.store(Arc::new(Loaded::read(&self.files)?));
        Ok(true)
    }

    /// Who our own certificate says we are.
    pub fn identity(&self) -> Identity {
        self.loaded.load().identity.clone()
    }

    /// Configuration for connections that others open.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.loaded.load().server.clone()
    }

    /// Configuration for a connection that we open.
    pub fn client(&self, protocol: Protocol) -> Arc<ClientConfig> {
        let loaded = self.loaded.load();
        match protocol {
            Protocol::Raft => loaded.raft.clone(),
            Protocol::Bulk => loaded.bulk.clone(),
            Protocol::Link => loaded.link.clone(),
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The server name that a node's certificate must cover: asking for it checks the role.
pub fn node_server_name() -> ServerName<'static> {
    ServerName::try_from(NODE_ROLE).expect("a constant DNS name")
}

/// Name and role from the first certificate of a verified chain.
pub fn identify(chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, TlsError> {
    let Some(leaf) = chain.and_then(|chain| chain.first()) else {
        return Err(TlsError::Certificate("the peer sent none".into()));
    };
    let (_, certificate) = X509Certificate::from_der(leaf)
        .map_err(|error| TlsError::Certificate(format!("cannot be read: {error}")))?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| TlsError::Certificate("has no common name".into()))?;
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let has = |role: &str| {
        names.iter().any(|name| matches!(name, GeneralName::DNSName(dns) if *dns == role))
    };
    let role = match (has(NODE_ROLE), has(PROXY_ROLE)) {
        (true, _) => Role::Node,
        (false, true) => Role::Proxy,
        (false, false) => {
            return Err(TlsError::Certificate(format!(
                "of {name:?} names no role: it needs the DNS name {NODE_ROLE} or {PROXY_ROLE}"
            )));
        }
    };
    Ok(Identity { name: name.to_owned(), role })
}

impl Files {
    fn stamp(&self) -> [Option<SystemTime>; 3] {
        let changed = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
        [changed(&self.ca), changed(&self.cert), changed(&self.key)]
    }
}

impl Loaded {
    fn read(files: &Files) -> Result<Self, TlsError> {
        // Taken first: a file that changes while we read is then read again.
        let stamp = files.stamp();
        let mut roots = RootCertStore::empty();
        for certificate in certificates("CA certificate", &files.ca)? {
            roots.add(certificate).map_err(refused)?;
        }
        let roots = Arc::new(roots);
        let chain = certificates("certificate", &files.cert)?;
        let key = || {
            PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Read {
                what: "private key",
                path: files.key.clone(),
                source,
            })
        };
        let identity = identify(Some(&chain))?;
        let provider = Arc::new(ring::default_provider());

        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| TlsError::Refused(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key()?)
            .map_err(refused)?;
        server.alpn_protocols = Protocol::ALL.map(|protocol| protocol.alpn().to_vec()).to_vec();

        let client = |protocol: Protocol| -> Result<Arc<ClientConfig>, TlsError> {
            let mut client = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(refused)?
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(chain.clone(), key()?)
                .map_err(refused)?;
            client.alpn_protocols = vec![protocol.alpn().to_vec()];
            Ok(Arc::new(client))
        };
        Ok(Self {
            identity,
            server: Arc::new(server),
            raft: client(Protocol::Raft)?,
            bulk: client(Protocol::Bulk)?,
            link: client(Protocol::Link)?,
            stamp,
        })
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read { what, path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(read)?;
    if found.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(found)
}

fn refused(error: rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}
