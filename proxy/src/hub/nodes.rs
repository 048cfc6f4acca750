//! The nodes of the cluster as the proxy sees them: who is in it, who is linked, who is ready; and the
//! ring over those.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use seam_cluster::link::frame::{Member, NodeState};
use seam_cluster::ring::Ring;
use seam_stratum::Sid;

use super::Hub;
use crate::metrics::{Why, labels};
use crate::session::Phase;
use crate::uplink::Uplink;

/// A node of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// `host:port` of its cluster listener.
    pub(crate) address: String,
    /// While the link is up.
    pub(crate) uplink: Option<Arc<Uplink>>,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    /// Since when it is as it is.
    pub(crate) since: Instant,
    /// Named by a node's last word on the membership.
    pub(crate) member: bool,
}

/// The ready nodes, and the ring over them.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) ring: Ring,
    /// In the order of the ring's names.
    pub(crate) uplinks: Vec<Arc<Uplink>>,
}

impl View {
    /// The node that owns this session.
    pub(crate) fn owner(&self, sid: &Sid) -> Option<&Arc<Uplink>> {
        self.ring.owner(sid.to_string().as_bytes()).map(|index| &self.uplinks[index])
    }
}

impl Hub {
    pub(crate) fn cluster(&self) -> Option<String> {
        self.cluster.lock().clone()
    }

    pub(crate) fn learn_cluster(&self, cluster: Option<&str>) {
        if let Some(cluster) = cluster {
            self.cluster.lock().get_or_insert_with(|| cluster.to_owned());
        }
    }

    pub(crate) fn nodes(&self) -> BTreeMap<Arc<str>, Node> {
        self.nodes.lock().clone()
    }

    /// Takes a node's word on who is in the cluster.
    pub(crate) fn learn_members(&self, members: &[Member]) {
        if members.is_empty() {
            return;
        }
        let mut changed = false;
        {
            let mut nodes = self.nodes.lock();
            for node in nodes.values_mut() {
                node.member = false;
            }
            for member in members {
                let node = nodes.entry(member.name.as_str().into()).or_insert_with(|| {
                    changed = true;
                    Node {
                        address: String::new(),
                        uplink: None,
                        ready: false,
                        draining: false,
                        since: Instant::now(),
                        member: true,
                    }
                });
                node.member = true;
                if node.address != member.address {
                    node.address.clone_from(&member.address);
                    changed = true;
                }
            }
            changed |= nodes.values().any(|node| !node.member);
        }
        if changed {
            self.members_changed.notify_one();
        }
    }

    /// Forgets a node that is in the cluster no longer and has no link.
    pub(crate) fn forget_node(&self, name: &str) {
        let mut nodes = self.nodes.lock();
        if nodes.get(name).is_some_and(|node| !node.member && node.uplink.is_none()) {
            nodes.remove(name);
        }
    }

    pub(crate) fn link_up(&self, uplink: &Arc<Uplink>) {
        if let Some(node) = self.nodes.lock().get_mut(&uplink.node) {
            node.uplink = Some(Arc::clone(uplink));
            (node.ready, node.draining, node.since) = (false, false, Instant::now());
        }
        self.metrics.link_up.get_or_create(&labels([("node", &uplink.node)])).set(1);
    }

    /// A node says how it is.
    pub(crate) fn node_state(&self, uplink: &Arc<Uplink>, state: NodeState) {
        if let Some(key) = state.sid_key {
            self.sid_key.store(Some(Arc::new(key)));
        }
        let changed = {
            let mut nodes = self.nodes.lock();
            let node = nodes.get_mut(&uplink.node);
            node.is_some_and(|node| {
                let changed = (node.ready, node.draining) != (state.ready, state.draining);
                if changed {
                    (node.ready, node.draining) = (state.ready, state.draining);
                    node.since = Instant::now();
                }
                changed
            })
        };
        self.learn_members(&state.members);
        if changed {
            tracing::info!(node = %uplink.node, ready = state.ready, draining = state.draining, "node");
            self.refresh_view();
        }
        self.keep_numbers();
    }

    /// A link is over: its sessions go to the next nodes, with what is not answered.
    pub(crate) fn link_down(&self, uplink: &Arc<Uplink>) {
        {
            let mut nodes = self.nodes.lock();
            let node = nodes.get_mut(&uplink.node);
            if let Some(node) = node.filter(|node| {
                node.uplink.as_ref().is_some_and(|current| Arc::ptr_eq(current, uplink))
            }) {
                node.uplink = None;
                (node.ready, node.draining, node.since) = (false, false, Instant::now());
            }
        }
        self.metrics.link_up.get_or_create(&labels([("node", &uplink.node)])).set(0);
        uplink.count_traffic(&self.metrics);
        *self.range_asked.lock() = None;
        self.refresh_view();
        let sessions = uplink.close();
        let (count, began) = (sessions.len(), Instant::now());
        let mut moved = 0;
        for session in sessions {
            let mut inner = session.lock();
            if inner.at.as_ref().is_some_and(|(at, _)| Arc::ptr_eq(at, uplink)) {
                inner.homeless.get_or_insert((began, Why::LostNode));
                inner.hold();
                moved += usize::from(self.place(&session, &mut inner));
            }
        }
        if count > 0 {
            let took = began.elapsed();
            tracing::info!(node = %uplink.node, sessions = count, moved, ?took, "sessions moved");
        }
    }

    /// Makes the ring of the nodes that are ready now.
    fn refresh_view(&self) {
        {
            let nodes = self.nodes.lock();
            let ready: BTreeMap<Arc<str>, Arc<Uplink>> = nodes
                .iter()
                .filter(|(_, node)| node.ready && !node.draining)
                .filter_map(|(name, node)| Some((Arc::clone(name), node.uplink.clone()?)))
                .collect();
            let ring = Ring::new(ready.keys().cloned());
            self.view.store(Arc::new(View { ring, uplinks: ready.into_values().collect() }));
        }
        self.unsettled.store(true, Ordering::Relaxed);
        self.keep_numbers();
        self.place_held();
    }

    pub(super) fn place_held(&self) {
        if self.view.load().ring.is_empty() {
            return;
        }
        for session in self.sessions() {
            let mut inner = session.lock();
            if inner.phase == Phase::Held {
                self.place(&session, &mut inner);
            }
        }
    }
}
