//! The status document: `docs/status-json.md`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use seam_cluster::ledger::State as Ledger;
use seam_cluster::pulse::LIFETIME_SECONDS;
use seam_cluster::ring::Ring;
use seam_cluster::{Cluster, ClusterView, MemberView};
use serde_json::{Map, Value, json};

use super::cluster::role;
use super::rounds::block;
use crate::history::INTERVAL_SECONDS;
use crate::metrics::ShareAnswer;
use crate::node::Node;

pub(super) async fn status(State(node): State<Arc<Node>>) -> Json<Value> {
    let view = node.view().unwrap_or_default();
    let not_ready = node.missing();
    let mut document = json!({
        "format": 1,
        "kind": "node",
        "name": node.config.name,
        "version": env!("CARGO_PKG_VERSION"),
        "time": node.clock.unix_millis() as f64 / 1_000.0,
        "started": node.started as f64 / 1_000.0,
        "chain": node.config.bitcoin.chain.to_string(),
        "ready": not_ready.is_empty(),
        "not_ready": not_ready,
        "draining": node.drain.is_draining(),
        "proxies": node.pool.get().map_or_else(Vec::new, |pool| pool.links.document()),
        "bitcoin": bitcoin(&node),
        "sessions": node.metrics.live_sessions(),
        "hashrate": node.hashrate(),
        "shares": shares(&node),
        "moves": null,
        "drains": node.drain.records(&node.config.name),
    });
    if let Value::Object(fields) = &mut document {
        fields.extend(membership(&node, &view));
        if let Some(cluster) = node.cluster.get() {
            fields.extend(ledger(cluster, &view));
        } else {
            fields.insert("ledger".into(), Value::Null);
            fields.insert("round".into(), Value::Null);
            fields.insert("blocks".into(), json!([]));
        }
    }
    Json(document)
}

pub(super) async fn history(State(node): State<Arc<Node>>) -> Json<Value> {
    Json(json!({"interval": INTERVAL_SECONDS, "samples": node.history.samples()}))
}

fn membership(node: &Node, view: &ClusterView) -> Map<String, Value> {
    let name = |id| view.member(id).map(|member| member.name.clone());
    let voters = view.members.iter().filter(|member| member.voter).count();
    let up = view.members.iter().filter(|member| member.voter && member.reachable).count();
    let margin = up as i64 - (voters / 2 + 1) as i64;
    let nodes = nodes(node, view);
    let fields = json!({
        "cluster_id": view.cluster_id,
        "leader": view.leader.and_then(name),
        "term": view.term,
        "quorum": view.quorum,
        "voters": voters,
        "voters_up": up,
        "margin": margin,
        "can_lose_one": view.can_lose_one,
        "because": because(view, voters, up),
        "nodes": nodes,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Every member: this one by what it is, the others by their last word.
fn nodes(node: &Node, view: &ClusterView) -> Vec<Value> {
    let now = node.clock.monotonic_millis();
    let heard = |member: &MemberView| match Some(member.id) == view.id {
        true => Some((node.pulse(), 0.0)),
        false => node.pulses.of(member.id, now),
    };
    let members: Vec<_> = view.members.iter().map(|member| (member, heard(member))).collect();
    let fresh = |age: f64| age <= LIFETIME_SECONDS;
    let on_ring = members
        .iter()
        .filter(|(_, heard)| heard.as_ref().is_some_and(|(pulse, age)| pulse.ready && fresh(*age)));
    let ring = Ring::new(on_ring.map(|(member, _)| Arc::from(member.name.as_str())));
    members
        .iter()
        .map(|(member, heard)| {
            let own = Some(member.id) == view.id;
            let now = heard.as_ref().filter(|(_, age)| fresh(*age)).map(|(pulse, _)| pulse);
            let last = heard.as_ref().map(|(pulse, _)| pulse);
            json!({
                "name": member.name,
                "role": role(view.leader == Some(member.id), member.voter),
                "up": own || member.reachable,
                "ready": now.map(|pulse| pulse.ready),
                "not_ready": now.map_or(&[][..], |pulse| &pulse.not_ready),
                "draining": now.map(|pulse| pulse.draining),
                "sessions": now.map(|pulse| pulse.sessions),
                "hashrate": now.map(|pulse| pulse.hashrate),
                "ring": ring.ratio(&member.name),
                "height": last.map(|pulse| pulse.height),
                "tip": last.map(|pulse| pulse.tip.as_deref()),
                "lag": member.lag.or((own && view.leader == view.id).then_some(0)),
                "age": heard.as_ref().map(|(_, age)| age),
            })
        })
        .collect()
}

fn because(view: &ClusterView, voters: usize, up: usize) -> String {
    let quorum = voters / 2 + 1;
    if let Some(failed) = &view.failed {
        return failed.clone();
    }
    if voters == 0 {
        return "this node belongs to no cluster yet".into();
    }
    let away: Vec<&str> = view
        .members
        .iter()
        .filter(|member| member.voter && !member.reachable)
        .map(|member| member.name.as_str())
        .collect();
    let behind: Vec<&str> = view
        .members
        .iter()
        .filter(|member| {
            member.voter && member.reachable && member.lag.is_some_and(|l| l > MAX_LAG)
        })
        .map(|member| member.name.as_str())
        .collect();
    let base = format!("{up} of {voters} voters are up; {quorum} are a quorum");
    if !view.quorum {
        format!("no leader with a quorum is known: {base}")
    } else if voters < 3 {
        format!("{base}: it takes three voters to lose one")
    } else if !away.is_empty() {
        format!("{base}; {} cannot be reached", away.join(", "))
    } else if !behind.is_empty() {
        format!("{base}; {} has to catch up", behind.join(", "))
    } else {
        base
    }
}

fn ledger(cluster: &Cluster, view: &ClusterView) -> Map<String, Value> {
    let (index, hash) = cluster.ledger_hash();
    let ledger = cluster.read(Ledger::clone);
    let current = ledger.rounds().current();
    let total = current.table.total();
    let newest = ledger.rounds().closed().take(MAX_BLOCKS);
    let blocks: Vec<Value> = newest.map(|round| block(round, ledger.users())).collect();
    let fields = json!({
        "ledger": {"index": index, "committed": view.committed, "hash": hex::encode(hash)},
        "round": {
            "shares": total.shares, "work": total.work.to_string(), "users": current.table.users(),
        },
        "blocks": blocks,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn bitcoin(node: &Node) -> Value {
    let Some(status) = node.chain.lock().clone() else { return Value::Null };
    json!({
        "height": status.tip.height,
        "headers": status.headers_height,
        "tip": status.tip.hash.to_string(),
        "tip_time": status.tip.time,
        "initial_download": status.initial_block_download,
        "progress": status.verification_progress.clamp(0.0, 1.0),
        "peers": status.peers_inbound + status.peers_outbound,
        "mempool": status.mempool_transactions,
    })
}

fn shares(node: &Node) -> Value {
    let mut accepted = 0;
    let mut rejected = Map::new();
    for answer in ShareAnswer::ALL {
        let count = node.metrics.shares_answered(answer);
        match answer.labels() {
            ("accepted", _) => accepted += count,
            (_, reason) if count > 0 => {
                rejected.insert(reason.to_owned(), count.into());
            }
            _ => {}
        }
    }
    json!({"accepted": accepted, "rejected": rejected})
}

/// Blocks in the document.
const MAX_BLOCKS: usize = 10;

/// Entries that a follower may lack at any moment under load.
const MAX_LAG: u64 = 1_000;
