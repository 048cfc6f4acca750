//! Who may connect to a member's cluster port, and what the others are told.

use std::sync::Arc;

use seam_cluster::StartError;
use seam_cluster::peer::{Network, Stream, TlsNetwork};
use seam_cluster::tls::{Files, NODE_ROLE, PROXY_ROLE, Protocol, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::common::{Authority, Group, Member, SOON, eventually};

fn refused(member: &Member) -> u64 {
    member.cluster().metrics().connections_refused.value()
}

/// Waits until a node says that it cannot serve because of this.
async fn says(member: &Member, why: &str) {
    let matches = |view: &seam_cluster::ClusterView| {
        view.unready.as_ref().is_some_and(|unready| unready.contains(why))
    };
    member.view(why, matches).await;
}

/// A connection with other certificates than a member's own.
async fn connect(files: Files, to: &Member, protocol: Protocol) -> Result<Stream, String> {
    let network = TlsNetwork::new(Arc::new(Tls::load(files).unwrap()));
    let attempt = network.connect(to.config.advertise.clone(), protocol);
    match timeout(SOON, attempt).await.unwrap() {
        Ok((stream, _)) => Ok(stream),
        Err(error) => Err(error.to_string()),
    }
}

/// Says hello like a node with an empty disk, and reads what the answer is: its kind and text.
pub(crate) async fn hello(mut stream: Stream) -> Result<(u8, String), std::io::Error> {
    const HELLO: [u8; 18] = [14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    stream.write_all(&HELLO).await?;
    stream.flush().await?;
    let length = timeout(SOON, stream.read_u32_le()).await.unwrap()?;
    let kind = stream.read_u8().await?;
    stream.read_u64_le().await?;
    let mut body = vec![0; length as usize - 9];
    stream.read_exact(&mut body).await?;
    Ok((kind, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_authority_is_refused_and_says_why() {
    let mut group = Group::formed(1).await;
    let before = refused(&group.members[0]);
    let stranger = group.add();
    let other = Authority::new();
    // It does not trust us, and we do not trust it.
    let files = other.issue(&group.path("other"), "node-1", NODE_ROLE);
    group.members[stranger].config.tls = files.clone();
    group.members[stranger].start().await.unwrap();
    says(&group.members[stranger], "UnknownIssuer").await;
    group.members[stranger].stop().await;
    // It trusts us, and we still do not trust it.
    std::fs::copy(&group.members[0].config.tls.ca, &files.ca).unwrap();
    group.members[stranger].start().await.unwrap();
    says(&group.members[stranger], "UnknownCA").await;
    assert!(refused(&group.members[0]) > before);
    assert_eq!(group.members[0].cluster().view().borrow().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_certificate_speaks_no_raft_and_a_nodes_no_link() {
    let group = Group::formed(1).await;
    let node = &group.members[0];
    let proxy = group.authority.issue(&group.path("certs"), "proxy-0", PROXY_ROLE);
    for protocol in [Protocol::Raft, Protocol::Bulk] {
        let before = refused(node);
        let stream = connect(proxy.clone(), node, protocol).await.unwrap();
        let (kind, why) = hello(stream).await.unwrap();
        assert_eq!(kind, 3, "{why}");
        assert!(why.contains("proxy-0") && why.contains("Proxy"), "{why}");
        eventually("the refusal is counted", || refused(node) == before + 1).await;
    }
    let before = refused(node);
    let stream = connect(node.config.tls.clone(), node, Protocol::Link).await.unwrap();
    hello(stream).await.unwrap_err();
    eventually("the refusal is counted", || refused(node) == before + 1).await;
    assert!(node.host.links.lock().is_empty());
    // The same ports do answer those who may ask.
    let stream = connect(node.config.tls.clone(), node, Protocol::Raft).await.unwrap();
    assert_eq!(hello(stream).await.unwrap().0, 2);
    connect(proxy, node, Protocol::Link).await.unwrap();
    eventually("the link has arrived", || node.host.links.lock().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_start_with_a_certificate_that_is_not_its_own() {
    let mut group = Group::new(1);
    let certs = group.path("certs");
    group.members[0].config.tls = group.authority.issue(&certs, "node-7", NODE_ROLE);
    let error = group.members[0].start().await.unwrap_err();
    assert!(matches!(error, StartError::Name { .. }), "{error}");
    group.members[0].config.tls = group.authority.issue(&certs, "node-0", PROXY_ROLE);
    let error = group.members[0].start().await.unwrap_err();
    assert!(error.to_string().contains(NODE_ROLE), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_answers_at_a_members_address_under_another_name_is_refused() {
    let mut group = Group::formed(2).await;
    group.members[1].stop().await;
    let peer = group.members[1].config.clone();
    let mut impostor = Member {
        config: seam_cluster::Config::new(
            "node-7",
            group.path("node-7"),
            &peer.listen,
            &peer.advertise,
            Vec::new(),
            group.authority.issue(&group.path("certs"), "node-7", NODE_ROLE),
        ),
        host: Arc::default(),
        cluster: None,
    };
    impostor.start().await.unwrap();
    let view = group.members[0].cluster().view();
    let id = view.borrow().members.iter().find(|member| member.name == "node-1").unwrap().id;
    let expected = r#"expected "node-1" there, found "node-7""#;
    says_of_peer(&group.members[0], id, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_two_clusters_do_not_mix() {
    let mut group = Group::formed(1).await;
    let old = group.members[0].cluster().view().borrow().cluster_id.clone().unwrap();
    group.members[0].stop().await;
    let kept = group.path("kept");
    std::fs::rename(&group.members[0].config.data_dir, &kept).unwrap();
    // The same names, addresses and certificates form another cluster.
    group.members[0].start().await.unwrap();
    let new = group.members[0].cluster().init().await.unwrap();
    assert_ne!(new, old);
    let other = group.add();
    group.members[other].start().await.unwrap();
    group.members[other].ready().await;
    group.members[0].stop().await;
    // Now the old one comes back in the place of the new one.
    std::fs::remove_dir_all(&group.members[0].config.data_dir).unwrap();
    std::fs::rename(&kept, &group.members[0].config.data_dir).unwrap();
    group.members[0].start().await.unwrap();
    group.members[0].ready().await;
    let id = group.members[0].cluster().view().borrow().id.unwrap();
    says_of_peer(&group.members[other], id, &format!("belongs to cluster {new}")).await;
    says_of_peer(&group.members[other], id, &format!("of cluster {old}")).await;
    assert_eq!(group.members[0].cluster().view().borrow().members.len(), 1);
}

/// Waits until a request to a peer fails because of this.
async fn says_of_peer(member: &Member, id: u64, why: &str) {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let error = member.cluster().fetch_transactions(id, &[[0; 32]]).await.unwrap_err();
        if error.to_string().contains(why) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_forms_no_second_cluster() {
    let mut group = Group::formed(2).await;
    let id = group.members[1].cluster().view().borrow().cluster_id.clone().unwrap();
    group.members[0].stop().await;
    std::fs::remove_dir_all(&group.members[0].config.data_dir).unwrap();
    group.members[0].start().await.unwrap();
    let refusal = group.members[0].cluster().init().await.unwrap_err().to_string();
    assert!(refusal.contains(&id), "{refusal}");
    assert!(refusal.contains("seamctl member remove node-0"), "{refusal}");
    assert_eq!(group.members[0].cluster().view().borrow().id, None);
}
