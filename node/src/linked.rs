//! Sessions that come over a proxy's link.

use std::sync::Arc;

use seam_cluster::peer::Stream;
use seam_cluster::tls::Identity;
use tokio::sync::mpsc::Receiver;

use crate::node::Node;
use crate::pool::Pool;

/// Takes links until the node ends.
pub async fn accept(mut links: Receiver<(Identity, Stream)>, _node: Arc<Node>, _pool: Arc<Pool>) {
    while let Some((proxy, _stream)) = links.recv().await {
        tracing::warn!(proxy = proxy.name, "links are not served yet");
    }
}
