//! Nodes of a test: real certificates, real sockets, real files, one process.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::new_without_default)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use seam_cluster::ledger::{Share, ShareOutcome, UserId};
use seam_cluster::tls::{Files, Identity, NODE_ROLE};
use seam_cluster::{
    BlockStatus, Cluster, Completion, Config, Host, NodeId, StartError, Unavailable,
};
use tokio::sync::watch;
use tokio::time::timeout;

/// Nothing in these tests takes longer.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until something is so.
pub async fn eventually(what: &str, ok: impl Fn() -> bool) {
    eventually_async(what, || std::future::ready(ok())).await;
}

/// Waits until something that takes time to find out is so.
pub async fn eventually_async<F: Future<Output = bool>>(what: &str, ok: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !ok().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two with one name are told apart by their signatures only.
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let name = format!("test cluster {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes a member's certificate into `dir`.
    pub fn issue(&self, dir: &Path, name: &str, role: &str) -> Files {
        std::fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::new(vec![role.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = Files {
            ca: dir.join("ca.pem"),
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        std::fs::write(&files.ca, &self.pem).unwrap();
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

/// A host that remembers what it was told.
#[derive(Default)]
pub struct TestHost {
    pub jobs: Mutex<Vec<(NodeId, Bytes)>>,
    pub blocks: Mutex<Vec<(NodeId, Bytes)>>,
    pub transactions: Mutex<BTreeMap<[u8; 32], Bytes>>,
    pub links: Mutex<Vec<Identity>>,
    pub status: Mutex<Option<BlockStatus>>,
}

impl Host for TestHost {
    fn job_arrived(&self, from: NodeId, package: Bytes) {
        self.jobs.lock().push((from, package));
    }

    fn block_arrived(&self, from: NodeId, block: Bytes) {
        self.blocks.lock().push((from, block));
    }

    fn transactions(&self, wtxids: &[[u8; 32]]) -> Vec<Option<Bytes>> {
        let known = self.transactions.lock();
        wtxids.iter().map(|id| known.get(id).cloned()).collect()
    }

    fn link_arrived(&self, proxy: Identity, _: seam_cluster::peer::Stream) {
        self.links.lock().push(proxy);
    }

    fn block_status(&self, _: &[u8; 32], _: u32) -> BlockStatus {
        self.status.lock().unwrap_or(BlockStatus::Unknown)
    }
}

/// Counts answers.
pub struct Answers {
    pub answers: Mutex<BTreeMap<u64, Result<ShareOutcome, Unavailable>>>,
    count: watch::Sender<u64>,
}

impl Answers {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { answers: Mutex::default(), count: watch::Sender::new(0) })
    }

    pub async fn wait_for(&self, count: u64) {
        let mut now = self.count.subscribe();
        timeout(SOON, now.wait_for(|now| *now >= count))
            .await
            .unwrap_or_else(|_| panic!("{} of {count} answers", *self.count.borrow()))
            .unwrap();
    }

    pub fn counted(&self) -> usize {
        self.answers.lock().values().filter(|a| **a == Ok(ShareOutcome::Counted)).count()
    }
}

impl Completion for Answers {
    fn complete(&self, token: u64, answer: Result<ShareOutcome, Unavailable>) {
        let before = self.answers.lock().insert(token, answer);
        assert!(before.is_none(), "share {token} was answered twice");
        self.count.send_modify(|count| *count += 1);
    }
}

/// A share like no other.
pub fn share(user: UserId, number: u64) -> Share {
    let mut hash16 = [0; 16];
    hash16[..8].copy_from_slice(&number.to_le_bytes());
    Share { session: 7, user, work: 1, hash16, job_time: now(), time: now() }
}

/// Unix seconds.
pub fn now() -> u32 {
    static START: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *START.get_or_init(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as u32
    })
}

/// A member that can be stopped and started again.
pub struct Member {
    pub config: Config,
    pub host: Arc<TestHost>,
    pub cluster: Option<Cluster>,
}

impl Member {
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().unwrap()
    }

    pub async fn start(&mut self) -> Result<(), StartError> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            match Cluster::start(self.config.clone(), self.host.clone()).await {
                Ok(cluster) => {
                    self.cluster = Some(cluster);
                    return Ok(());
                }
                // The one that was stopped in this process a moment ago closes its files yet.
                Err(error)
                    if error.to_string().contains("already locked")
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub async fn stop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.shutdown().await;
        }
    }

    /// Waits until its view satisfies something.
    pub async fn view(&self, what: &str, ok: impl FnMut(&seam_cluster::ClusterView) -> bool) {
        let mut view = self.cluster().view();
        let waited = timeout(SOON, view.wait_for(ok)).await.map(drop);
        assert!(waited.is_ok(), "{what}: {:#?}", self.cluster().view().borrow());
    }

    pub async fn ready(&self) {
        self.view("ready", seam_cluster::ClusterView::ready).await;
    }

    /// Waits until the ledger satisfies something.
    pub async fn ledger(&self, what: &str, ok: impl Fn(&seam_cluster::ledger::State) -> bool) {
        eventually(what, || self.cluster().read(&ok)).await;
    }
}

/// Members that know each other.
pub struct Group {
    pub dir: tempfile::TempDir,
    pub authority: Authority,
    pub members: Vec<Member>,
    next_share: AtomicU64,
}

impl Group {
    /// Makes `count` members, not started.
    pub fn new(count: usize) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let mut group = Self {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
            members: Vec::new(),
            next_share: AtomicU64::new(1),
        };
        for _ in 0..count {
            group.add();
        }
        group
    }

    /// One more member.
    pub fn add(&mut self) -> usize {
        let index = self.members.len();
        let name = format!("node-{index}");
        let address = format!("127.0.0.1:{}", free_port());
        let mut seeds: Vec<String> =
            self.members.iter().map(|member| member.config.advertise.clone()).collect();
        seeds.push(address.clone());
        let files = self.authority.issue(&self.path("certs"), &name, NODE_ROLE);
        let config = Config::new(&name, self.path(&name), &address, &address, seeds.clone(), files);
        for member in &mut self.members {
            member.config.seeds = seeds.clone();
        }
        self.members.push(Member { config, host: Arc::default(), cluster: None });
        index
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A formed cluster of `count` voters.
    pub async fn formed(count: usize) -> Self {
        let mut group = Self::new(count);
        for member in &mut group.members {
            member.start().await.unwrap();
        }
        group.members[0].cluster().init().await.unwrap();
        for i in 0..count {
            let name = group.members[i].config.name.clone();
            group.members[0].cluster().add_member(&name).await.unwrap();
            group.members[i].ready().await;
        }
        group
    }

    pub fn leader(&self) -> usize {
        let leads = |member: &Member| {
            member.cluster.as_ref().is_some_and(|c| c.view().borrow().is_leader())
        };
        self.members.iter().position(leads).expect("nobody leads")
    }

    /// Numbers for `count` shares that were never used.
    pub fn numbers(&self, count: u64) -> std::ops::Range<u64> {
        let first = self.next_share.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    /// Submits shares to a member and waits for their answers.
    pub async fn submit(&self, member: usize, user: UserId, count: u64) -> Arc<Answers> {
        let answers = Answers::new();
        let cluster = self.members[member].cluster();
        for number in self.numbers(count) {
            let share = share(user, number);
            while cluster.submit(share, answers.clone(), number).is_err() {
                timeout(SOON, cluster.has_room()).await.unwrap();
            }
        }
        answers.wait_for(count).await;
        answers
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
