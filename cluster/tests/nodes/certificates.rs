//! Certificates are replaced while everything runs.

use std::sync::Arc;

use seam_cluster::peer::{Network, TlsNetwork};
use seam_cluster::tls::{Files, NODE_ROLE, Protocol, Tls};
use tokio::time::timeout;

use crate::common::{Authority, Group, SOON, eventually_async};

/// Whether a connection with these certificates is made and answered.
async fn connects(files: &Files, address: &str) -> bool {
    let network = TlsNetwork::new(Arc::new(Tls::load(files.clone()).unwrap()));
    let attempt = network.connect(address.to_owned(), Protocol::Raft);
    let Ok(Ok((stream, _))) = timeout(SOON, attempt).await else { return false };
    // Whether our own certificate was taken shows in the answer only.
    crate::peers::hello(stream).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_replaced_without_a_restart() {
    let mut group = Group::formed(3).await;
    let user = group.members[0].cluster().ensure_user("alice").await.unwrap();
    let addresses: Vec<String> =
        group.members.iter().map(|member| member.config.advertise.clone()).collect();
    // Two outsiders: one with the old authority, one with the new.
    let next = Authority::new();
    let old = group.authority.issue(&group.path("old"), "node-8", NODE_ROLE);
    let new = next.issue(&group.path("new"), "node-9", NODE_ROLE);
    for address in &addresses {
        assert!(connects(&old, address).await);
        assert!(!connects(&new, address).await);
    }

    // First every member trusts both.
    let both = format!("{}{}", group.authority.pem(), next.pem());
    std::fs::write(&group.members[0].config.tls.ca, &both).unwrap();
    std::fs::write(&new.ca, &both).unwrap();
    for address in &addresses {
        eventually_async("the new authority is trusted", || connects(&new, address)).await;
    }
    assert_eq!(group.submit(1, user, 100).await.counted(), 100);

    // Then they get new certificates.
    for member in &group.members {
        let name = &member.config.name;
        let files = next.issue(&group.path("fresh"), name, NODE_ROLE);
        std::fs::copy(&files.key, &member.config.tls.key).unwrap();
        std::fs::copy(&files.cert, &member.config.tls.cert).unwrap();
    }
    std::fs::write(&new.ca, next.pem()).unwrap();
    for address in &addresses {
        eventually_async("the new certificate is shown", || connects(&new, address)).await;
    }
    assert_eq!(group.submit(2, user, 100).await.counted(), 100);

    // Then the old authority is not trusted any more.
    std::fs::write(&group.members[0].config.tls.ca, next.pem()).unwrap();
    for address in &addresses {
        let refused = || async { !connects(&old, address).await };
        eventually_async("the old authority is refused", refused).await;
        assert!(connects(&new, address).await);
    }
    // Nothing was restarted, and new connections between members work.
    group.members[1].stop().await;
    group.members[1].start().await.unwrap();
    group.members[1].ready().await;
    assert_eq!(group.submit(1, user, 100).await.counted(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_cannot_be_used_leave_the_old_ones_in_use() {
    let group = Group::formed(1).await;
    let node = &group.members[0];
    let client = group.authority.issue(&group.path("old"), "node-8", NODE_ROLE);
    let tls = Arc::new(Tls::load(client.clone()).unwrap());
    let network = TlsNetwork::new(tls.clone());
    let connects = async || {
        let attempt = network.connect(node.config.advertise.clone(), Protocol::Raft);
        timeout(SOON, attempt).await.unwrap().is_ok()
    };
    // A key that does not belong to the certificate, as while files are being replaced.
    std::fs::copy(&node.config.tls.key, &client.key).unwrap();
    tls.reload_if_changed().unwrap_err();
    network.refresh();
    assert!(connects().await);
    std::fs::write(&client.cert, "no PEM").unwrap();
    tls.reload_if_changed().unwrap_err();
    network.refresh();
    assert!(connects().await);
}
