//! The node, as its links see it.

use std::ops::Range;

use futures::future::BoxFuture;
use seam_cluster::link::Member;
use seam_cluster::pulse::Pulse;
use seam_cluster::ticket::Tickets;

use super::Around;
use crate::config::Limits;
use crate::node::Node;

impl Around for Node {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn cluster_id(&self) -> Option<String> {
        self.view()?.cluster_id
    }

    fn members(&self) -> Vec<Member> {
        let view = self.view();
        let members = view.iter().flat_map(|view| view.members.iter());
        members
            .map(|member| Member { name: member.name.clone(), address: member.address.clone() })
            .collect()
    }

    fn is_ready(&self) -> bool {
        Node::is_ready(self)
    }

    fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    fn limits(&self) -> &Limits {
        &self.config.limits
    }

    fn lease(&self, holder: String) -> BoxFuture<'static, Option<Range<u64>>> {
        let cluster = self.cluster.get().cloned();
        Box::pin(async move { cluster?.extranonce_range(&holder).await.ok() })
    }

    fn pulse(&self) -> Pulse {
        Node::pulse(self)
    }

    fn tickets(&self) -> Option<Tickets> {
        Some(self.cluster.get()?.read(|state| Tickets::new(state.identity())))
    }
}
